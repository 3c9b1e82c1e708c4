import { type AnyPrefix, prefixesOverlap } from '../base/address.js';
import { formatIpv4, formatPrefix, type Prefix } from '../base/ipv4.js';
import { formatIpv6, formatIpv6Prefix, type Ipv6Prefix } from '../base/ipv6.js';

/** What a host says of itself in its lease. */
export interface LeaseAttributes {
  /** Where datagrams for the subnet go, in host order. 0 for a host without IPv4. */
  readonly publicIp: number;
  /** The same by IPv6; null for a host without. */
  readonly publicIpv6: bigint | null;
  /** `udp` leases carry none, as flannel's do not. */
  readonly backendType?: string;
  /** Kept as it was parsed, so that a renewal writes back what was read. */
  readonly backendData?: unknown;
  readonly backendV6Data?: unknown;
}

/** The subnet that one host holds, in two halves: one of each family, of which at least one is there. */
export interface Subnets {
  readonly subnet: Prefix | null;
  readonly subnetV6: Ipv6Prefix | null;
}

/** What one host holds. */
export interface Lease extends Subnets {
  readonly attributes: LeaseAttributes;
  /** Milliseconds since the epoch; null for a reservation, which does not expire, and where nobody asked. */
  readonly expiresAt: number | null;
}

/** Other hosts' leases at one moment. The own lease is never among them. */
export interface PeerSet {
  /** Each half of a subnet in one of them; where several claim it, in the newest. The newest last. */
  readonly leases: readonly Lease[];
  /**
   * False while they are remembered from an earlier run and the registry has not answered yet: there may be others, so
   * nothing may be taken for left over, and no packet be refused for want of a peer.
   */
  readonly complete: boolean;
}

/** What a host's subnet is called: by its IPv4 half, and only where there is none, by the other one. */
export function subnetName({ subnet, subnetV6 }: Subnets): string {
  if (subnet !== null) return formatPrefix(subnet);
  return subnetV6 === null ? '' : formatIpv6Prefix(subnetV6);
}

/** What a host is called by its addresses: the IPv4 one, and only where there is none, the other one. */
export function publicName({ publicIp, publicIpv6 }: HostAddresses): string {
  return publicIp === 0 && publicIpv6 !== null ? formatIpv6(publicIpv6) : formatIpv4(publicIp);
}

export function hasIpv4<Held extends Subnets>(lease: Held): lease is Held & { readonly subnet: Prefix } {
  return lease.subnet !== null;
}

/** The halves that are there. */
export function halvesOf({ subnet, subnetV6 }: Subnets): AnyPrefix[] {
  return [subnet, subnetV6].filter((half) => half !== null);
}

/** Both of a host's addresses, for the log. */
export function publicNames(addresses: HostAddresses): string {
  const { publicIp, publicIpv6 } = addresses;
  return publicIp === 0 || publicIpv6 === null
    ? publicName(addresses)
    : `${publicName(addresses)}, ${formatIpv6(publicIpv6)}`;
}

/** What a host is reached by. */
export type HostAddresses = Pick<LeaseAttributes, 'publicIp' | 'publicIpv6'>;

/** Are the two one host's? Where both have an IPv4 address, that decides, as with flannel; else the other one does. */
export function sameHost(a: HostAddresses, b: HostAddresses): boolean {
  if (a.publicIp !== 0 && b.publicIp !== 0) return a.publicIp === b.publicIp;
  return a.publicIpv6 !== null && a.publicIpv6 === b.publicIpv6;
}

/** Do the two share an address of either family? */
export function subnetsOverlap(a: Subnets, b: Subnets): boolean {
  return halvesOf(a).some((one) => halvesOf(b).some((other) => prefixesOverlap(one, other)));
}
