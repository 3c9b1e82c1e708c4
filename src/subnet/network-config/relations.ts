import { contains, formatPrefix, overlaps, type Prefix, samePrefix } from '../../base/ipv4.js';
import type { StoredLease } from '../registry.js';

type KeyedIpv4Lease = StoredLease & { readonly subnet: Prefix };

/** So many others are named; how many more there are would take as long to find out as to read. */
const NAMED = 3;

/** The leases of one subnet, and some of those of subnets inside it or around it. */
interface Group {
  readonly subnet: Prefix;
  readonly leases: KeyedIpv4Lease[];
  readonly others: KeyedIpv4Lease[];
}

/**
 * Which leases overlap, and which are of one host, in words. Prefixes overlap only where one lies inside the other, so in
 * the order of their addresses those around each of them are a stack, at most one of each length.
 */
export class Relations {
  readonly #bySubnet = new Map<string, Group>();
  readonly #byHost = new Map<number, KeyedIpv4Lease[]>();

  /** @param sorted by address, the shorter prefix first */
  constructor(sorted: readonly KeyedIpv4Lease[]) {
    const around: Group[] = [];
    for (const lease of sorted) {
      const { subnet } = lease;
      const { publicIp } = lease.attributes;
      const ofHost = this.#byHost.get(publicIp);
      if (ofHost === undefined) this.#byHost.set(publicIp, [lease]);
      else ofHost.push(lease);
      while (around.length > 0 && !contains((around.at(-1) as Group).subnet, subnet.address)) around.pop();
      const last = around.at(-1);
      if (last === undefined || !samePrefix(last.subnet, subnet)) {
        const group: Group = { subnet, leases: [], others: around.flatMap(({ leases }) => leases.slice(0, NAMED + 1)) };
        this.#bySubnet.set(formatPrefix(subnet), group);
        around.push(group);
      }
      around.at(-1)?.leases.push(lease);
      for (const outer of around.slice(0, -1)) if (outer.others.length <= NAMED) outer.others.push(lease);
    }
  }

  of(lease: KeyedIpv4Lease): string[] {
    const { leases = [], others = [] } = this.#bySubnet.get(formatPrefix(lease.subnet)) ?? {};
    const some = leases.slice(0, NAMED + 2).filter((other) => other !== lease);
    const ofHost = (this.#byHost.get(lease.attributes.publicIp) ?? []).slice(0, 2 * NAMED + 2);
    const elsewhere = ofHost.filter((other) => !overlaps(other.subnet, lease.subnet));
    return [...named('overlaps', [...some, ...others]), ...named('same host as', elsewhere)];
  }
}

function named(relation: string, leases: readonly KeyedIpv4Lease[]): string[] {
  const remarks = leases.slice(0, NAMED).map(({ key }) => `${relation} ${key}`);
  return leases.length > NAMED ? [...remarks, `${relation} others too`] : remarks;
}
