import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { contains, formatIpv4, netmask, parsePrefix } from '../../../src/base/ipv4.js';
import { parseIpv6Prefix } from '../../../src/base/ipv6.js';
import { whyNoContainers } from '../../../src/base/no-hosts.js';
import { ConfigError } from '../../../src/subnet/errors.js';
import {
  checkNetworkConfig,
  describeRanges,
  fitsConfig,
  fitsRange,
  type Ipv4Network,
  networkName,
  parseNetworkConfig,
} from '../../../src/subnet/network-config/config.js';
import { effectiveConfig } from '../../../src/subnet/network-config/network.js';

/** A network without IPv4. */
const SIX = { EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd00:5::/56' };

const parse = (value: unknown) => parseNetworkConfig(JSON.stringify(value));

function fault(value: unknown): ConfigError {
  try {
    parse(value);
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error('accepted');
}

describe('defaults', () => {
  it.each([
    ['10.5.0.0/16', 24, '10.5.1.0', '10.5.255.0'],
    ['10.0.0.0/8', 24, '10.0.1.0', '10.255.255.0'],
    ['10.5.4.0/22', 24, '10.5.5.0', '10.5.7.0'],
    ['10.5.4.0/23', 25, '10.5.4.128', '10.5.5.128'],
    ['10.5.4.0/24', 26, '10.5.4.64', '10.5.4.192'],
    ['10.5.4.16/28', 30, '10.5.4.20', '10.5.4.28'],
    ['10.5.77.99/16', 24, '10.5.1.0', '10.5.255.0'],
    ['255.0.0.0/8', 24, '255.0.1.0', '255.255.255.0'],
  ])('of %s are /%i subnets from %s to %s', (network, length, min, max) => {
    const config = parse({ Network: network });
    const { subnetLength, subnetMin, subnetMax } = config.ipv4 as Ipv4Network;
    expect(subnetLength).toBe(length);
    expect([formatIpv4(subnetMin), formatIpv4(subnetMax)]).toEqual([min, max]);
  });

  it('fills in everything else', () => {
    expect(parse({ Network: '10.5.0.0/16' })).toMatchObject({
      ipv6: null,
      enableNftables: false,
      backend: { type: 'udp', options: {} },
    });
  });

  it('takes a SubnetLen of 0 and bounds of 0.0.0.0 as not given, and null as absent', () => {
    const config = parse({
      Network: '10.5.0.0/16',
      SubnetLen: 0,
      SubnetMin: '0.0.0.0',
      SubnetMax: null,
      EnableIPv4: null,
    });
    expect(describeRanges(config)).toBe('10.5.1.0-10.5.255.0 (/24 subnets of 10.5.0.0/16)');
  });
});

describe('keys', () => {
  it('are matched without regard to case, the later of two counts', () => {
    const config = parseNetworkConfig(
      '{"network":"10.1.0.0/16","NETWORK":"10.5.0.0/16","subnetlen":26,"ENABLENFTABLES":true,"backend":{"TYPE":"UDP","port":7890,"VNI":3}}',
    );
    expect(networkName(config)).toBe('10.5.0.0/16');
    expect(config.ipv4?.subnetLength).toBe(26);
    expect(config.enableNftables).toBe(true);
    expect(config.backend).toEqual({ type: 'udp', options: { port: 7890, vni: 3 } });
  });

  it('that are unknown are a warning', () => {
    expect(checkNetworkConfig('{"Network":"10.5.0.0/16","SubnetLenght":25}').warnings).toEqual([
      'unknown key "SubnetLenght" is ignored',
    ]);
  });
});

describe('a wrong config names the key, the fault and the rule', () => {
  it.each<[string, unknown, string, RegExp]>([
    ['no object', [], '', /write an object/],
    ['no network', {}, 'Network', /is missing/],
    ['an empty network', { Network: '' }, 'Network', /is missing/],
    ['no prefix', { Network: '10.5.0.0' }, 'Network', /a\.b\.c\.d\/length/],
    ['an IPv6 network', { Network: 'fd00::/48' }, 'Network', /no IPv4 network/],
    ['leading zeros', { Network: '010.5.0.0/16' }, 'Network', /no IPv4 network/],
    ['a number', { Network: 5 }, 'Network', /must be a string/],
    ['a network that is too small', { Network: '10.5.0.0/29' }, 'Network', /smallest useful network is a \/28/],
    [
      'loopback',
      { Network: '127.0.0.0/8' },
      'Network',
      /has loopback addresses \(127\.0\.0\.0\/8\) in it; take one that/,
    ],
    ['multicast', { Network: '239.5.0.0/16' }, 'Network', /has multicast addresses/],
    ['everything', { Network: '0.0.0.0/0' }, 'Network', /has loopback addresses/],
    [
      'link-local IPv6',
      { ...SIX, IPv6Network: 'fe80::/48' },
      'IPv6Network',
      /has link-local addresses \(fe80::\/10\) in it/,
    ],
    ['everything of IPv6', { ...SIX, IPv6Network: '::/0' }, 'IPv6Network', /has the loopback address/],
    ['subnets of /31', { Network: '10.5.0.0/16', SubnetLen: 31 }, 'SubnetLen', /30 or less/],
    ['too few subnets', { Network: '10.5.0.0/16', SubnetLen: 17 }, 'SubnetLen', /at least .* here 18/],
    ['a small network with a length', { Network: '10.5.0.0/29', SubnetLen: 30 }, 'SubnetLen', /here 31/],
    ['a quoted length', { Network: '10.5.0.0/16', SubnetLen: '24' }, 'SubnetLen', /whole number/],
    ['a negative length', { Network: '10.5.0.0/16', SubnetLen: -24 }, 'SubnetLen', /whole number/],
    ['a broken length', { Network: '10.5.0.0/16', SubnetLen: 24.5 }, 'SubnetLen', /whole number/],
    ['a bound outside', { Network: '10.5.0.0/16', SubnetMin: '10.6.0.0' }, 'SubnetMin', /inside Network/],
    ['another bound outside', { Network: '10.5.0.0/16', SubnetMax: '10.4.0.0' }, 'SubnetMax', /inside Network/],
    ['a bound askew', { Network: '10.5.0.0/16', SubnetMin: '10.5.3.128' }, 'SubnetMin', /aligned .* 10\.5\.3\.0$/],
    ['another bound askew', { Network: '10.5.0.0/16', SubnetMax: '10.5.3.1' }, 'SubnetMax', /aligned/],
    ['a bound that is none', { Network: '10.5.0.0/16', SubnetMax: '10.5.3' }, 'SubnetMax', /no IPv4 address/],
    [
      'bounds in the wrong order',
      { Network: '10.5.0.0/16', SubnetMin: '10.5.9.0', SubnetMax: '10.5.8.0' },
      'SubnetMin',
      /must not be greater/,
    ],
    [
      'neither family',
      { Network: '10.5.0.0/16', EnableIPv4: false },
      'EnableIPv4',
      /EnableIPv6 is not true; .*set one/,
    ],
    ['a bad network though IPv4 is off', { ...SIX, Network: '10.5' }, 'Network', /no IPv4 network/],
    ['IPv6 without its network', { ...SIX, IPv6Network: '' }, 'IPv6Network', /is missing/],
    ['a quoted boolean', { Network: '10.5.0.0/16', EnableNFTables: 'true' }, 'EnableNFTables', /no quotes/],
    ['a backend without a type', { Network: '10.5.0.0/16', Backend: {} }, 'Backend', /has no Type/],
    ['a backend with an empty type', { Network: '10.5.0.0/16', Backend: { Type: '' } }, 'Backend', /the Type ""/],
    ['a backend that is a string', { Network: '10.5.0.0/16', Backend: 'udp' }, 'Backend', /no object/],
    ['a backend of null', { Network: '10.5.0.0/16', Backend: null }, 'Backend', /no object/],
    ['IPv6 without a network', { Network: '10.5.0.0/16', EnableIPv6: true }, 'IPv6Network', /is missing/],
    [
      'a wrong IPv6 network even when off',
      { Network: '10.5.0.0/16', IPv6Network: '10.6.0.0/16' },
      'IPv6Network',
      /no IPv6/,
    ],
    [
      'a small IPv6 network',
      { Network: '10.5.0.0/16', EnableIPv6: true, IPv6Network: 'fd00::/125' },
      'IPv6Network',
      /\/124/,
    ],
    [
      'long IPv6 subnets',
      { Network: '10.5.0.0/16', EnableIPv6: true, IPv6Network: 'fd00::/56', IPv6SubnetLen: 127 },
      'IPv6SubnetLen',
      /126 or less/,
    ],
    [
      'few IPv6 subnets',
      { Network: '10.5.0.0/16', EnableIPv6: true, IPv6Network: 'fd00::/56', IPv6SubnetLen: 57 },
      'IPv6SubnetLen',
      /here 58/,
    ],
    [
      'an IPv6 bound outside',
      { Network: '10.5.0.0/16', EnableIPv6: true, IPv6Network: 'fd00::/56', IPv6SubnetMin: 'fd01::' },
      'IPv6SubnetMin',
      /inside/,
    ],
    [
      'an IPv6 bound askew',
      { Network: '10.5.0.0/16', EnableIPv6: true, IPv6Network: 'fd00::/56', IPv6SubnetMax: 'fd00::1' },
      'IPv6SubnetMax',
      /aligned/,
    ],
    [
      'IPv6 bounds in the wrong order',
      {
        Network: '10.5.0.0/16',
        EnableIPv6: true,
        IPv6Network: 'fd00::/56',
        IPv6SubnetMin: 'fd00:0:0:9::',
        IPv6SubnetMax: 'fd00:0:0:8::',
      },
      'IPv6SubnetMin',
      /must not be greater/,
    ],
  ])('%s', (_, value, key, message) => {
    const error = fault(value);
    expect(error.code).toBe('CONFIG_INVALID');
    expect(error.key).toBe(key);
    expect(error.message).toMatch(message);
  });

  it('that is no JSON', () => {
    expect(() => parseNetworkConfig('{"Network":')).toThrow(/not JSON.*write a JSON object/);
  });
});

it('reads the IPv6 half', () => {
  const json = '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"2001:cafe:42::1/56"}';
  const { config, warnings } = checkNetworkConfig(json);
  expect(effectiveConfig(config)).toMatchObject({
    IPv6Network: '2001:cafe:42::/56',
    IPv6SubnetLen: 64,
    IPv6SubnetMin: '2001:cafe:42:1::',
    IPv6SubnetMax: '2001:cafe:42:ff::',
  });
  expect(warnings).toEqual([]);
});

it('any legal config has a range inside its network, in which the bounds fit and their neighbours do not', () => {
  const legal = fc.integer({ min: 1, max: 28 }).chain((length) =>
    fc.record({
      address: fc.integer({ min: 0, max: 0xffffffff }),
      length: fc.constant(length),
      subnetLength: fc.integer({ min: length + 2, max: 30 }),
    }),
  );
  fc.assert(
    fc.property(legal, ({ address, length, subnetLength }) => {
      fc.pre(whyNoContainers({ address: (address & netmask(length)) >>> 0, length }) === '');
      const range = parse({ Network: `${formatIpv4(address)}/${length}`, SubnetLen: subnetLength }).ipv4 as Ipv4Network;
      const step = 2 ** (32 - subnetLength);
      expect(range.network.address).toBe((address & netmask(length)) >>> 0);
      for (const bound of [range.subnetMin, range.subnetMax]) {
        expect(contains(range.network, bound)).toBe(true);
        expect(fitsRange({ address: bound, length: subnetLength }, range)).toBe(true);
        expect(fitsRange({ address: bound, length: subnetLength - 1 }, range)).toBe(false);
      }
      expect(fitsRange({ address: range.subnetMin - step, length: subnetLength }, range)).toBe(false);
      expect(fitsRange({ address: range.subnetMax + step, length: subnetLength }, range)).toBe(false);
      expect(fitsRange({ address: range.subnetMin + 1, length: subnetLength }, range)).toBe(false);
    }),
  );
});

it('never throws anything but a ConfigError', () => {
  const names = [
    'Network',
    'SubnetLen',
    'SubnetMin',
    'SubnetMax',
    'EnableIPv6',
    'IPv6Network',
    'IPv6SubnetLen',
    'Backend',
  ];
  const member = fc.oneof(fc.jsonValue(), fc.constantFrom('10.5.0.0/16', '10.5.9.0', 'fd00::/56', true, 24, 0));
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...names), member), (value) => {
      try {
        parse(value);
      } catch (error) {
        expect(error).toBeInstanceOf(ConfigError);
      }
    }),
  );
});

it('goes without an IPv4 half where IPv4 is off', () => {
  const config = parse({ ...SIX, Network: '10.5.0.0/16', SubnetMin: '10.9.0.0' });
  expect(config.ipv4).toBeNull();
  expect(networkName(config)).toBe('fd00:5::/56');
  expect(describeRanges(config)).toBe('fd00:5:0:1::-fd00:5:0:ff:: (/64 subnets of fd00:5::/56)');
});

const v4 = parsePrefix('10.5.7.0/24');
const v6 = parseIpv6Prefix('fd00:5:0:7::/64');

it.each([
  ['IPv4', { Network: '10.5.0.0/16' }, { subnet: v4, subnetV6: null }],
  ['both', { ...SIX, EnableIPv4: true, Network: '10.5.0.0/16' }, { subnet: v4, subnetV6: v6 }],
  ['IPv6', SIX, { subnet: null, subnetV6: v6 }],
])('a lease fits a network of %s with all of its halves and no other', (_, json, fitting) => {
  const config = parse(json);
  for (const subnets of [
    { subnet: v4, subnetV6: null },
    { subnet: v4, subnetV6: v6 },
    { subnet: null, subnetV6: v6 },
    { subnet: parsePrefix('10.6.7.0/24'), subnetV6: parseIpv6Prefix('fd00:6:0:7::/64') },
  ]) {
    const same = subnets.subnet === fitting.subnet && subnets.subnetV6 === fitting.subnetV6;
    expect(fitsConfig(subnets, config)).toBe(same);
  }
});
