import { unforeseen } from '../../base/unforeseen.js';
import { encodeLeaseValue } from '../keys.js';
import { type Lease, subnetName } from '../lease.js';

/** A lease of another host and the registry key it stands under. */
export interface KeyedLease extends Lease {
  readonly key: string;
}

/**
 * Which lease of other hosts is in force for each subnet.
 *
 * Keys and subnets are nearly the same thing, but `10.5.1.0-24` and `10.5.1.0-24&fd00::-64` can stand side by side: the one
 * written last counts, and when it goes the other one is in force again.
 */
export class Claims {
  readonly #byKey = new Map<string, KeyedLease>();
  /** For each subnet the leases that claim it, by key; the last one counts. Subnets in the order of their last change. */
  readonly #bySubnet = new Map<string, Map<string, KeyedLease>>();

  /** The leases in force, the one that changed last at the end. */
  get inForce(): KeyedLease[] {
    return [...this.#bySubnet.values()].map((claims) => lastOf(claims) as KeyedLease);
  }

  /** @returns whether another lease, or one with other attributes, is in force now */
  set(lease: KeyedLease): boolean {
    const former = this.#byKey.get(lease.key);
    const moved = former !== undefined && subnetName(former) !== subnetName(lease);
    const elsewhere = moved && this.delete(lease.key);
    this.#byKey.set(lease.key, lease);
    const subnet = subnetName(lease);
    const claims = this.#bySubnet.get(subnet) ?? new Map<string, KeyedLease>();
    const before = lastOf(claims);
    claims.delete(lease.key);
    claims.set(lease.key, lease);
    if (before !== undefined && sameAttributes(before, lease)) return elsewhere;
    this.#bySubnet.delete(subnet);
    this.#bySubnet.set(subnet, claims);
    return true;
  }

  /** @returns whether another lease, or none, is in force for its subnet now */
  delete(key: string): boolean {
    const lease = this.#byKey.get(key);
    if (lease === undefined) return false;
    this.#byKey.delete(key);
    const subnet = subnetName(lease);
    const claims = this.#bySubnet.get(subnet) as Map<string, KeyedLease>;
    const before = lastOf(claims) as KeyedLease;
    claims.delete(key);
    const after = lastOf(claims);
    if (after === undefined) this.#bySubnet.delete(subnet);
    return after === undefined || !sameAttributes(before, after);
  }

  /**
   * Takes over a full list.
   *
   * @param unreadable keys that exist but cannot be read: what was known of them stays
   * @returns whether anything is in force that was not, or the other way round
   */
  replaceAll(leases: readonly KeyedLease[], unreadable: readonly string[] = []): boolean {
    const keep = new Set([...leases.map((lease) => lease.key), ...unreadable]);
    let changed = false;
    for (const key of [...this.#byKey.keys()]) if (!keep.has(key)) changed = this.delete(key) || changed;
    for (const lease of leases) {
      changed = unforeseen.guard(`taking over the lease ${lease.key}`, () => this.set(lease)) || changed;
    }
    return changed;
  }
}

export function sameAttributes(a: Lease, b: Lease): boolean {
  return encodeLeaseValue(a.attributes) === encodeLeaseValue(b.attributes);
}

function lastOf(claims: ReadonlyMap<string, KeyedLease>): KeyedLease | undefined {
  return [...claims.values()].at(-1);
}
