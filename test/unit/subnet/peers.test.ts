import fc from 'fast-check';
import { expect, it } from 'vitest';
import { formatIpv4, formatPrefix } from '../../../src/base/ipv4.js';
import type { PeerChange } from '../../../src/subnet/lease.js';
import { type KeyedLease, PeerTable } from '../../../src/subnet/leases/claims.js';
import { host, subnet } from '../../support/registry-suite.js';

function lease(index: number, address: number, key = `10.5.${index}.0-24`): KeyedLease {
  return { key, subnet: subnet(`10.5.${index}.0/24`), attributes: host(`192.0.2.${address}`), expiresAt: null };
}

const view = (leases: readonly KeyedLease[]) =>
  new Map(leases.map((entry) => [formatPrefix(entry.subnet), formatIpv4(entry.attributes.publicIp)]));

/** Applies announced changes as a backend would, insisting that each makes sense. */
function apply(state: Map<string, string>, changes: readonly PeerChange[]): Map<string, string> {
  const result = new Map(state);
  for (const change of changes) {
    const prefix = formatPrefix(change.lease.subnet);
    const address = formatIpv4(change.lease.attributes.publicIp);
    expect(result.has(prefix)).toBe(change.kind !== 'added');
    if (change.kind === 'changed') {
      expect(result.get(prefix)).toBe(formatIpv4(change.previous.attributes.publicIp));
      expect(address).not.toBe(result.get(prefix));
    }
    if (change.kind === 'removed') result.delete(prefix);
    else result.set(prefix, address);
  }
  return result;
}

const lists = fc.uniqueArray(
  fc.record({ index: fc.integer({ min: 0, max: 9 }), address: fc.integer({ min: 1, max: 3 }) }),
  { selector: ({ index }) => index, maxLength: 10 },
);

it('the changes turn one list into the other, whatever happened in between', () => {
  fc.assert(
    fc.property(fc.array(lists, { maxLength: 6 }), (steps) => {
      const table = new PeerTable();
      let known = new Map<string, string>();
      for (const step of steps) {
        const leases = step.map(({ index, address }) => lease(index, address));
        table.replaceAll(leases);
        known = apply(known, table.takeChanges());
        expect(known).toEqual(view(leases));
        expect(view(table.current)).toEqual(known);
        expect(table.takeChanges()).toEqual([]);
      }
    }),
  );
});

it('single events add up to the same as a list, and what comes and goes between two looks is not announced', () => {
  const event = fc.record({
    index: fc.integer({ min: 0, max: 4 }),
    address: fc.option(fc.integer({ min: 1, max: 3 })),
    look: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 40 }), (events) => {
      const table = new PeerTable();
      const expected = new Map<number, number>();
      let known = new Map<string, string>();
      for (const { index, address, look } of events) {
        if (address === null) {
          table.delete(`10.5.${index}.0-24`);
          expected.delete(index);
        } else {
          table.set(lease(index, address));
          expected.set(index, address);
        }
        if (look) known = apply(known, table.takeChanges());
      }
      known = apply(known, table.takeChanges());
      expect(known).toEqual(view([...expected].map(([index, address]) => lease(index, address))));
    }),
  );
});

it('announces removals before additions', () => {
  const table = new PeerTable();
  table.replaceAll([lease(1, 1), lease(2, 2)]);
  table.takeChanges();
  table.replaceAll([lease(3, 1), lease(2, 2)]);
  expect(table.takeChanges().map((change) => change.kind)).toEqual(['removed', 'added']);
});

it('notices any changed attribute, and no renewal', () => {
  const table = new PeerTable();
  table.set(lease(1, 1));
  table.takeChanges();
  table.set({ ...lease(1, 1), expiresAt: 5 });
  expect(table.takeChanges()).toEqual([]);
  table.set({ ...lease(1, 1), attributes: { ...host('192.0.2.1'), backendData: { VtepMAC: 'b' } } });
  expect(table.takeChanges().map((change) => change.kind)).toEqual(['changed']);
});

it('of two keys for one subnet the later counts, and the earlier again when that goes', () => {
  const table = new PeerTable();
  table.set(lease(1, 1));
  table.set(lease(1, 2, '10.5.1.0-24&fd00::-64'));
  expect(view(table.current).get('10.5.1.0/24')).toBe('192.0.2.2');
  table.takeChanges();
  table.delete('10.5.1.0-24&fd00::-64');
  expect(table.takeChanges().map(({ kind }) => kind)).toEqual(['changed']);
  expect(view(table.current).get('10.5.1.0/24')).toBe('192.0.2.1');
  table.delete('10.5.1.0-24');
  expect(table.takeChanges().map(({ kind }) => kind)).toEqual(['removed']);
});

it('keeps what it knew under keys that exist but cannot be read', () => {
  const table = new PeerTable();
  table.replaceAll([lease(1, 1), lease(2, 2)]);
  table.takeChanges();
  table.replaceAll([lease(2, 2)], ['10.5.1.0-24', '10.5.9.0-24']);
  expect(table.takeChanges()).toEqual([]);
});
