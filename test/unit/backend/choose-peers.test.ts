import { expect, it } from 'vitest';
import { choosePeers, type PeerRules, refusalOf } from '../../../src/backend/choose-peers.js';
import { type Prefix, parseIpv4, parsePrefix } from '../../../src/base/ipv4.js';
import type { Lease, LeaseAttributes } from '../../../src/subnet/lease.js';
import { parseNetworkConfig } from '../../../src/subnet/network-config/config.js';

const address = (text: string) => parseIpv4(text) as number;
const prefix = (text: string) => parsePrefix(text) as Prefix;

const rules: PeerRules = {
  config: parseNetworkConfig('{"Network":"100.96.0.0/16"}'),
  own: { subnet: prefix('100.96.42.0/24'), subnetV6: null },
  publicIp: address('203.0.113.1'),
  underlay: prefix('192.0.2.1/24'),
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
  ['no address', lease('100.96.7.0/24', '0.0.0.0'), 'it has no IPv4 address'],
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
    underlay: prefix('10.43.1.1/24'),
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
