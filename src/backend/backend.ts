import type { Prefix } from '../base/ipv4.js';
import type { Logger } from '../base/log.js';
import type { Underlay } from '../routes/underlay.js';
import type { Lease, LeaseAttributes, PeerChange } from '../subnet/lease.js';
import type { NetworkConfig } from '../subnet/network-config/config.js';

export type { Underlay };

/** What a backend is given when it is made. */
export interface BackendContext {
  readonly log: Logger;
  readonly underlay: Underlay;
  /** What peers send to; differs from the underlay's address behind a NAT. Host order. */
  readonly publicIp: number;
  readonly config: NetworkConfig;
  /** Networks that the overlay had in an earlier life of this host: what is left of them is ours to remove. */
  readonly formerNetworks?: readonly Prefix[];
}

/** Counters of one peer, both directions seen from this host; null where the kernel forwards and does not count by peer. */
export interface PeerStatus {
  readonly subnet: string;
  readonly publicIp: string;
  readonly txPackets: number | null;
  readonly txBytes: number | null;
  readonly rxPackets: number | null;
  readonly rxBytes: number | null;
  /** Milliseconds since the epoch of the last packet from it; null when none came. */
  readonly lastReceived: number | null;
}

/** One thing that can be wanted, refused and in force: an offload, a buffer size. */
export interface FeatureStatus {
  readonly name: string;
  readonly wanted: string;
  readonly inForce: string;
  /** Why the two differ, in words; empty when they do not. */
  readonly reason: string;
}

/** What `tweed status` and the metrics show of a backend. */
export interface BackendStatus {
  readonly type: string;
  readonly device: string;
  readonly mtu: number;
  readonly peers: readonly PeerStatus[];
  readonly features: readonly FeatureStatus[];
  /** Running totals by stable snake_case name, such as `tx_packets`. */
  readonly totals: Readonly<Record<string, number>>;
  /** Dropped packets by stable snake_case reason, such as `no_route`. Reasons that never occurred are listed as 0. */
  readonly drops: Readonly<Record<string, number>>;
}

/**
 * How packets get from one host to another: everything that differs between `udp`, `vxlan` and `host-gw`.
 *
 * Life: `attributes` → (a lease is acquired) → `start` → any number of `applyPeers`, `reconcile`, `status` → `stop`.
 * All calls are made by the control thread, never two at once (`status` excepted, which is synchronous).
 */
export interface Backend {
  readonly type: string;
  /** What this host announces in its lease. */
  attributes(): Promise<LeaseAttributes>;
  /** Brings device, address, MTU and routes up and starts forwarding for the leased subnet. Undoes itself when it throws. */
  start(lease: Lease): Promise<void>;
  /** The MTU that containers should use, for subnet.env. Valid after `start`. */
  readonly mtu: number;
  /**
   * Peers that came, changed or went. The first call brings all there are, even when there are none: from then on, what
   * belongs to no peer is a leftover. A peer that cannot be applied is logged and does not disturb the others.
   */
  applyPeers(changes: readonly PeerChange[]): Promise<void>;
  /** Puts back what another program took away; returns one line of text for each repair. */
  reconcile(): Promise<readonly string[]>;
  status(): BackendStatus;
  /** Stops forwarding. `cleanUp` also removes what the backend would leave behind for a restart without interruption. */
  stop(options: { readonly cleanUp: boolean }): Promise<void>;
  /** Settles when forwarding failed for good, with the reason; never settles otherwise. */
  readonly failed: Promise<Error>;
}
