import type { AnyPrefix, Family } from '../base/address.js';
import { formatIpv6, formatIpv6Prefix } from '../base/ipv6.js';
import type { Logger } from '../base/log.js';
import type { Inheritance } from '../linux/inheritance.js';
import type { Underlay } from '../routes/underlay.js';
import {
  type Lease,
  type LeaseAttributes,
  type PeerSet,
  publicName,
  type Subnets,
  subnetName,
} from '../subnet/lease.js';
import type { NetworkConfig } from '../subnet/network-config/config.js';

export type { Underlay };

/** What a backend is given when it is made. */
export interface BackendContext {
  readonly log: Logger;
  readonly underlay: Underlay;
  /** What peers send to; differs from the underlay's address behind a NAT. Host order; 0 for none. */
  readonly publicIp: number;
  /** The same by IPv6; null for none. */
  readonly publicIpv6: bigint | null;
  readonly config: NetworkConfig;
  /** Networks that the overlay had in an earlier life of this host: what is left of them is ours to remove. */
  readonly formerNetworks?: readonly AnyPrefix[];
  /** Descriptors of a former process or backend: what fits is taken, in place of making another. */
  readonly inherited?: Inheritance;
}

/** Counters of one peer, both directions seen from this host; null where the kernel forwards and does not count by peer. */
export interface PeerStatus {
  /** What the peer is called: its IPv4 subnet, and only where it has none, the other one. */
  readonly subnet: string;
  /** Null when packets of that family are not sent to it. */
  readonly subnetV6: string | null;
  /** Its IPv4 address, and only where it has none, the other one. */
  readonly publicIp: string;
  readonly publicIpv6: string | null;
  readonly txPackets: number | null;
  readonly txBytes: number | null;
  readonly rxPackets: number | null;
  readonly rxBytes: number | null;
  /** Milliseconds since the epoch of the last packet from it; null when none came. */
  readonly lastReceived: number | null;
  /** Where its datagrams go now, as `address:port`; only where a peer may roam. */
  readonly endpoint?: string | null;
  /** Milliseconds since the epoch of the last handshake, null when there was none; only where packets are encrypted. */
  readonly lastHandshake?: number | null;
}

/** One thing that can be wanted, refused and in force: an offload, a buffer size. */
export interface FeatureStatus {
  readonly name: string;
  readonly wanted: string;
  readonly inForce: string;
  /** Why the two differ, in words; empty when they do not. */
  readonly reason: string;
}

/** A lease, or one half of it, that packets are not sent to, and why, in words. */
export interface RefusedPeer {
  /** The subnet that is refused, of either family; where both are, it is called as a peer is. */
  readonly subnet: string;
  readonly publicIp: string;
  readonly reason: string;
}

/** What `tweed status` and the metrics show of a backend. */
export interface BackendStatus {
  readonly type: string;
  readonly device: string;
  readonly mtu: number;
  readonly peers: readonly PeerStatus[];
  /** Peers that it was given and cannot send to. */
  readonly refused: readonly RefusedPeer[];
  readonly features: readonly FeatureStatus[];
  /** Running totals by stable snake_case name, such as `tx_packets`. */
  readonly totals: Readonly<Record<string, number>>;
  /** Dropped packets by stable snake_case reason, such as `no_route`. Reasons that never occurred are listed as 0. */
  readonly drops: Readonly<Record<string, number>>;
}

/** How to stop forwarding. */
export interface StopOptions {
  /** Remove also what the backend would leave behind for a restart without interruption. */
  readonly cleanUp: boolean;
  /** Gets the descriptors, instead of their being closed. */
  readonly heir?: Inheritance;
  /** This process ends, and another may follow: what goes on by itself as long as a service manager's store holds it may stay. */
  readonly pinned?: boolean;
  /** Of another process that goes on: takes in what it can use, by the names that `vessels` told. */
  readonly vessels?: Inheritance;
}

/**
 * How packets get from one host to another: everything that differs between `udp`, `vxlan`, `host-gw` and `wireguard`.
 *
 * Life: `attributes` → (a lease is acquired) → `start` → any number of `setPeers`, `status` → `stop`. All calls are made by
 * the control thread, never two at once (`status` excepted, which is synchronous).
 *
 * Every call says what should be, never what changed: a backend compares that with what is there and mends the
 * difference, whether it came from a peer, from another program, or from an earlier life of this host.
 */
export interface Backend {
  readonly type: string;
  /** What this host announces in its lease. */
  attributes(): Promise<LeaseAttributes>;
  /**
   * Brings device, address, MTU and routes up and forwards for the leased subnet. The peers are in place before the first
   * packet is taken. Undoes itself when it throws.
   */
  start(lease: Lease, peers: PeerSet): Promise<void>;
  /** The MTU that containers should use, for subnet.env. Valid after `start`. */
  readonly mtu: number;
  /**
   * The families of the network that this host does not carry, each with the reason, and what to do about it. Containers are
   * not given addresses of IPv6 where it is among them. Valid after `start`.
   */
  readonly notCarried: ReadonlyMap<Family, string>;
  /**
   * These are the peers, all of them; everything else of the backend is to be as after `start`. Called for every change and
   * every few seconds, so it also puts back what another program took away. A peer that cannot be had is reported by
   * `status`, disturbs no other one, and is tried again with the next call.
   *
   * @param peers those that `choosePeers` has let through
   * @returns one line of text for each thing besides peers that had to be mended
   */
  setPeers(peers: PeerSet): Promise<readonly string[]>;
  status(): BackendStatus;
  /**
   * For how many seconds a part of it that forwards has not moved though it has work; 0 when all is well. Only backends
   * that forward themselves have it. Seconds in which this process did not run do not count.
   */
  stuckFor?(): number;
  /** What forwarding depends on and another process can go on with, by names of the backend's own. */
  descriptors?(): ReadonlyMap<string, number>;
  /**
   * By what the kernel forwards without a process, as long as a service manager's store holds it. Other than `descriptors` they come
   * and go; one of the same name is the same one.
   */
  holds?(): ReadonlyMap<string, number>;
  /** What it can leave another process when it has stopped, by names of the backend's own. */
  vessels?(): readonly string[];
  stop(options: StopOptions): Promise<void>;
  /** Settles when forwarding failed for good, with the reason; never settles otherwise. */
  readonly failed: Promise<Error>;
}

/** What a peer is called in status and metrics. */
export function peerNames(
  lease: Subnets & { readonly attributes: Pick<LeaseAttributes, 'publicIp' | 'publicIpv6'> },
): Pick<PeerStatus, 'subnet' | 'subnetV6' | 'publicIp' | 'publicIpv6'> {
  const { subnetV6, attributes } = lease;
  return {
    subnet: subnetName(lease),
    subnetV6: subnetV6 === null ? null : formatIpv6Prefix(subnetV6),
    publicIp: publicName(attributes),
    publicIpv6: attributes.publicIpv6 === null ? null : formatIpv6(attributes.publicIpv6),
  };
}
