/**
 * The WireGuard devices of this host, by the mode of the network, as flannel has them: in the mode `separate` one for each
 * family, which carries packets of its family by addresses of its family; in the other modes one for both.
 */
import type { Address, Family } from '../../base/address.js';
import { contains, type Prefix, parsePrefix } from '../../base/ipv4.js';
import { formatIpv6Prefix, type Ipv6Prefix } from '../../base/ipv6.js';
import type { OverlayNetworks } from '../../encap/forwarding/layout.js';
import type { HostAddresses, Subnets } from '../../subnet/lease.js';
import type { BackendContext } from '../backend.js';
import { halvesFor, NoHalfError } from '../kernel/halves.js';
import { obstacleToIpv6 } from '../kernel/ipv6-obstacle.js';
import { WIREGUARD_DEVICE, WIREGUARD_DEVICE_V6, type WireguardMode, type WireguardOptions } from './options.js';

/** One device, as far as it is the same on this host for as long as the backend lives. */
export interface DevicePlan {
  readonly name: string;
  readonly mode: WireguardMode;
  /** UDP port that it listens at. */
  readonly port: number;
  /** What it carries. */
  readonly networks: OverlayNetworks;
  /** This host's addresses on the underlay that its datagrams may come from; null for a family that they do not travel by. */
  readonly local: { readonly ipv4: number | null; readonly ipv6: bigint | null };
  /** What peers send to. */
  readonly publicIpv6: bigint | null;
}

/** All devices of this host. */
export interface DevicePlans {
  readonly plans: readonly DevicePlan[];
  /** The families of the network that none of them carries, each with the reason. */
  readonly notCarried: ReadonlyMap<Family, string>;
}

/**
 * What keeps one of two families from being carried is logged, and takes nothing from the other.
 *
 * @param mtu of the devices
 * @throws NoHalfError when nothing can be carried
 */
export function planDevices(
  context: BackendContext,
  options: Pick<WireguardOptions, 'mode' | 'port' | 'portV6'>,
  mtu: number,
): DevicePlans {
  return options.mode === 'separate' ? separateDevices(context, options, mtu) : oneDevice(context, options, mtu);
}

function separateDevices(
  context: BackendContext,
  { mode, port, portV6 }: Pick<WireguardOptions, 'mode' | 'port' | 'portV6'>,
  mtu: number,
): DevicePlans {
  const nameOf = (family: 4 | 6) => (family === 4 ? WIREGUARD_DEVICE : WIREGUARD_DEVICE_V6);
  const { halves, notCarried } = halvesFor(context, (family) => ({ device: nameOf(family), mtu }));
  const plans = halves.map(({ family, network, local }) => ({
    name: nameOf(family),
    mode,
    port: family === 4 ? port : portV6,
    networks: family === 4 ? { ipv4: network as Prefix, ipv6: null } : { ipv4: null, ipv6: network as Ipv6Prefix },
    local: family === 4 ? { ipv4: local as number, ipv6: null } : { ipv4: null, ipv6: local as bigint },
    publicIpv6: context.publicIpv6,
  }));
  return { plans, notCarried };
}

function oneDevice(
  context: BackendContext,
  { mode, port }: Pick<WireguardOptions, 'mode' | 'port'>,
  mtu: number,
): DevicePlans {
  const { config, underlay, publicIp, publicIpv6, log } = context;
  const local = {
    ipv4: mode === 'ipv6' || underlay.address === 0 || publicIp === 0 ? null : underlay.address,
    // as flannel, which looks for IPv6 addresses only where the network has that family
    ipv6: mode === 'ipv4' || config.ipv6 === null || publicIpv6 === null ? null : (underlay.ipv6?.address ?? null),
  };
  if (local.ipv4 === null && local.ipv6 === null) {
    const family = mode === 'auto' ? '' : ` ${mode === 'ipv4' ? 'IPv4' : 'IPv6'}`;
    const enabled = mode === 'ipv6' && config.ipv6 === null ? 'set EnableIPv6' : 'give it one';
    throw new NoHalfError([`Backend.Mode is "${mode}" and ${underlay.name} has no${family} address; ${enabled}`]);
  }
  const ipv4 = config.ipv4?.network ?? null;
  let ipv6 = config.ipv6?.network ?? null;
  const obstacle = obstacleToIpv6(mtu);
  const notCarried = new Map<Family, string>();
  if (ipv6 !== null && obstacle !== '') {
    const text = `${formatIpv6Prefix(ipv6)} is not carried, since ${obstacle}`;
    if (ipv4 === null) throw new NoHalfError([text]);
    log.warn(text);
    notCarried.set(6, text);
    ipv6 = null;
  }
  const plan = { name: WIREGUARD_DEVICE, mode, port, networks: { ipv4, ipv6 }, local, publicIpv6 };
  return { plans: [plan], notCarried };
}

/** What of a lease a device carries. */
export function carriedOf({ networks }: Pick<DevicePlan, 'networks'>, { subnet, subnetV6 }: Subnets): Subnets {
  return { subnet: networks.ipv4 && subnet, subnetV6: networks.ipv6 && subnetV6 };
}

/**
 * Where datagrams for a peer go first; as any WireGuard they follow it when it speaks from elsewhere. In the mode `auto` it
 * is flannel's choice: IPv4 where the peer's address is public, else IPv6 where both are, else IPv4.
 *
 * @returns null when there is no way
 */
export function wayTo(
  { local, publicIpv6: own }: Pick<DevicePlan, 'local' | 'publicIpv6'>,
  { publicIp, publicIpv6 }: HostAddresses,
): Address | null {
  const byIpv4 = local.ipv4 === null || publicIp === 0 ? null : publicIp;
  const byIpv6 = local.ipv6 === null ? null : publicIpv6;
  if (byIpv4 === null || byIpv6 === null) return byIpv4 ?? byIpv6;
  const bothPublic = own !== null && !isPrivateV6(own) && !isPrivateV6(byIpv6);
  return isPrivate(byIpv4) && bothPublic ? byIpv6 : byIpv4;
}

/** RFC 1918. */
const PRIVATE = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16'].map((text) => parsePrefix(text) as Prefix);

function isPrivate(address: number): boolean {
  return PRIVATE.some((network) => contains(network, address));
}

/** RFC 4193: fc00::/7. */
function isPrivateV6(address: bigint): boolean {
  return address >> 121n === 0x7en;
}
