import { isIPv6 } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Address,
  type AnyPrefix,
  familyOf,
  formatAddress,
  formatAnyPrefix,
  formatEndpoint,
  hostPrefix,
  parseAddress,
  parseAnyPrefix,
  prefixContains,
  prefixCovers,
  prefixesOverlap,
  sameAnyPrefix,
} from '../../../src/base/address.js';
import { parseIpv6 } from '../../../src/base/ipv6.js';

const addresses: fc.Arbitrary<Address> = fc.oneof(
  fc.integer({ min: 0, max: 0xffffffff }),
  fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }),
);

describe('an address of either family', () => {
  it('is read as it was written', () => {
    fc.assert(fc.property(addresses, (address) => parseAddress(formatAddress(address)) === address));
  });

  it('lies in the prefix of its own bits, and in none of the other family', () => {
    fc.assert(
      fc.property(addresses, fc.nat(32), (address, length) => {
        const prefix = parseAnyPrefix(`${formatAddress(address)}/${length}`);
        if (prefix === null) throw new Error('not read');
        const other: Address = familyOf(address) === 4 ? BigInt(address) : 0;
        expect(parseAnyPrefix(formatAnyPrefix(prefix))).toEqual(prefix);
        expect(prefixContains(prefix, address)).toBe(true);
        expect(prefixContains(prefix, other)).toBe(false);
        expect(prefixCovers(prefix, hostPrefix(address))).toBe(true);
        expect(prefixesOverlap(hostPrefix(address), prefix)).toBe(true);
        expect(prefixesOverlap(prefix, hostPrefix(other))).toBe(false);
        expect(sameAnyPrefix(prefix, { ...prefix } as AnyPrefix)).toBe(true);
        expect(sameAnyPrefix(hostPrefix(address), hostPrefix(other))).toBe(false);
      }),
    );
  });

  it('of IPv6 is one where Node says so, and the one that a URL has', () => {
    const part = fc.constantFrom(
      '::',
      ':',
      '0',
      '1',
      'ff',
      '0db8',
      'ABCD',
      '12345',
      'g',
      '10.5.0.1',
      '10.5.0.256',
      '.',
      '',
    );
    const group = fc.constantFrom('0', '0', '1', 'a00f', 'FFFF', '');
    const likely = fc.array(group, { minLength: 6, maxLength: 9 }).map((groups) => groups.join(':'));
    const dotted = likely.map((text) => `${text}:192.0.2.1`);
    const texts = fc.oneof(
      fc.array(part, { maxLength: 10 }).map((parts) => parts.join('')),
      likely,
      dotted,
    );
    let met = 0;
    fc.assert(
      fc.property(texts, (text) => {
        const address = parseIpv6(text);
        expect(address !== null, text).toBe(isIPv6(text));
        if (address === null) return;
        met++;
        expect(`[${formatAddress(address)}]`).toBe(new URL(`http://[${text}]/`).hostname);
      }),
      { numRuns: 3000 },
    );
    expect(met).toBeGreaterThan(100);
  });

  it('is none where a member of what a program printed is missing', () => {
    expect(parseAddress(undefined as unknown as string)).toBeNull();
  });

  it.each(['', '10.0.0', '10.0.0.256', 'fe80::1%eth0', ':::', '10.5.0.0/16'])('is not %j', (text) => {
    expect(parseAddress(text)).toBeNull();
  });

  it('is put into brackets beside a port', () => {
    expect(formatEndpoint(0x0a010203, 8285)).toBe('10.1.2.3:8285');
    expect(formatEndpoint(1n, 8285)).toBe('[::1]:8285');
  });
});
