import { formatPrefix } from '../../base/ipv4.js';
import { encodeLeaseValue } from '../keys.js';
import type { Lease, PeerChange } from '../lease.js';

/** A lease of another host and the registry key it stands under. */
export interface KeyedLease extends Lease {
  readonly key: string;
}

/**
 * The peers as the registry has them, and as they were last announced; `takeChanges` gives the difference.
 *
 * Keys and subnets are nearly the same thing, but `10.5.1.0-24` and `10.5.1.0-24&fd00::-64` can stand side by side: the one
 * written last counts, and when it goes the other one is in force again.
 */
export class PeerTable {
  readonly #byKey = new Map<string, KeyedLease>();
  /** For each subnet the leases that claim it, by key; the last one counts. */
  readonly #bySubnet = new Map<string, Map<string, KeyedLease>>();
  readonly #announced = new Map<string, Lease>();
  readonly #touched = new Set<string>();

  /** The peers in force, in no particular order. */
  get current(): KeyedLease[] {
    return [...this.#bySubnet.values()].map((claims) => lastOf(claims) as KeyedLease);
  }

  set(lease: KeyedLease): void {
    this.delete(lease.key);
    this.#byKey.set(lease.key, lease);
    const subnet = formatPrefix(lease.subnet);
    const claims = this.#bySubnet.get(subnet) ?? new Map<string, KeyedLease>();
    claims.set(lease.key, lease);
    this.#bySubnet.set(subnet, claims);
    this.#touched.add(subnet);
  }

  delete(key: string): void {
    const lease = this.#byKey.get(key);
    if (lease === undefined) return;
    this.#byKey.delete(key);
    const subnet = formatPrefix(lease.subnet);
    const claims = this.#bySubnet.get(subnet);
    claims?.delete(key);
    if (claims?.size === 0) this.#bySubnet.delete(subnet);
    this.#touched.add(subnet);
  }

  /**
   * Takes over a full list.
   * @param unreadable Keys that exist but cannot be read: what was known of them stays.
   */
  replaceAll(leases: readonly KeyedLease[], unreadable: readonly string[] = []): void {
    const keep = new Set([...leases.map((lease) => lease.key), ...unreadable]);
    for (const key of [...this.#byKey.keys()]) if (!keep.has(key)) this.delete(key);
    for (const lease of leases) this.set(lease);
  }

  /** What became different since the last call, removals first. Renewed leases with the same attributes are no change. */
  takeChanges(): PeerChange[] {
    const removed: PeerChange[] = [];
    const others: PeerChange[] = [];
    for (const subnet of this.#touched) {
      const claims = this.#bySubnet.get(subnet);
      const lease = claims === undefined ? undefined : lastOf(claims);
      const previous = this.#announced.get(subnet);
      if (lease === undefined) {
        this.#announced.delete(subnet);
        if (previous !== undefined) removed.push({ kind: 'removed', lease: previous });
      } else {
        this.#announced.set(subnet, lease);
        if (previous === undefined) others.push({ kind: 'added', lease });
        else if (!sameAttributes(previous, lease)) others.push({ kind: 'changed', lease, previous });
      }
    }
    this.#touched.clear();
    return [...removed, ...others];
  }
}

export function sameAttributes(a: Lease, b: Lease): boolean {
  return encodeLeaseValue(a.attributes) === encodeLeaseValue(b.attributes);
}

function lastOf(claims: ReadonlyMap<string, KeyedLease>): KeyedLease | undefined {
  return [...claims.values()].at(-1);
}
