import fc from 'fast-check';
import { expect, it } from 'vitest';
import { formatIpv4 } from '../../../src/base/ipv4.js';
import { formatSubnetKey } from '../../../src/subnet/keys.js';
import { type Subnets, subnetName } from '../../../src/subnet/lease.js';
import { Claims, type KeyedLease } from '../../../src/subnet/leases/claims.js';
import { host, subnet, subnets } from '../../support/registry-suite.js';

function lease(index: number, address: number, key = `10.5.${index}.0-24`): KeyedLease {
  return {
    key,
    subnet: subnet(`10.5.${index}.0/24`),
    subnetV6: null,
    attributes: host(`192.0.2.${address}`),
    expiresAt: null,
  };
}

const view = (leases: readonly KeyedLease[]) =>
  new Map(leases.map((entry) => [subnetName(entry), formatIpv4(entry.attributes.publicIp)]));

/** The keys of a subnet's claims: the IPv4 half decides, so that two keys claim the same subnet. */
const keys = (index: number) => [`10.5.${index}.0-24`, `10.5.${index}.0-24&fd00::-64`] as const;

const step = fc.oneof(
  fc.record({
    kind: fc.constant('put' as const),
    index: fc.integer({ min: 0, max: 4 }),
    second: fc.boolean(),
    address: fc.integer({ min: 1, max: 3 }),
  }),
  fc.record({ kind: fc.constant('delete' as const), index: fc.integer({ min: 0, max: 4 }), second: fc.boolean() }),
  fc.record({
    kind: fc.constant('list' as const),
    leases: fc.uniqueArray(
      fc.record({ index: fc.integer({ min: 0, max: 4 }), address: fc.integer({ min: 1, max: 3 }) }),
      { selector: ({ index }) => index, maxLength: 5 },
    ),
  }),
);

it('whatever comes in whatever order, the newest claim of each subnet is in force, and a change is told from none', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const claims = new Claims();
      /** Keys in the order of their last writing. */
      let model = new Map<string, KeyedLease>();
      for (const one of steps) {
        const before = view(claims.inForce);
        let changed: boolean;
        if (one.kind === 'list') {
          const leases = one.leases.map(({ index, address }) => lease(index, address));
          changed = claims.replaceAll(leases);
          model = new Map([...model].filter(([key]) => leases.some((other) => other.key === key)));
          for (const entry of leases) {
            model.delete(entry.key);
            model.set(entry.key, entry);
          }
        } else {
          const key = keys(one.index)[one.second ? 1 : 0];
          model.delete(key);
          if (one.kind === 'put') {
            const entry = lease(one.index, one.address, key);
            model.set(key, entry);
            changed = claims.set(entry);
          } else changed = claims.delete(key);
        }
        const now = view(claims.inForce);
        expect(now).toEqual(view([...model.values()]));
        // a list may have taken a claim away and put the same back: then it is told of a change that is none
        if (one.kind !== 'list' || !changed)
          expect(changed).toBe(JSON.stringify([...before].sort()) !== JSON.stringify([...now].sort()));
      }
    }),
  );
});

it('notices any changed attribute, and no renewal', () => {
  const claims = new Claims();
  expect(claims.set(lease(1, 1))).toBe(true);
  expect(claims.set({ ...lease(1, 1), expiresAt: 5 })).toBe(false);
  const backendData = { VtepMAC: '0a:00:00:00:00:01' };
  expect(claims.set({ ...lease(1, 1), attributes: { ...host('192.0.2.1'), backendType: 'vxlan', backendData } })).toBe(
    true,
  );
});

it('has the one that changed last at the end', () => {
  const claims = new Claims();
  for (const index of [1, 2, 3]) claims.set(lease(index, index));
  claims.set(lease(2, 2));
  claims.set(lease(1, 9));
  expect([...view(claims.inForce).keys()]).toEqual(['10.5.2.0/24', '10.5.3.0/24', '10.5.1.0/24']);
});

it('of two keys for one subnet the later counts, and the earlier again when that goes', () => {
  const claims = new Claims();
  claims.set(lease(1, 1));
  claims.set(lease(1, 2, '10.5.1.0-24&fd00::-64'));
  expect([...view(claims.inForce)]).toEqual([['10.5.1.0/24', '192.0.2.2']]);
  expect(claims.delete('10.5.1.0-24&fd00::-64')).toBe(true);
  expect([...view(claims.inForce)]).toEqual([['10.5.1.0/24', '192.0.2.1']]);
});

it('keeps what it knew under keys that exist but cannot be read', () => {
  const claims = new Claims();
  claims.replaceAll([lease(1, 1), lease(2, 2)]);
  expect(claims.replaceAll([lease(2, 2)], ['10.5.1.0-24'])).toBe(false);
  expect(claims.inForce).toHaveLength(2);
});

it('each half counts in the lease written last, and the rest of the other one stays', () => {
  const claims = new Claims();
  const of = (number: number, halves: Subnets): KeyedLease => ({
    key: formatSubnetKey(halves),
    ...halves,
    attributes: host(`192.0.2.${number}`),
    expiresAt: null,
  });
  const inForce = () =>
    claims.inForce.map(({ attributes, ...halves }) => `${attributes.publicIp & 255}: ${formatSubnetKey(halves)}`);
  const first = of(1, subnets('10.5.1.0/24', 'fd00:0:0:1::/64'));
  const second = of(2, subnets('10.5.2.0/24', 'fd00:0:0:1::/64'));
  const third = of(3, subnets(null, 'fd00:0:0:1::/64'));
  expect(claims.set(first)).toBe(true);
  expect(claims.set(second)).toBe(true);
  expect(inForce()).toEqual(['1: 10.5.1.0-24', '2: 10.5.2.0-24&fd00:0:0:1::-64']);
  expect(claims.set(third)).toBe(true);
  expect(inForce()).toEqual(['1: 10.5.1.0-24', '2: 10.5.2.0-24', '3: fd00:0:0:1::-64']);
  expect(claims.delete(second.key)).toBe(true);
  expect(inForce()).toEqual(['1: 10.5.1.0-24', '3: fd00:0:0:1::-64']);
  expect(claims.delete(third.key)).toBe(true);
  expect(inForce()).toEqual(['1: 10.5.1.0-24&fd00:0:0:1::-64']);
  expect(claims.set(of(4, subnets('10.5.1.0/24')))).toBe(true);
  expect(inForce()).toEqual(['1: fd00:0:0:1::-64', '4: 10.5.1.0-24']);
});
