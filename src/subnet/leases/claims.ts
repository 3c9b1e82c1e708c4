import { formatAnyPrefix } from '../../base/address.js';
import { unforeseen } from '../../base/unforeseen.js';
import { encodeLeaseValue } from '../keys.js';
import { halvesOf, type Lease } from '../lease.js';

/** A lease of another host and the registry key it stands under. */
export interface KeyedLease extends Lease {
  readonly key: string;
}

/**
 * Which lease of other hosts is in force for each half of a subnet.
 *
 * Keys and subnets are nearly the same thing, but `10.5.1.0-24` and `10.5.1.0-24&fd00::-64` can stand side by side, and so
 * can two leases with one IPv6 half: for each half the lease written last counts, and when it goes, the other one is in
 * force again. A lease of which only one half counts is in force without the other.
 */
export class Claims {
  /** In the order of their last change. */
  readonly #byKey = new Map<string, KeyedLease>();
  /** For each half the leases that claim it, by key; the last one counts. */
  readonly #byHalf = new Map<string, Map<string, KeyedLease>>();

  /** The leases in force, the one that changed last at the end. */
  get inForce(): KeyedLease[] {
    return [...this.#byKey.values()].flatMap((lease) => {
      const subnet = lease.subnet !== null && this.#counts(lease, lease.subnet) ? lease.subnet : null;
      const subnetV6 = lease.subnetV6 !== null && this.#counts(lease, lease.subnetV6) ? lease.subnetV6 : null;
      if (subnet === lease.subnet && subnetV6 === lease.subnetV6) return [lease];
      return subnet === null && subnetV6 === null ? [] : [{ ...lease, subnet, subnetV6 }];
    });
  }

  /** @returns whether another lease, or one with other attributes, is in force now */
  set(lease: KeyedLease): boolean {
    const former = this.#byKey.get(lease.key);
    const moved = former !== undefined && textOf(former) !== textOf(lease);
    const elsewhere = moved && this.delete(lease.key);
    let changed = false;
    for (const half of halvesOf(lease).map(formatAnyPrefix)) {
      const claims = this.#byHalf.get(half) ?? new Map<string, KeyedLease>();
      const before = lastOf(claims);
      changed ||= before === undefined || !sameAttributes(before, lease);
      claims.delete(lease.key);
      claims.set(lease.key, lease);
      this.#byHalf.set(half, claims);
    }
    if (changed) this.#byKey.delete(lease.key);
    this.#byKey.set(lease.key, lease);
    return changed || elsewhere;
  }

  /** @returns whether another lease, or none, is in force for one of its halves now */
  delete(key: string): boolean {
    const lease = this.#byKey.get(key);
    if (lease === undefined) return false;
    this.#byKey.delete(key);
    let changed = false;
    for (const half of halvesOf(lease).map(formatAnyPrefix)) {
      const claims = this.#byHalf.get(half) as Map<string, KeyedLease>;
      const before = lastOf(claims) as KeyedLease;
      claims.delete(key);
      const after = lastOf(claims);
      if (after === undefined) this.#byHalf.delete(half);
      changed ||= after === undefined || !sameAttributes(before, after);
    }
    return changed;
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

  #counts(lease: KeyedLease, half: Parameters<typeof formatAnyPrefix>[0]): boolean {
    return lastOf(this.#byHalf.get(formatAnyPrefix(half)))?.key === lease.key;
  }
}

export function sameAttributes(a: Lease, b: Lease): boolean {
  return encodeLeaseValue(a.attributes) === encodeLeaseValue(b.attributes);
}

function textOf(lease: Lease): string {
  return halvesOf(lease).map(formatAnyPrefix).join();
}

function lastOf(claims: ReadonlyMap<string, KeyedLease> = new Map()): KeyedLease | undefined {
  let last: KeyedLease | undefined;
  for (const lease of claims.values()) last = lease;
  return last;
}
