import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { containsIpv6, type Ipv6Prefix, netmaskV6, parseIpv6 } from '../../../src/base/ipv6.js';
import { ANYWHERE_V6, NO_VALUE, PrefixTable, rootOctet } from '../../../src/encap/forwarding/prefix-table.js';
import { prefixV6 as prefix } from './support/workbench.js';

const NODES = 900;
const NO_READERS = { beat: () => 0 };

function tableFor(network: Ipv6Prefix, nodes = NODES): PrefixTable {
  return new PrefixTable(new Int32Array(nodes * 256), 0, nodes, network, NO_READERS);
}

function address(text: string): bigint {
  return parseIpv6(text) as bigint;
}

/** The slow reference: look at every prefix. */
function linear(entries: Map<string, [Ipv6Prefix, number]>, wanted: bigint): number {
  let best: [Ipv6Prefix, number] | null = null;
  for (const entry of entries.values()) {
    if (containsIpv6(entry[0], wanted) && (best === null || entry[0].length > best[0].length)) best = entry;
  }
  return best === null ? NO_VALUE : best[1];
}

/** The slow reference for memory: the root, and a node for every octet that more than one prefix may differ behind. */
function nodesFor(prefixes: Iterable<Ipv6Prefix>, root: number): number {
  const nodes = new Set(['']);
  for (const { address: at, length } of prefixes) {
    for (let bits = 8 * (root + 1); bits < length; bits += 8) nodes.add(`${at & netmaskV6(bits)}/${bits}`);
  }
  return nodes.size;
}

describe('PrefixTable of IPv6', () => {
  it('finds a subnet of the usual length', () => {
    const table = tableFor(prefix('fd00:5::/48'));
    table.set(prefix('fd00:5:0:2a::/64'), 7);
    expect(table.lookup(address('fd00:5:0:2a::'))).toBe(7);
    expect(table.lookup(address('fd00:5:0:2a:ffff:ffff:ffff:ffff'))).toBe(7);
    expect(table.lookup(address('fd00:5:0:2b::'))).toBe(NO_VALUE);
    expect(table.lookup(address('fd00:6:0:2a::1'))).toBe(NO_VALUE);
    expect(table.lookup(0x0a050202)).toBe(NO_VALUE);
  });

  it('takes the longest and the shortest prefix there is', () => {
    const table = tableFor(ANYWHERE_V6);
    expect(table.set(ANYWHERE_V6, 1)).toBe(true);
    expect(table.set(prefix('fd00::1/128'), 2)).toBe(true);
    expect(table.lookup(address('fd00::1'))).toBe(2);
    expect(table.lookup(address('fd00::2'))).toBe(1);
    table.delete(prefix('fd00::1/128'));
    expect(table.lookup(address('fd00::1'))).toBe(1);
  });

  for (const network of [
    '::/0',
    'fd00::/8',
    'fd00:5::/48',
    'fd00:5::/52',
    'fd00:5::/56',
    'fd00::/112',
    'fd00::a0/124',
  ]) {
    it(`agrees with a linear search, and takes what fits, inside ${network}`, () => {
      const inside = prefix(network);
      const free = 1n << BigInt(128 - inside.length);
      // a few dense octets, at the front and at the back, so that prefixes really cover each other
      const dense = fc.oneof(
        fc.bigInt({ min: 0n, max: free - 1n }),
        fc.nat(700).map((n) => BigInt(n) % free),
        fc.nat(700).map((n) => (BigInt(n) * (free >> 10n)) % free),
      );
      const step = fc.record({
        at: dense,
        length: fc.integer({ min: inside.length, max: 128 }),
        value: fc.nat(1000),
        remove: fc.boolean(),
      });
      fc.assert(
        fc.property(
          fc.array(step, { maxLength: 50 }),
          fc.array(dense, { minLength: 20, maxLength: 20 }),
          fc.constantFrom(1, 4, 40, NODES),
          (steps, probes, nodes) => {
            const table = tableFor(inside, nodes);
            const entries = new Map<string, [Ipv6Prefix, number]>();
            for (const { at, length, value, remove } of steps) {
              const wanted = { address: (inside.address + at) & netmaskV6(length), length };
              const key = `${wanted.address}/${length}`;
              if (remove) {
                table.delete(wanted);
                entries.delete(key);
              } else {
                const all = [wanted, ...[...entries.values()].map(([one]) => one)];
                const fits = nodesFor(all, rootOctet(inside)) <= nodes;
                expect(table.set(wanted, value)).toBe(fits);
                if (fits) entries.set(key, [wanted, value]);
              }
            }
            for (const probe of [...probes, ...steps.map((s) => s.at)]) {
              const wanted = inside.address + probe;
              expect(table.lookup(wanted)).toBe(linear(entries, wanted));
            }
          },
        ),
        { numRuns: 100 },
      );
    });
  }
});
