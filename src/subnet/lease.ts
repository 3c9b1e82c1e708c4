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

/** Other hosts' leases at one moment. The own lease is never among them. */
export interface PeerSet {
  /** For each subnet one; where several claim it, the newest. The newest last. */
  readonly leases: readonly Lease[];
  /**
   * False while they are remembered from an earlier run and the registry has not answered yet: there may be others, so
   * nothing may be taken for left over, and no packet be refused for want of a peer.
   */
  readonly complete: boolean;
}
