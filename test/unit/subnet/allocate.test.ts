import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { prefixesOverlap } from '../../../src/base/address.js';
import { formatPrefix, netmask, overlaps, type Prefix } from '../../../src/base/ipv4.js';
import { type Ipv6Prefix, netmaskV6 } from '../../../src/base/ipv6.js';
import { OutOfSubnetsError } from '../../../src/subnet/errors.js';
import { CANDIDATES, freeSubnets, pickSubnet } from '../../../src/subnet/leases/allocate.js';
import {
  fitsRange,
  type Ipv4Network,
  type Ipv6Network,
  parseNetworkConfig,
} from '../../../src/subnet/network-config/config.js';
import { subnet } from '../../support/registry-suite.js';

const range = (json: string) => parseNetworkConfig(json).ipv4 as Ipv4Network;
const wide = range('{"Network":"10.5.0.0/16"}');
const narrow = range('{"Network":"10.5.0.0/22","SubnetLen":28,"SubnetMin":"10.5.0.64","SubnetMax":"10.5.2.0"}');

/** Prefixes of any length in and around the network. */
const taken = fc.array(
  fc
    .record({ offset: fc.integer({ min: -512, max: 2048 }), length: fc.integer({ min: 22, max: 32 }) })
    .map(({ offset, length }): Prefix => ({ address: ((0x0a050000 + offset) & netmask(length)) >>> 0, length })),
  { maxLength: 12 },
);

/** The same by looking at every subnet and every lease. */
function slowFree(used: readonly Prefix[]): string[] {
  const free: string[] = [];
  for (let address = narrow.subnetMin; address <= narrow.subnetMax; address += 16) {
    const candidate = { address, length: 28 };
    if (!used.some((other) => overlaps(candidate, other))) free.push(formatPrefix(candidate));
  }
  return free;
}

describe('free subnets', () => {
  it('are those that a look at every pair finds', () => {
    fc.assert(
      fc.property(taken, fc.integer({ min: 1, max: 60 }), (used, limit) => {
        expect(freeSubnets(narrow, used, limit).map(formatPrefix)).toEqual(slowFree(used).slice(0, limit));
      }),
    );
  });

  it('are the first hundred, from the configured first one on', () => {
    const free = freeSubnets(wide, [subnet('10.5.1.0/24'), subnet('10.5.3.128/25')]);
    expect(free).toHaveLength(CANDIDATES);
    expect(free.slice(0, 3).map(formatPrefix)).toEqual(['10.5.2.0/24', '10.5.4.0/24', '10.5.5.0/24']);
  });

  it('are found at the top of the address space too', () => {
    const config = range('{"Network":"255.255.255.240/28"}');
    expect(freeSubnets(config, [subnet('255.255.255.248/30')]).map(formatPrefix)).toEqual([
      '255.255.255.244/30',
      '255.255.255.252/30',
    ]);
  });
});

describe('picking', () => {
  it('gives a subnet that fits and overlaps nothing, or says that there is none', () => {
    const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    fc.assert(
      fc.property(taken, chance, (used, random) => {
        if (slowFree(used).length === 0) {
          expect(() => pickSubnet(narrow, used, () => random)).toThrow(OutOfSubnetsError);
          return;
        }
        const picked = pickSubnet(narrow, used, () => random);
        expect(fitsRange(picked, narrow)).toBe(true);
        expect(used.some((other) => overlaps(picked, other))).toBe(false);
      }),
    );
  });

  it('gives each of the candidates the same share of the random numbers', () => {
    const counts = new Map<string, number>();
    const draws = CANDIDATES * 50;
    for (let i = 0; i < draws; i++) {
      const picked = formatPrefix(pickSubnet(wide, [], () => (i + 0.5) / draws));
      counts.set(picked, (counts.get(picked) ?? 0) + 1);
    }
    expect(counts.size).toBe(CANDIDATES);
    expect(new Set(counts.values())).toEqual(new Set([50]));
  });

  it('explains what can be done when all are taken', () => {
    expect(() => pickSubnet(wide, [subnet('10.5.0.0/16')], () => 0)).toThrow(
      /10\.5\.1\.0-10\.5\.255\.0 .*delete leases of hosts that are gone/,
    );
  });
});

describe('IPv6 subnets', () => {
  const six = parseNetworkConfig(
    '{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:5::/56","IPv6SubnetLen":60,"IPv6SubnetMin":"fd00:5:0:20::","IPv6SubnetMax":"fd00:5:0:80::"}',
  ).ipv6 as Ipv6Network;
  const takenV6 = fc.array(
    fc.record({ offset: fc.integer({ min: -64, max: 320 }), length: fc.integer({ min: 55, max: 66 }) }).map(
      ({ offset, length }): Ipv6Prefix => ({
        address: ((0xfd000005n << 96n) + (BigInt(offset) << 64n)) & netmaskV6(length),
        length,
      }),
    ),
    { maxLength: 10 },
  );

  it('that are free are those that a look at every pair finds, whatever of IPv4 is taken', () => {
    fc.assert(
      fc.property(takenV6, fc.integer({ min: 1, max: 10 }), (used, limit) => {
        const slow: Ipv6Prefix[] = [];
        for (let address = six.subnetMin; address <= six.subnetMax; address += 1n << 68n) {
          const candidate = { address, length: 60 };
          if (!used.some((other) => prefixesOverlap(candidate, other))) slow.push(candidate);
        }
        expect(freeSubnets(six, [...used, subnet('0.0.0.0/1')], limit)).toEqual(slow.slice(0, limit));
      }),
    );
  });

  it('end at the top of the address space', () => {
    // No configuration has it any more, for these are multicast addresses.
    const [end, network] = [1n << 128n, { address: (1n << 128n) - 16n, length: 124 }];
    const top: Ipv6Network = { network, subnetLength: 126, subnetMin: end - 12n, subnetMax: end - 4n };
    expect(freeSubnets(top, [])).toHaveLength(3);
    const wide = parseNetworkConfig('{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/8"}')
      .ipv6 as Ipv6Network;
    expect(freeSubnets(wide, [])).toHaveLength(CANDIDATES);
  });
});
