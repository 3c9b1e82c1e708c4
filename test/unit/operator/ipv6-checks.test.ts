import { describe, expect, it } from 'vitest';
import { type Ipv6Prefix, parseIpv6, parseIpv6Prefix } from '../../../src/base/ipv6.js';
import { runChecks } from '../../../src/operator/doctor/finding.js';
import { gatherIpv6Facts, type Ipv6Facts, ipv6Checks } from '../../../src/operator/doctor/ipv6-checks.js';
import { parseNetworkConfig } from '../../../src/subnet/network-config/config.js';

const network = parseIpv6Prefix('fd00:5::/48') as Ipv6Prefix;
const underlay = {
  ...{ name: 'eth0', index: 2, address: 0xc0000201, prefixLength: 24, mtu: 1500 },
  ipv6: { address: parseIpv6('2001:db8::1') as bigint, prefixLength: 64 },
};
const switches = { 'all/forwarding': 1, 'all/disable_ipv6': 0, 'eth0/disable_ipv6': 0, 'eth0/accept_ra': 1 };
const right: Ipv6Facts = {
  config: {
    ipv6: { network, subnetLength: 64, subnetMin: 0n, subnetMax: 0n },
    backend: { type: 'vxlan', options: {} },
  },
  underlay,
  dynamic: false,
  switches: new Map(Object.entries(switches)),
};
const withSwitches = (others: Partial<typeof switches>): Partial<Ipv6Facts> => ({
  switches: new Map(Object.entries({ ...switches, ...others })),
});
describe('IPv6 of a host', () => {
  it('that has all it needs is in order', () => {
    const findings = runChecks(ipv6Checks, right);
    expect(findings.map(({ level }) => level)).toEqual(['ok', 'ok', 'ok']);
    expect(findings[1]?.text).toContain('2001:db8::1 of eth0');
  });

  it.each<[string, Partial<Ipv6Facts>, string, RegExp]>([
    ['no IPv6', { switches: new Map() }, 'ipv6-kernel', /ipv6\.disable=1/],
    [
      'it disabled',
      withSwitches({ 'eth0/disable_ipv6': 1 }),
      'ipv6-kernel',
      /^sysctl -w net\.ipv6\.conf\.eth0\.disable_ipv6=0$/,
    ],
    ['no address', { underlay: { ...underlay, ipv6: null } }, 'ipv6-address', /^ip address add ADDRESS\/64 dev eth0/],
    [
      'no forwarding',
      withSwitches({ 'all/forwarding': 0 }),
      'ipv6-forwarding',
      /^sysctl -w net\.ipv6\.conf\.all\.forwarding=1$/,
    ],
    ['an advertised address', { dynamic: true }, 'ipv6-router-advertisements', /eth0\.accept_ra=2$/],
  ])('with %s is told what to do', (_name, facts, id, fix) => {
    const bad = runChecks(ipv6Checks, { ...right, ...facts }).filter(({ level }) => level !== 'ok');
    expect(bad.map((finding) => finding.id)).toEqual([id]);
    expect(bad[0]?.fix).toMatch(fix);
  });

  it.each<[string, Partial<Ipv6Facts>]>([
    ['keeps an advertised address with accept_ra=2', { dynamic: true, ...withSwitches({ 'eth0/accept_ra': 2 }) }],
  ])('%s', (_name, facts) => {
    expect(runChecks(ipv6Checks, { ...right, ...facts }).filter(({ level }) => level !== 'ok')).toEqual([]);
  });

  it.each([
    ['udp', {}, 0xc0000201, 'ok'],
    ['udp', {}, 0, 'fail'],
    ['wireguard', { mode: 'auto' }, 0xc0000201, 'ok'],
    ['wireguard', { mode: 'ipv4' }, 0xc0000201, 'ok'],
    ['wireguard', { mode: 'ipv6' }, 0xc0000201, 'fail'],
    ['wireguard', {}, 0xc0000201, 'fail'],
    ['wireguard', { mode: 7 }, 0xc0000201, 'fail'],
    ['vxlan', {}, 0xc0000201, 'fail'],
    ['host-gw', {}, 0xc0000201, 'fail'],
  ])('needs an address where it does not travel by IPv4: %s %j from %d: %s', (type, options, address, level) => {
    const config = { ...right.config, backend: { type, options } };
    const findings = runChecks(ipv6Checks, { ...right, config, underlay: { ...underlay, address, ipv6: null } });
    expect(findings.find(({ id }) => id === 'ipv6-address')?.level).toBe(level);
  });

  it('is not asked for where the network has none', async () => {
    expect(await gatherIpv6Facts(parseNetworkConfig('{"Network":"10.5.0.0/16"}'), underlay)).toBeNull();
    expect(await gatherIpv6Facts(null, underlay)).toBeNull();
  });
});
