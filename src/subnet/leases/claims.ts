import { formatAnyPrefix } from '../../base/address.js';
import { unforeseen } from '../../base/unforeseen.js';
import { encodeLeaseValue } from '../keys.js';
import type { Lease } from '../lease.js';

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
  readonly #byKey = new Map<string, Claim>();
  /** For each half the leases that claim it, by key; the last one counts. */
  readonly #byHalf = new Map<string, Map<string, KeyedLease>>();

  /** The leases in force, the one that changed last at the end. */
  get inForce(): KeyedLease[] {
    const leases: KeyedLease[] = [];
    for (const { lease, v4, v6 } of this.#byKey.values()) {
      const subnet = this.#counts(lease, v4) ? lease.subnet : null;
      const subnetV6 = this.#counts(lease, v6) ? lease.subnetV6 : null;
      if (subnet === lease.subnet && subnetV6 === lease.subnetV6) leases.push(lease);
      else if (subnet !== null || subnetV6 !== null) leases.push({ ...lease, subnet, subnetV6 });
    }
    return leases;
  }

  /** @returns whether another lease, or one with other attributes, is in force now */
  set(lease: KeyedLease): boolean {
    const claim = claimOf(lease);
    const former = this.#byKey.get(lease.key);
    const moved = former !== undefined && (former.v4 !== claim.v4 || former.v6 !== claim.v6);
    const elsewhere = moved && this.delete(lease.key);
    let changed = false;
    for (const half of [claim.v4, claim.v6]) {
      if (half === null) continue;
      const claims = this.#byHalf.get(half) ?? new Map<string, KeyedLease>();
      const before = lastOf(claims);
      changed ||= before === undefined || !sameAttributes(before, lease);
      claims.delete(lease.key);
      claims.set(lease.key, lease);
      this.#byHalf.set(half, claims);
    }
    if (changed) this.#byKey.delete(lease.key);
    this.#byKey.set(lease.key, claim);
    return changed || elsewhere;
  }

  /** @returns whether another lease, or none, is in force for one of its halves now */
  delete(key: string): boolean {
    const claim = this.#byKey.get(key);
    if (claim === undefined) return false;
    this.#byKey.delete(key);
    let changed = false;
    for (const half of [claim.v4, claim.v6]) {
      if (half === null) continue;
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

  #counts(lease: KeyedLease, half: string | null): boolean {
    const claims = half === null ? undefined : this.#byHalf.get(half);
    return claims !== undefined && (claims.size === 1 || lastOf(claims)?.key === lease.key);
  }
}

/** A lease with its halves as text, which takes too long to make each time that all of them are asked for. */
interface Claim {
  readonly lease: KeyedLease;
  readonly v4: string | null;
  readonly v6: string | null;
}

function claimOf(lease: KeyedLease): Claim {
  const { subnet, subnetV6 } = lease;
  return {
    lease,
    v4: subnet === null ? null : formatAnyPrefix(subnet),
    v6: subnetV6 === null ? null : formatAnyPrefix(subnetV6),
  };
}

export function sameAttributes(a: Lease, b: Lease): boolean {
  return encodeLeaseValue(a.attributes) === encodeLeaseValue(b.attributes);
}

function lastOf(claims: ReadonlyMap<string, KeyedLease>): KeyedLease | undefined {
  let last: KeyedLease | undefined;
  for (const lease of claims.values()) last = lease;
  return last;
}
