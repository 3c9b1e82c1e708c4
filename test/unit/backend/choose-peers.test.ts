import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { choosePeers, OrdinaryPeers, type PeerRules, refusalOf } from '../../../src/backend/choose-peers.js';
import { type Prefix, parseIpv4, parsePrefix } from '../../../src/base/ipv4.js';
import { parseIpv6, parseIpv6Prefix } from '../../../src/base/ipv6.js';
import { formatSubnetKey } from '../../../src/subnet/keys.js';
import { type Lease, type LeaseAttributes, publicNames } from '../../../src/subnet/lease.js';
import { parseNetworkConfig } from '../../../src/subnet/network-config/config.js';

const address = (text: string) => parseIpv4(text) as number;
const prefix = (text: string) => parsePrefix(text) as Prefix;

const rules: PeerRules = {
  config: parseNetworkConfig('{"Network":"100.96.0.0/16"}'),
  own: { subnet: prefix('100.96.42.0/24'), subnetV6: null },
  publicIp: address('203.0.113.1'),
  underlay: [prefix('192.0.2.1/24')],
  publicIpv6: null,
  backendType: 'udp',
};

const lease = (subnet: string, publicIp: string, attributes: Partial<LeaseAttributes> = {}): Lease => ({
  subnet: prefix(subnet),
  subnetV6: null,
  attributes: { publicIp: address(publicIp), publicIpv6: null, ...attributes },
  expiresAt: null,
});

it.each([
  ['an ordinary host', lease('100.96.7.0/24', '192.0.2.7'), ''],
  ['a host behind a router', lease('100.96.7.0/24', '198.51.100.7'), ''],
  ['a subnet of another length', lease('100.96.8.0/21', '192.0.2.7'), ''],
  ['a link-local host', lease('100.96.7.0/24', '169.254.3.4'), ''],
  ['no address', lease('100.96.7.0/24', '0.0.0.0'), 'it has no address'],
  ['our public address', lease('100.96.7.0/24', '203.0.113.1'), 'it names this host as its owner'],
  ['our address on the underlay', lease('100.96.7.0/24', '192.0.2.1'), 'it names this host as its owner'],
  ['this network', lease('100.96.7.0/24', '0.1.2.3'), 'its public address 0.1.2.3 is of “this network”'],
  ['loopback', lease('100.96.7.0/24', '127.0.0.1'), 'its public address 127.0.0.1 is a loopback address'],
  ['multicast', lease('100.96.7.0/24', '239.1.2.3'), 'its public address 239.1.2.3 is a multicast address'],
  ['reserved', lease('100.96.7.0/24', '240.0.0.1'), 'its public address 240.0.0.1 is of a reserved block'],
  ['broadcast', lease('100.96.7.0/24', '255.255.255.255'), 'is the broadcast address'],
  ['an address of its own subnet', lease('100.96.7.0/24', '100.96.7.5'), 'lies inside the overlay'],
  ['an address of another subnet', lease('100.96.7.0/24', '100.96.9.5'), 'lies inside the overlay'],
  ['a foreign subnet', lease('100.97.7.0/24', '192.0.2.7'), 'its subnet is outside 100.96.0.0/16'],
  ['a subnet that holds the network', lease('100.0.0.0/8', '192.0.2.7'), 'its subnet is outside 100.96.0.0/16'],
  ['our subnet', lease('100.96.42.0/24', '192.0.2.7'), 'it claims this host’s own subnet'],
  ['a part of our subnet', lease('100.96.42.128/25', '192.0.2.7'), 'overlaps 100.96.42.0/24'],
  ['more than our subnet', lease('100.96.32.0/19', '192.0.2.7'), 'overlaps 100.96.42.0/24'],
  [
    'another backend',
    lease('100.96.7.0/24', '192.0.2.7', { backendType: 'vxlan' }),
    'its backend is vxlan, ours is udp',
  ],
])('judges %s', (_, one, reason) => {
  if (reason === '') expect(refusalOf(one, rules)).toBe('');
  else expect(refusalOf(one, rules)).toContain(reason);
});

it('takes hosts on the own link although the overlay covers it', () => {
  const covering: PeerRules = {
    ...rules,
    config: parseNetworkConfig('{"Network":"10.0.0.0/8"}'),
    own: { subnet: prefix('10.5.0.0/24'), subnetV6: null },
    publicIp: address('10.43.1.1'),
    underlay: [prefix('10.43.1.1/24')],
  };
  expect(refusalOf(lease('10.5.1.0/24', '10.43.1.2'), covering)).toBe('');
  expect(refusalOf(lease('10.5.1.0/24', '10.43.2.2'), covering)).toContain('lies inside the overlay');
});

it('sorts them, and keeps their order', () => {
  const leases = [
    lease('100.96.7.0/24', '192.0.2.7'),
    lease('100.96.8.0/24', '127.0.0.1'),
    lease('100.96.3.0/24', '192.0.2.3'),
  ];
  const { peers, refused } = choosePeers(leases, rules);
  expect(peers).toEqual([leases[0], leases[2]]);
  expect(refused).toEqual([
    { subnet: '100.96.8.0/24', publicIp: '127.0.0.1', reason: 'its public address 127.0.0.1 is a loopback address' },
  ]);
});

const six = (text: string) => parseIpv6(text) as bigint;
const dual: PeerRules = {
  ...rules,
  config: parseNetworkConfig('{"Network":"100.96.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/56"}'),
  own: { subnet: prefix('100.96.42.0/24'), subnetV6: parseIpv6Prefix('fd00:5:0:42::/64') },
  publicIpv6: six('2001:db8::1'),
  underlay: [prefix('192.0.2.1/24'), { address: six('2001:db8::1'), length: 64 }],
};
const dualLease = (v4: string | null, v6: string | null, publicIp: string, publicIpv6: string | null): Lease => ({
  subnet: v4 === null ? null : prefix(v4),
  subnetV6: v6 === null ? null : parseIpv6Prefix(v6),
  attributes: { publicIp: address(publicIp), publicIpv6: publicIpv6 === null ? null : six(publicIpv6) },
  expiresAt: null,
});
const told = ({ subnet, subnetV6, attributes }: Lease) =>
  `${formatSubnetKey({ subnet, subnetV6 })} at ${publicNames(attributes)}`;

describe('of both families', () => {
  const V4 = '100.96.7.0/24';
  const V6 = 'fd00:5:0:7::/64';
  const ALL = '100.96.7.0-24&fd00:5:0:7::-64 at 192.0.2.7, 2001:db8::7';

  it.each([
    ['a dual-stack host', dualLease(V4, V6, '192.0.2.7', '2001:db8::7'), ALL, []],
    ['a flanneld of IPv4', dualLease(V4, null, '192.0.2.7', null), '100.96.7.0-24 at 192.0.2.7', []],
    ['IPv6 only', dualLease(null, V6, '0.0.0.0', '2001:db8::7'), 'fd00:5:0:7::-64 at 2001:db8::7', []],
    ['behind a router', dualLease(V4, V6, '0.0.0.0', '2001:db9::7'), `${ALL.split(' ')[0]} at 2001:db9::7`, []],
    ['no address', dualLease(V4, V6, '0.0.0.0', null), null, ['it has no address']],
    ['our IPv6 address', dualLease(V4, V6, '192.0.2.7', '2001:db8::1'), null, ['names this host as its owner']],
    [
      'a link-local address',
      dualLease(V4, V6, '192.0.2.7', 'fe80::7'),
      '100.96.7.0-24&fd00:5:0:7::-64 at 192.0.2.7',
      ['fe80::7 is a link-local address'],
    ],
    ['loopback only', dualLease(V4, V6, '0.0.0.0', '::1'), null, ['::1 is the loopback address']],
    ['multicast only', dualLease(V4, V6, '0.0.0.0', 'ff02::1'), null, ['ff02::1 is a multicast address']],
    ['unspecified', dualLease(V4, V6, '0.0.0.0', '::'), null, [':: is the unspecified address']],
    ['mapped', dualLease(V4, V6, '0.0.0.0', '::ffff:192.0.2.7'), null, ['an IPv4 address in the form of IPv6']],
    ['inside the overlay', dualLease(V4, V6, '0.0.0.0', 'fd00:5:0:7::1'), null, ['lies inside the overlay']],
    [
      'a foreign IPv6 half',
      dualLease(V4, 'fd00:6::/64', '192.0.2.7', '2001:db8::7'),
      '100.96.7.0-24 at 192.0.2.7, 2001:db8::7',
      ['its subnet is outside fd00:5::/56'],
    ],
    [
      'a foreign IPv4 half',
      dualLease('100.97.7.0/24', V6, '192.0.2.7', '2001:db8::7'),
      'fd00:5:0:7::-64 at 192.0.2.7, 2001:db8::7',
      ['its subnet is outside 100.96.0.0/16'],
    ],
    [
      'our IPv6 half',
      dualLease(V4, 'fd00:5:0:42::/64', '192.0.2.7', '2001:db8::7'),
      '100.96.7.0-24 at 192.0.2.7, 2001:db8::7',
      ['it claims this host’s own subnet'],
    ],
    [
      'more than our IPv6 half',
      dualLease(null, 'fd00:5:0:40::/60', '192.0.2.7', '2001:db8::7'),
      null,
      ['its subnet overlaps fd00:5:0:42::/64'],
    ],
  ])('judges %s', (_, one, expected, reasons) => {
    const { peers, refused } = choosePeers([one], dual);
    expect(peers.map(told)).toEqual(expected === null ? [] : [expected]);
    expect(refused.map(({ reason }) => reason)).toEqual(reasons.map((reason) => expect.stringContaining(reason)));
  });

  it('a host that shares no family of addresses with this one is none', () => {
    const without = { ...dual, publicIpv6: null, underlay: [prefix('192.0.2.1/24')] };
    const { peers, refused } = choosePeers([dualLease(V4, V6, '0.0.0.0', '2001:db8::7')], without);
    expect(peers).toEqual([]);
    expect(refused).toEqual([
      { subnet: V4, publicIp: '2001:db8::7', reason: expect.stringContaining('IPv6 address only') },
    ]);
  });
});

it('whoever passes the quick look is a peer as he is', () => {
  const near = (...all: readonly string[]) => fc.constantFrom(...all);
  const leases = fc
    .record({
      v4: fc.option(near('100.96.7.0/24', '100.96.42.0/24', '100.96.32.0/19', '100.64.0.0/10', '10.0.0.0/8')),
      v6: fc.option(near('fd00:5:0:7::/64', 'fd00:5:0:42::/64', 'fd00:5:0:40::/60', 'fd00::/16', '2001:db8::/64')),
      publicIp: near(
        '0.0.0.0',
        '192.0.2.7',
        '192.0.2.1',
        '203.0.113.1',
        '100.96.9.9',
        '127.0.0.1',
        '240.0.0.1',
        '224.0.0.1',
      ),
      publicIpv6: fc.option(
        near('::', '::1', '2001:db8::1', '2001:db8::7', 'fd00:5::7', 'fe80::1', 'ff02::1', 'fd99::1'),
      ),
    })
    .map(({ v4, v6, publicIp, publicIpv6 }) => dualLease(v4, v6, publicIp, publicIpv6));
  const sets = fc.constantFrom(
    rules,
    dual,
    { ...dual, publicIpv6: null },
    { ...dual, publicIp: 0 },
    { ...dual, backendType: 'vxlan' },
  );
  let passed = 0;
  fc.assert(
    fc.property(leases, sets, (one, by) => {
      const passes = new OrdinaryPeers(by).has(one);
      passed += Number(passes);
      if (passes) expect(refusalOf(one, by)).toBe('');
    }),
    { numRuns: 2000 },
  );
  expect(passed).toBeGreaterThan(0);
  expect(new OrdinaryPeers(dual).has(dualLease('100.96.7.0/24', 'fd00:5:0:7::/64', '192.0.2.7', '2001:db8::7'))).toBe(
    true,
  );
});
