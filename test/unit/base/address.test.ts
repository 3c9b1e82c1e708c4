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

  it.each(['', '10.0.0', '10.0.0.256', 'fe80::1%eth0', ':::', '10.5.0.0/16'])('is not %j', (text) => {
    expect(parseAddress(text)).toBeNull();
  });

  it('is put into brackets beside a port', () => {
    expect(formatEndpoint(0x0a010203, 8285)).toBe('10.1.2.3:8285');
    expect(formatEndpoint(1n, 8285)).toBe('[::1]:8285');
  });
});
