import type { Prefix } from '../base/ipv4.js';

/** What a host says of itself in its lease. Addresses are numbers in host order. */
export interface LeaseAttributes {
  /** Where datagrams for the subnet go. 0 for a host without IPv4. */
  readonly publicIp: number;
  readonly publicIpv6: string | null;
  /** `udp` leases carry none, as flannel's do not. */
  readonly backendType?: string;
  /** Kept as it was parsed, so that a renewal writes back what was read. */
  readonly backendData?: unknown;
  readonly backendV6Data?: unknown;
}

/** A subnet that one host holds. */
export interface Lease {
  readonly subnet: Prefix;
  readonly attributes: LeaseAttributes;
  /** Milliseconds since the epoch; null for a reservation, which does not expire, and where nobody asked. */
  readonly expiresAt: number | null;
}

/** One difference between the peers known before and now. The own lease is never among them. */
export type PeerChange =
  | { readonly kind: 'added'; readonly lease: Lease }
  | { readonly kind: 'changed'; readonly lease: Lease; readonly previous: Lease }
  | { readonly kind: 'removed'; readonly lease: Lease };
