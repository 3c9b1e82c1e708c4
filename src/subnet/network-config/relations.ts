import { type AnyPrefix, comparePrefixes, formatAnyPrefix, prefixContains, sameAnyPrefix } from '../../base/address.js';
import { halvesOf, publicName, subnetsOverlap } from '../lease.js';
import type { StoredLease } from '../registry.js';

/** So many others are named; how many more there are would take as long to find out as to read. */
const NAMED = 3;

/** The leases of one prefix, and some of those of prefixes inside it or around it. */
interface Group {
  readonly prefix: AnyPrefix;
  readonly leases: StoredLease[];
  readonly others: StoredLease[];
}

/**
 * Which leases overlap, and which are of one host, in words. Prefixes overlap only where one lies inside the other, so in
 * the order of their addresses those around each of them are a stack, at most one of each length.
 */
export class Relations {
  readonly #byPrefix = new Map<string, Group>();
  readonly #byHost = new Map<string, StoredLease[]>();

  constructor(leases: readonly StoredLease[]) {
    for (const lease of leases) {
      const host = publicName(lease.attributes);
      const ofHost = this.#byHost.get(host);
      if (ofHost === undefined) this.#byHost.set(host, [lease]);
      else ofHost.push(lease);
    }
    const around: Group[] = [];
    const halves = leases.flatMap((lease) => halvesOf(lease).map((prefix) => ({ prefix, lease })));
    for (const { prefix, lease } of halves.sort((a, b) => comparePrefixes(a.prefix, b.prefix))) {
      while (around.length > 0 && !prefixContains((around.at(-1) as Group).prefix, prefix.address)) around.pop();
      const last = around.at(-1);
      if (last === undefined || !sameAnyPrefix(last.prefix, prefix)) {
        const group: Group = { prefix, leases: [], others: around.flatMap(({ leases }) => leases.slice(0, NAMED + 1)) };
        this.#byPrefix.set(formatAnyPrefix(prefix), group);
        around.push(group);
      }
      around.at(-1)?.leases.push(lease);
      for (const outer of around.slice(0, -1)) if (outer.others.length <= NAMED) outer.others.push(lease);
    }
  }

  of(lease: StoredLease): string[] {
    const overlapping = new Set<StoredLease>();
    for (const prefix of halvesOf(lease)) {
      const { leases = [], others = [] } = this.#byPrefix.get(formatAnyPrefix(prefix)) ?? {};
      for (const other of [...leases.slice(0, NAMED + 2), ...others]) if (other !== lease) overlapping.add(other);
    }
    const ofHost = (this.#byHost.get(publicName(lease.attributes)) ?? []).slice(0, 2 * NAMED + 2);
    const elsewhere = ofHost.filter((other) => other !== lease && !subnetsOverlap(other, lease));
    return [...named('overlaps', [...overlapping]), ...named('same host as', elsewhere)];
  }
}

function named(relation: string, leases: readonly StoredLease[]): string[] {
  const remarks = leases.slice(0, NAMED).map(({ key }) => `${relation} ${key}`);
  return leases.length > NAMED ? [...remarks, `${relation} others too`] : remarks;
}
