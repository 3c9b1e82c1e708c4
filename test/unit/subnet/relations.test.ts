import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatPrefix, netmask, overlaps, type Prefix } from '../../../src/base/ipv4.js';
import { Relations } from '../../../src/subnet/network-config/relations.js';
import type { StoredLease } from '../../../src/subnet/registry.js';

type Ipv4Lease = StoredLease & { readonly subnet: Prefix };

function lease(address: number, length: number, publicIp: number, number: number): Ipv4Lease {
  const subnet = { address: (address & netmask(length)) >>> 0, length };
  const attributes = { publicIp, publicIpv6: null };
  return {
    key: `${formatPrefix(subnet)}#${number}`,
    subnet,
    subnetV6: null,
    attributes,
    reservation: false,
    version: '',
    expiresAt: null,
  };
}

const byAddress = (a: Ipv4Lease, b: Ipv4Lease) =>
  a.subnet.address - b.subnet.address || a.subnet.length - b.subnet.length;

describe('leases that have to do with each other', () => {
  it('are found as by comparing each with every other one; of many, three are named', () => {
    const leases = fc
      .array(
        fc.tuple(fc.integer({ min: 0, max: 63 }), fc.integer({ min: 26, max: 30 }), fc.integer({ min: 1, max: 4 })),
        {
          maxLength: 20,
        },
      )
      .map((all) => all.map(([slot, length, ip], at) => lease(0x0a050000 + slot * 4, length, ip, at)).sort(byAddress));
    fc.assert(
      fc.property(leases, (all) => {
        const relations = new Relations(all);
        for (const one of all) {
          const found = relations.of(one);
          const overlapping = all.filter((other) => other !== one && overlaps(other.subnet, one.subnet));
          const told = found.filter((remark) => remark.startsWith('overlaps '));
          expect(told).toHaveLength(Math.min(4, overlapping.length));
          const keys = overlapping.map(({ key }) => `overlaps ${key}`);
          for (const remark of told.slice(0, 3)) expect(keys).toContain(remark);
          const ofHost = all.filter(
            (other) =>
              other !== one && other.attributes.publicIp === one.attributes.publicIp && !overlapping.includes(other),
          );
          for (const remark of found.filter((each) => each.startsWith('same host as ')).slice(0, 3)) {
            expect(ofHost.map(({ key }) => `same host as ${key}`)).toContain(remark);
          }
        }
      }),
    );
  });

  it('of one host, and of one subnet, are thousands without taking minutes', () => {
    const ofOneHost = Array.from({ length: 20_000 }, (_, at) => lease(0x0a000000 + at * 256, 24, 7, at));
    const ofOneSubnet = Array.from({ length: 20_000 }, (_, at) => lease(0x0b000000, 24, 7, at));
    const all = [...ofOneHost, ...ofOneSubnet];
    const relations = new Relations(all);
    let remarks = 0;
    for (const one of all) remarks += relations.of(one).length;
    expect(remarks).toBeLessThan(all.length * 8);
    expect(relations.of(ofOneHost[10_000] as Ipv4Lease)).toEqual([
      'same host as 10.0.0.0/24#0',
      'same host as 10.0.1.0/24#1',
      'same host as 10.0.2.0/24#2',
      'same host as others too',
    ]);
  });
});
