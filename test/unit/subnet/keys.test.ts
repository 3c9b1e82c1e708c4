import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatPrefix, netmask, type Prefix, parseIpv4 } from '../../../src/base/ipv4.js';
import {
  formatIpv6,
  formatIpv6Prefix,
  type Ipv6Prefix,
  netmaskV6,
  parseIpv6,
  parseIpv6Prefix,
} from '../../../src/base/ipv6.js';
import { MalformedLeaseError } from '../../../src/subnet/errors.js';
import { decodeLeaseValue, encodeLeaseValue, formatSubnetKey, parseSubnetKey } from '../../../src/subnet/keys.js';
import type { LeaseAttributes } from '../../../src/subnet/lease.js';
import { host } from '../../support/registry-suite.js';

const prefixes = fc
  .record({ bits: fc.integer({ min: 0, max: 0xffffffff }), length: fc.integer({ min: 1, max: 32 }) })
  .map(({ bits, length }): Prefix => ({ address: (bits & netmask(length)) >>> 0, length }));

const addressesV6 = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }),
  // many zero groups, which is where the spelling is difficult
  fc
    .array(fc.constantFrom<bigint>(0n, 0n, 0n, 1n, 0xffffn), { minLength: 8, maxLength: 8 })
    .map((groups) => groups.reduce((sum, group) => (sum << 16n) | group, 0n)),
);

const prefixesV6 = fc
  .record({ bits: addressesV6, length: fc.integer({ min: 0, max: 128 }) })
  .map(({ bits, length }): Ipv6Prefix => ({ address: bits & netmaskV6(length), length }));

describe('IPv6 addresses', () => {
  it.each([
    ['::', '::'],
    ['::1', '::1'],
    ['fd00:12:13::', 'fd00:12:13::'],
    ['FD00:0012:0:0:0:0:0:A', 'fd00:12::a'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['1:0:0:2:3:0:0:4', '1::2:3:0:0:4'],
    ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
    ['::ffff:192.0.2.1', '::ffff:c000:201'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
  ])('%s is written %s', (text, expected) => {
    expect(formatIpv6(parseIpv6(text) as bigint)).toBe(expected);
  });

  it.each(['', ':', '1::2::3', '1:2:3', 'fe80::1%eth0', '12345::', '192.0.2.1', 'g::'])('%j is none', (text) => {
    expect(parseIpv6(text)).toBeNull();
  });

  it('survive being written and read', () => {
    fc.assert(fc.property(addressesV6, (address) => parseIpv6(formatIpv6(address)) === address));
    fc.assert(
      fc.property(prefixesV6, (prefix) => {
        expect(parseIpv6Prefix(formatIpv6Prefix(prefix))).toEqual(prefix);
      }),
    );
  });

  it.each(['fd00::', 'fd00::/129', 'fd00::/-1', 'fd00::/01', '10.0.0.0/8'])('%j is no prefix', (text) => {
    expect(parseIpv6Prefix(text)).toBeNull();
  });
});

describe('keys', () => {
  it('look as flannel writes them', () => {
    expect(formatSubnetKey({ subnet: { address: parseIpv4('10.5.34.0') as number, length: 24 }, subnetV6: null })).toBe(
      '10.5.34.0-24',
    );
    const v4 = { address: parseIpv4('10.12.13.0') as number, length: 24 };
    expect(formatSubnetKey({ subnet: v4, subnetV6: parseIpv6Prefix('fd00:12:13::/56') })).toBe(
      '10.12.13.0-24&fd00:12:13::-56',
    );
  });

  it('survive being written and read', () => {
    fc.assert(
      fc.property(fc.option(prefixes), fc.option(prefixesV6), (subnet, subnetV6) => {
        if ((subnet === null && subnetV6 === null) || subnetV6?.length === 0) return; // those claim nothing, or all
        expect(parseSubnetKey(formatSubnetKey({ subnet, subnetV6 }))).toEqual({ subnet, subnetV6 });
      }),
    );
  });

  it('of hosts without IPv4 are our own form, and flannel’s is read too', () => {
    const subnets = { subnet: null, subnetV6: parseIpv6Prefix('fd00:1::/64') };
    expect(formatSubnetKey(subnets)).toBe('fd00:1::-64');
    expect(parseSubnetKey('fd00:1::-64')).toEqual(subnets);
    expect(parseSubnetKey('0.0.0.0-0&fd00:1::-64')).toEqual(subnets);
  });

  it.each([
    '',
    '10.5.34.0',
    '10.5.34.0-',
    '10.5.34.0/24',
    '10.5.34.0-024',
    '10.5.34.0-33',
    '10.5.34.1-24',
    '10.5.34-24',
    '10x5.34.0-24',
    '10.5.340.0-24',
    '10.05.34.0-24',
    'x10.5.34.0-24',
    'a/10.5.34.0-24',
    '10.5.34.0-24 ',
    '10.5.34.0-24&',
    '10.5.34.0-24&fd00::1-64',
    '10.5.34.0-24&fd00::',
    '10.5.34.0-24&fd00::-129',
    '10.5.34.0-24&fd00::-64&fd00::-64',
    '0.0.0.0-0',
    '::-0',
    'fd00::1-64',
    'fd00::-129',
    'fd00::-064',
    'fd00::-64&10.5.34.0-24',
    '10.5.34.0-24&::-0',
  ])('%j is malformed', (key) => {
    expect(() => parseSubnetKey(key)).toThrow(MalformedLeaseError);
  });
});

describe('values', () => {
  it('have flannel’s exact bytes', () => {
    expect(encodeLeaseValue(host('192.0.2.1'))).toBe('{"PublicIP":"192.0.2.1","PublicIPv6":null}');
    expect(
      encodeLeaseValue({
        publicIp: parseIpv4('1.2.3.4') as number,
        publicIpv6: parseIpv6('fd00::1'),
        backendV6Data: { b: 1 },
        backendData: { VNI: 1, VtepMAC: 'c6:d2:32:6f:8f:44' },
        backendType: 'vxlan',
      }),
    ).toBe(
      '{"PublicIP":"1.2.3.4","PublicIPv6":"fd00::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"},"BackendV6Data":{"b":1}}',
    );
    expect(encodeLeaseValue({ ...host('1.2.3.4'), backendData: { note: '<a&b>\u2028' } })).toContain(
      '{"note":"\\u003ca\\u0026b\\u003e\\u2028"}',
    );
    expect(encodeLeaseValue({ ...host('1.2.3.4'), backendType: '' })).toBe('{"PublicIP":"1.2.3.4","PublicIPv6":null}');
  });

  it('survive being written and read', () => {
    const attributes: fc.Arbitrary<LeaseAttributes> = fc
      .record(
        {
          publicIp: fc.integer({ min: 0, max: 0xffffffff }),
          publicIpv6: fc.option(addressesV6),
          backendType: fc.constantFrom('vxlan', 'host-gw'),
          backendData: fc.jsonValue({ maxDepth: 2 }),
          backendV6Data: fc.jsonValue({ maxDepth: 1 }),
        },
        { requiredKeys: ['publicIp', 'publicIpv6'] },
      )
      // -0 and prototypes are not JSON's business
      .map(({ publicIpv6, ...value }) => ({ ...(JSON.parse(JSON.stringify(value)) as LeaseAttributes), publicIpv6 }));
    fc.assert(
      fc.property(attributes, (value) => {
        expect(decodeLeaseValue('key', encodeLeaseValue(value))).toEqual(value);
      }),
    );
  });

  it('are read tolerantly', () => {
    expect(decodeLeaseValue('key', '{}')).toEqual({ publicIp: 0, publicIpv6: null });
    expect(decodeLeaseValue('key', ' {"publicip":"192.0.2.1","Extra":[1],"BackendType":""}\n')).toEqual(
      host('192.0.2.1'),
    );
  });

  it.each([
    '',
    'garbage',
    'null',
    '[]',
    '"192.0.2.1"',
    '{"PublicIP":"192.0.2"}',
    '{"PublicIP":3232235777}',
    '{"PublicIP":"192.0.2.1","PublicIPv6":"192.0.2.1"}',
    '{"PublicIP":"192.0.2.1","BackendType":7}',
    '{"PublicIP":"192.0.2.1"',
  ])('%j is malformed, and the error names the key', (text) => {
    expect(() => decodeLeaseValue('10.5.1.0-24', text)).toThrow(/lease "10\.5\.1\.0-24".*correct or delete/);
  });
});

it('formats what it parsed', () => {
  const { subnet } = parseSubnetKey('10.5.34.0-24');
  expect(formatPrefix(subnet as Prefix)).toBe('10.5.34.0/24');
});
