import { messageOf } from '../base/errors.js';
import { shown } from '../base/printable.js';
import { unforeseen } from '../base/unforeseen.js';
import { MalformedLeaseError } from './errors.js';
import { decodeLeaseValue, parseSubnetKey } from './keys.js';
import type { Lease, LeaseAttributes, Subnets } from './lease.js';

/** flannel's lease time: 24 hours. */
export const DEFAULT_TTL_SECONDS = 86_400;

/** A lease as it stands in the registry. */
export interface StoredLease extends Lease {
  /** The last part of its key, as stored: `10.5.34.0-24`. See `formatSubnetKey`. */
  readonly key: string;
  /** A key without a time to live, made by an operator for one host. */
  readonly reservation: boolean;
  /** Another one after every write; good for nothing but comparing. */
  readonly version: string;
}

/** A key under the leases that cannot be read. What is known of its subnet still counts as taken. */
export interface MalformedEntry extends Subnets {
  readonly key: string;
  readonly error: MalformedLeaseError;
}

/** Everything under the leases at one moment. */
export interface Snapshot {
  readonly leases: readonly StoredLease[];
  readonly malformed: readonly MalformedEntry[];
  /** Where a watch goes on from here without missing anything. */
  readonly revision: string;
}

export type WatchEvent =
  | { readonly kind: 'put'; readonly lease: StoredLease }
  | { readonly kind: 'malformed'; readonly entry: MalformedEntry }
  | { readonly kind: 'delete'; readonly key: string };

export interface WatchOptions<Event> {
  /** The revision of the snapshot (or stored config) whose successors are wanted. */
  readonly after: string;
  /** Called once the registry has confirmed the watch. */
  readonly onEstablished?: () => void;
  /** Events in order, several at once when they arrive together. Must not throw. */
  readonly onEvents: (events: readonly Event[]) => void;
  readonly signal: AbortSignal;
}

export interface StoredConfig {
  /** Null when there is none. */
  readonly json: string | null;
  /** For a comparing write. */
  readonly version: string;
  /** For a watch. */
  readonly revision: string;
}

/**
 * Where the network configuration and the leases of all hosts are kept.
 *
 * Every method may throw a RegistryError (unreachable, refused); what else it throws is listed with it. Nothing is retried
 * for longer than a few seconds: that is the caller's business.
 */
export interface Registry {
  /** For logs and status; holds no secret. */
  readonly description: string;

  getConfig(): Promise<StoredConfig>;

  /**
   * Writes the configuration.
   * @param expected Write only if the version is still this one; null writes in any case.
   * @throws ConfigChangedError
   */
  setConfig(json: string, expected: string | null): Promise<void>;

  /** Calls back with the new text (null once deleted) on every change until the signal; rejects as `watch` does. */
  watchConfig(options: WatchOptions<string | null>): Promise<void>;

  /**
   * All leases. A failure throws: it never looks like an empty list.
   * @param options.expirations Ask for every lease's remaining time too (one more request for each with etcd). Without
   * it, `expiresAt` may be null for any lease.
   */
  list(options?: { readonly expirations?: boolean }): Promise<Snapshot>;

  /**
   * Takes a subnet nobody has, in one transaction.
   * @throws LeaseExistsError
   */
  create(subnets: Subnets, attributes: LeaseAttributes, ttlSeconds: number): Promise<StoredLease>;

  /**
   * Writes our lease again with a full time to live, in one comparing write. A reservation stays without one, and is
   * written only if its attributes differ.
   *
   * @param lease as it was last written or read; its owner and that of the new attributes are both this host
   * @throws LeaseGoneError when the key is no longer there, ForeignOwnerError when the address of neither stands in it
   */
  renew(lease: StoredLease, attributes: LeaseAttributes, ttlSeconds: number): Promise<StoredLease>;

  /**
   * Deletes the lease unless another host has it by now. Deleting what is gone is no error.
   * @throws ForeignOwnerError
   */
  remove(lease: StoredLease): Promise<void>;

  /**
   * Follows the changes after a snapshot. Resolves when the signal is aborted.
   * @throws CompactedError when the changes since then are no longer kept; RegistryError when the connection is lost. In
   * both cases: list again.
   */
  watch(options: WatchOptions<WatchEvent>): Promise<void>;

  close(): Promise<void>;
}

/** What a key and its value mean. */
export type Interpretation =
  | (Subnets & { readonly kind: 'lease'; readonly attributes: LeaseAttributes })
  | { readonly kind: 'malformed'; readonly entry: MalformedEntry };

/** Reads one key and its value, turning every fault into an entry to be logged. */
export function interpret(key: string, value: string): Interpretation {
  let subnets: Subnets = { subnet: null, subnetV6: null };
  try {
    subnets = parseSubnetKey(key);
    return { kind: 'lease', ...subnets, attributes: decodeLeaseValue(key, value) };
  } catch (error) {
    if (error instanceof MalformedLeaseError) return { kind: 'malformed', entry: { key, ...subnets, error } };
    unforeseen.note(`reading the lease ${shown(key)}`, error); // it costs this key, not the list that it stands in
    const unreadable = new MalformedLeaseError(key, `it cannot be read (${messageOf(error)})`);
    return { kind: 'malformed', entry: { key, ...subnets, error: unreadable } };
  }
}
