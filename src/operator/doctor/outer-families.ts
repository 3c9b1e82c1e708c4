import type { WireguardMode } from '../../backend/wireguard/options.js';
import type { Family } from '../../base/address.js';
import { parseIpv4 } from '../../base/ipv4.js';
import type { Ipv6Prefix } from '../../base/ipv6.js';
import type { Underlay } from '../../routes/underlay.js';
import type { PeerAddresses } from './host-facts.js';

export interface OuterQuestion {
  /** Of the backend. */
  readonly type: string;
  /** Null for any other backend than `wireguard`. */
  readonly mode: WireguardMode | null;
  readonly underlay: Underlay | null;
  /** Null where the network has no IPv6. */
  readonly networkV6: Ipv6Prefix | null;
  readonly peers: readonly PeerAddresses[];
}

/**
 * By which families datagrams come and go. With a device for each family each goes by itself; where either is carried by either,
 * it is IPv4 if both hosts have it.
 */
export function outerFamilies({ type, mode, underlay, networkV6, peers }: OuterQuestion): readonly Family[] {
  if (networkV6 === null || underlay === null || underlay.ipv6 === null || mode === 'ipv4') return [4];
  if (mode === 'ipv6' || underlay.address === 0) return [6];
  const eachByItself = type === 'vxlan' || mode === 'separate';
  const needsIpv6 = peers.some(({ publicIp }) => parseIpv4(publicIp) === null);
  return eachByItself || (type !== 'host-gw' && needsIpv6) ? [4, 6] : [4];
}
