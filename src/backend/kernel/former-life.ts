/**
 * What another backend type, an earlier configuration or flanneld left on this host, and what would lead packets astray
 * now. `flannel0` goes with its process; VXLAN devices and routes through gateways stay.
 */

import { contains, type Prefix } from '../../base/ipv4.js';
import type { LinkJson, RouteJson } from '../../routes/ip.js';
import { installedRoute, linkState } from '../../routes/links.js';
import { applyChanges, type Change } from './changes.js';
import type { Kernel } from './kernel.js';
import { deletion, isOurs, looksLikeFlannels, type RouteOwnership, readNetworkRoutes } from './peer-routes.js';

/** A VXLAN device named as flannel names it. */
const VXLAN_NAME = /^flannel\.\d+$/;

/**
 * Removes the VXLAN devices that served the overlay, except the own one. A device counts only when it has an address in
 * the overlay's networks, or a route into them: another overlay on this host keeps its device.
 *
 * @returns one line of text for each that was removed
 */
export async function removeFormerDevices(ownership: RouteOwnership, { ip }: Kernel): Promise<readonly string[]> {
  const links = (await ip.json<LinkJson[]>('-details', 'address', 'show')).map(linkState);
  const removed: string[] = [];
  for (const { name, kind, addresses } of links) {
    if (kind !== 'vxlan' || !VXLAN_NAME.test(name) || name === ownership.ownDevice) continue;
    const inside = ({ address }: Prefix) => ownership.networks.some((network) => contains(network, address));
    const routes = await ip.json<RouteJson[]>('-4', '-details', 'route', 'show', 'table', 'main', 'dev', name);
    const destinations = routes.flatMap(installedRoute).map(({ destination }) => destination);
    if (![...addresses, ...destinations].some(inside)) continue;
    await ip.run('link', 'del', name);
    removed.push(`removed ${name}, which the vxlan backend had left behind`);
  }
  return removed;
}

/**
 * Removes every route to a peer that host-gw, or vxlan with DirectRouting, left behind: for a backend that makes no such
 * routes itself, since theirs would win over a route for the whole network.
 */
export async function removeFormerRoutes(ownership: RouteOwnership, kernel: Kernel): Promise<readonly string[]> {
  const present = await readNetworkRoutes(ownership.networks, kernel);
  const stale = present.filter((route) => isOurs(route, ownership) || looksLikeFlannels(route, ownership));
  const changes = stale.map((route): Change => {
    const command = deletion(route);
    return { subject: command, command, text: `removed a former route: ${command.replace('route del ', '')}` };
  });
  return (await applyChanges(changes, kernel.ip)).done;
}
