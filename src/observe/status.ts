import type { BackendStatus } from '../backend/backend.js';
import type { LogState } from '../base/log-output.js';

/** Where the daemon is in its life. */
export type DaemonPhase = 'starting' | 'waiting' | 'running' | 'stopping';

export interface RegistryStatus {
  readonly kind: 'etcd' | 'directory';
  /** Without passwords. */
  readonly endpoints: readonly string[];
  readonly connected: boolean;
  /** Why not; empty while connected. */
  readonly error: string;
}

export interface LeaseStatus {
  /** The IPv4 subnet, and only where there is none, the other one; so with the address. */
  readonly subnet: string;
  readonly subnetV6: string | null;
  readonly publicIp: string;
  readonly publicIpv6: string | null;
  /** ISO 8601; null for a reservation, which does not expire. */
  readonly expiresAt: string | null;
  readonly secondsLeft: number | null;
  /** Taken from the cache, not yet confirmed by the registry. */
  readonly fromCache: boolean;
}

/**
 * What `tweed status --json` prints. docs/operations.md describes every member.
 *
 * `schema` grows when a member changes its meaning or goes; new members may come without that.
 */
export interface DaemonStatus {
  readonly schema: 1;
  readonly version: string;
  readonly process: number;
  /** The number of its network namespace; 0 where it is not known. */
  readonly networkNamespace: number;
  /** ISO 8601. */
  readonly startedAt: string;
  readonly phase: DaemonPhase;
  /** What it waits for or does, in words. */
  readonly detail: string;
  readonly ready: boolean;
  readonly logLevel: string;
  /** The IPv4 network, and only where there is none, the other one. */
  readonly network: string | null;
  readonly networkV6: string | null;
  /** UDP port of the overlay's datagrams; null where there are none, or none is known yet. */
  readonly port: number | null;
  /** The port of IPv6's own device, beside `port`; null where one port is all there is. */
  readonly portV6: number | null;
  readonly lease: LeaseStatus | null;
  readonly underlay: {
    readonly interface: string;
    /** As `publicIp`. */
    readonly address: string;
    readonly addressV6: string | null;
    readonly mtu: number;
  } | null;
  readonly registry: RegistryStatus;
  readonly backend: BackendStatus | null;
  /** What is amiss though the daemon runs, in words, each with what to do about it. */
  readonly warnings: readonly string[];
  /** How often the reconcile loop put something back. */
  readonly repairs: number;
  /** Errors that nobody foresaw: each is a bug that cost one thing and was survived. The log has their stacks. */
  readonly unforeseenErrors: number;
  /** How the log on standard error fares. */
  readonly log: LogState;
}

/** Anything that can be asked for the daemon's status: the socket, the metrics, the dump to the log. */
export type StatusSource = () => DaemonStatus;
