import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { contains, netmask, type Prefix, parseIpv4, parsePrefix } from '../../../src/base/ipv4.js';
import {
  ANYWHERE,
  NO_VALUE,
  PrefixTable,
  prefixTableBytes,
  rootShift,
} from '../../../src/encap/forwarding/prefix-table.js';

const NODES = 600;

function tableFor(network: string, nodes = NODES): PrefixTable {
  return new PrefixTable(new Int32Array(nodes * 256), 0, nodes, parsePrefix(network) as Prefix, NO_READERS);
}

const NO_READERS = { beat: () => 0 };

/** The slow reference for memory: the root, and a node for every octet that more than one prefix may differ behind. */
function nodesFor(prefixes: Iterable<Prefix>, shift: number): number {
  const nodes = new Set(['']);
  for (const { address: at, length } of prefixes) {
    for (let bits = 32 - shift; bits < length; bits += 8) nodes.add(`${(at & netmask(bits)) >>> 0}/${bits}`);
  }
  return nodes.size;
}

function prefix(text: string): Prefix {
  return parsePrefix(text) as Prefix;
}

function address(text: string): number {
  return parseIpv4(text) as number;
}

/** The slow reference: look at every prefix. */
function linear(entries: Map<string, [Prefix, number]>, wanted: number): number {
  let best: [Prefix, number] | null = null;
  for (const entry of entries.values()) {
    if (contains(entry[0], wanted) && (best === null || entry[0].length > best[0].length)) best = entry;
  }
  return best === null ? NO_VALUE : best[1];
}

describe('PrefixTable', () => {
  it('finds a subnet of the usual length', () => {
    const table = tableFor('100.96.0.0/16');
    table.set(prefix('100.96.42.0/24'), 7);
    expect(table.lookup(address('100.96.42.0'))).toBe(7);
    expect(table.lookup(address('100.96.42.255'))).toBe(7);
    expect(table.lookup(address('100.96.43.0'))).toBe(NO_VALUE);
    expect(table.lookup(address('10.96.42.1'))).toBe(NO_VALUE);
  });

  it('prefers the longest prefix whatever the order of arrival, and falls back when it goes', () => {
    for (const order of [
      ['10.5.0.0/16', '10.5.72.0/24', '10.5.72.128/26'],
      ['10.5.72.128/26', '10.5.72.0/24', '10.5.0.0/16'],
    ]) {
      const table = tableFor('10.5.0.0/16');
      for (const text of order) table.set(prefix(text), prefix(text).length);
      expect(table.lookup(address('10.5.72.129'))).toBe(26);
      expect(table.lookup(address('10.5.72.1'))).toBe(24);
      expect(table.lookup(address('10.5.1.1'))).toBe(16);
      table.delete(prefix('10.5.72.128/26'));
      expect(table.lookup(address('10.5.72.129'))).toBe(24);
      table.delete(prefix('10.5.72.0/24'));
      expect(table.lookup(address('10.5.72.129'))).toBe(16);
      table.delete(prefix('10.5.0.0/16'));
      expect(table.lookup(address('10.5.72.129'))).toBe(NO_VALUE);
    }
  });

  it('changes a value in place', () => {
    const table = tableFor('10.0.0.0/8');
    table.set(prefix('10.1.2.0/24'), 1);
    table.set(prefix('10.1.2.0/24'), 2);
    expect(table.lookup(address('10.1.2.3'))).toBe(2);
  });

  it('refuses a prefix that it has no node for, and keeps the others', () => {
    const table = tableFor('0.0.0.0/0', 4);
    table.set(prefix('10.1.2.3/32'), 1);
    expect(table.set(prefix('10.1.3.3/32'), 2)).toBe(false);
    expect(table.lookup(address('10.1.2.3'))).toBe(1);
    expect(table.lookup(address('10.1.3.3'))).toBe(NO_VALUE);
    expect(table.set(prefix('10.1.2.4/32'), 3)).toBe(true);
    expect(table.lookup(address('10.1.2.4'))).toBe(3);
  });

  it('has room again for every prefix that went', () => {
    const table = tableFor('0.0.0.0/0', 4);
    for (let round = 0; round < 1000; round++) {
      const host = prefix(`10.${round % 250}.${round % 241}.3/32`);
      expect(table.set(host, round)).toBe(true);
      expect(table.set({ ...host, length: 24 }, 7)).toBe(true); // fits into the nodes on its way
      table.delete({ ...host, length: 24 });
      expect(table.lookup(host.address)).toBe(round);
      table.delete(host);
      expect(table.lookup(host.address)).toBe(NO_VALUE);
    }
  });

  it('keeps a node as long as anything ends in it, even if all its words are equal', () => {
    const table = tableFor('10.0.0.0/8', 3);
    for (let octet = 0; octet < 256; octet++) expect(table.set(prefix(`10.1.2.${octet}/32`), 5)).toBe(true);
    table.delete(prefix('10.1.2.77/32'));
    expect(table.lookup(address('10.1.2.77'))).toBe(NO_VALUE);
    expect(table.lookup(address('10.1.2.78'))).toBe(5);
  });

  it('takes 9,000 hosts spread over as many networks that come and go, again and again', () => {
    const nodes = 16_384;
    const words = new Int32Array(prefixTableBytes(nodes) / 4);
    const table = new PrefixTable(words, 0, nodes, ANYWHERE, NO_READERS);
    const hosts = (round: number) =>
      Array.from({ length: 9000 }, (_, i) => ({ address: (10 << 24) + (round * 9000 + i) * 256 + 9, length: 32 }));
    for (let round = 0; round < 7; round++) {
      if (round > 0) for (const host of hosts(round - 1)) table.delete(host);
      for (const host of hosts(round)) expect(table.set(host, 0)).toBe(true);
    }
    expect(hosts(6).every((host) => table.lookup(host.address) === 0)).toBe(true);
    expect(hosts(5).some((host) => table.lookup(host.address) === 0)).toBe(false);
  });

  for (const network of [
    '0.0.0.0/0',
    '10.0.0.0/8',
    '100.96.0.0/12',
    '100.96.0.0/16',
    '100.96.64.0/18',
    '100.96.7.0/24',
    '10.1.2.64/26',
  ]) {
    it(`agrees with a linear search, and takes what fits, inside ${network}`, () => {
      const inside = prefix(network);
      const offset = fc.integer({ min: 0, max: 2 ** (32 - inside.length) - 1 });
      // a few dense octets, so that prefixes really cover each other
      const dense = fc.oneof(
        offset,
        fc.nat(700).map((n) => n % 2 ** (32 - inside.length)),
      );
      const step = fc.record({
        at: dense,
        length: fc.integer({ min: inside.length, max: 32 }),
        value: fc.nat(1000),
        remove: fc.boolean(),
      });
      fc.assert(
        fc.property(
          fc.array(step, { maxLength: 60 }),
          fc.array(dense, { minLength: 20, maxLength: 20 }),
          fc.constantFrom(1, 4, 12, NODES),
          (steps, probes, nodes) => {
            const table = tableFor(network, nodes);
            const entries = new Map<string, [Prefix, number]>();
            for (const { at, length, value, remove } of steps) {
              const wanted = { address: ((inside.address + at) & netmask(length)) >>> 0, length };
              const key = `${wanted.address}/${length}`;
              if (remove) {
                table.delete(wanted);
                entries.delete(key);
              } else {
                const all = [wanted, ...[...entries.values()].map(([one]) => one)];
                const fits = nodesFor(all, rootShift(inside)) <= nodes;
                expect(table.set(wanted, value)).toBe(fits);
                if (fits) entries.set(key, [wanted, value]);
              }
            }
            for (const probe of [...probes, ...steps.map((s) => s.at)]) {
              const wanted = (inside.address + probe) >>> 0;
              expect(table.lookup(wanted)).toBe(linear(entries, wanted));
            }
          },
        ),
        { numRuns: 150 },
      );
    });
  }
});
