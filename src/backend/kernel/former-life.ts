/**
 * What another backend type, an earlier configuration or flanneld left on this host, and what would lead packets astray
 * now. `flannel0` goes with its process; VXLAN devices and routes through gateways stay.
 */

import { type AnyPrefix, type Family, familyOf, prefixContains } from '../../base/address.js';
import { TweedError } from '../../base/errors.js';
import { applyChanges, type Change } from '../../routes/changes.js';
import { type LinkState, readLinks } from '../../routes/links.js';
import {
  deletion,
  isOurs,
  looksLikeFlannels,
  type RouteOwnership,
  readNetworkRoutes,
} from '../../routes/route-table.js';
import type { BackendContext } from '../backend.js';
import type { Kernel } from './kernel.js';

/** What is ours in the overlay's network, and in former ones too: only until those are cleared, for they may be another's by then. */
export interface Ownership {
  readonly today: RouteOwnership;
  readonly former: RouteOwnership;
}

/**
 * What is ours of one family.
 *
 * @throws TweedError when the network has no such part
 */
export function ownershipOf(context: BackendContext, ownDevice: string | null, family: Family = 4): Ownership {
  const { config, underlay, formerNetworks = [] } = context;
  const half = family === 6 ? config.ipv6 : config.ipv4;
  if (half === null) throw new TweedError('NO_FAMILY', `the network has no IPv${family}; set EnableIPv${family}`);
  const { network, subnetLength } = half;
  const networks = [network];
  const today = { networks, ownDevice, underlay: underlay.name, subnetLength };
  const former = formerNetworks.filter(({ address }) => familyOf(address) === family);
  return { today, former: { ...today, networks: [...networks, ...former] } };
}

/** Named and made as flannel's vxlan does, and ours: whose overlay it serves, its addresses and routes tell. */
export function isFlannelVxlan({ name, kind }: Pick<LinkState, 'name' | 'kind'>): boolean {
  return kind === 'vxlan' && /^flannel(-v6)?\.\d+$/.test(name);
}

/** The kernel's WireGuard device, named as one of flannel's. */
function isFlannelWireguard({ name, kind }: Pick<LinkState, 'name' | 'kind'>): boolean {
  return kind === 'wireguard' && (name === 'flannel-wg' || name === 'flannel-wg-v6');
}

/**
 * Removes the VXLAN and WireGuard devices that served the overlay, except the own one. A device counts only when it has an
 * address in the overlay's networks, or a route into them: another overlay on this host keeps its device.
 *
 * @returns one line of text for each that was removed
 */
export async function removeFormerDevices(
  { networks, ownDevice }: RouteOwnership,
  { ip }: Pick<Kernel, 'ip'>,
): Promise<readonly string[]> {
  const others = (await readLinks(ip)).filter(
    (link) => (isFlannelVxlan(link) || isFlannelWireguard(link)) && link.name !== ownDevice,
  );
  if (others.length === 0) return [];
  const routes = await readNetworkRoutes(networks, ip);
  const inside = ({ address }: AnyPrefix) => networks.some((network) => prefixContains(network, address));
  const former = others.filter(
    ({ name, addresses }) =>
      addresses.some(inside) || routes.some(({ device, destination }) => device === name && inside(destination)),
  );
  for (const { name } of former) await ip.run('link', 'del', name);
  return former.map(({ name, kind }) => `removed ${name}, which the ${kind} backend had left behind`);
}

/**
 * Removes every route to a peer that host-gw, or vxlan with DirectRouting, left behind: for a backend that makes no such
 * routes itself, since theirs would win over a route for the whole network.
 */
export async function removeFormerRoutes(
  ownership: RouteOwnership,
  { ip }: Pick<Kernel, 'ip'>,
): Promise<readonly string[]> {
  const present = await readNetworkRoutes(ownership.networks, ip);
  const stale = present.filter((route) => isOurs(route, ownership) || looksLikeFlannels(route, ownership));
  const changes = stale.map((route): Change => {
    const command = deletion(route);
    return { subject: command, command, text: `removed a former route: ${command.replace('route del ', '')}` };
  });
  return (await applyChanges(changes, ip)).done;
}
