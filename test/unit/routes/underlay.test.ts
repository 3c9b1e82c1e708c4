import { describe, expect, it } from 'vitest';
import { formatIpv4 } from '../../../src/base/ipv4.js';
import type { AddressJson, LinkJson, RouteJson } from '../../../src/routes/ip.js';
import { chooseUnderlay, type UnderlayFacts, type UnderlayOptions } from '../../../src/routes/underlay.js';

const inet = (local: string, more: Partial<AddressJson> = {}): AddressJson => ({
  family: 'inet',
  local,
  prefixlen: 24,
  scope: 'global',
  ...more,
});

const link = (ifindex: number, ifname: string, addr_info: AddressJson[], mtu = 1500): LinkJson => ({
  ifindex,
  ifname,
  flags: ['UP'],
  mtu,
  addr_info,
});

const host: UnderlayFacts = {
  links: [
    link(1, 'lo', [inet('127.0.0.1', { scope: 'host' })], 65536),
    link(2, 'eth0', [inet('192.0.2.10')]),
    link(3, 'eth1', [inet('169.254.7.7'), inet('198.51.100.20', { dynamic: true }), inet('198.51.100.21')], 9000),
    link(4, 'down0', []),
    link(5, 'zero', [inet('203.0.113.9')], 0),
  ],
  defaultRoutes: [{ dst: 'default', gateway: '192.0.2.1', dev: 'eth0' }],
  reach: null,
};

function choose(options: Partial<UnderlayOptions>, facts: Partial<UnderlayFacts> = {}): string {
  const choice = chooseUnderlay(
    { interfaces: [], patterns: [], canReach: '', publicIp: '', ...options },
    { ...host, ...facts },
  );
  const { name, address, mtu, index } = choice.underlay;
  return `${name} ${formatIpv4(address)} mtu ${mtu} index ${index} public ${formatIpv4(choice.publicIp)}`;
}

const eth0 = 'eth0 192.0.2.10 mtu 1500 index 2 public 192.0.2.10';
const eth1 = 'eth1 198.51.100.21 mtu 9000 index 3 public 198.51.100.21';

describe('the order of the options', () => {
  it('takes the interface of the default route when nothing is said', () => {
    expect(choose({})).toBe(eth0);
  });

  it('takes the preferred one of several default routes, and a next hop of a multipath route', () => {
    expect(choose({}, { defaultRoutes: [{ dst: 'default', nexthops: [{ dev: 'eth1' }, { dev: 'eth0' }] }] })).toBe(
      eth1,
    );
  });

  it('takes the interface that has the public address, and only then', () => {
    expect(choose({ publicIp: '198.51.100.20' })).toBe('eth1 198.51.100.20 mtu 9000 index 3 public 198.51.100.20');
    expect(() => choose({ publicIp: '8.8.8.8' })).toThrow('--public-ip=8.8.8.8 (no interface has this address)');
  });

  it('keeps the public address apart from the interface that was named', () => {
    expect(choose({ interfaces: ['eth1'], publicIp: '8.8.8.8' })).toBe(
      'eth1 198.51.100.21 mtu 9000 index 3 public 8.8.8.8',
    );
  });

  it('tries --iface in order, by name or address, and passes over what does not exist', () => {
    expect(choose({ interfaces: ['eth9', '198.51.100.20', 'eth0'] })).toContain('eth1 198.51.100.20');
    expect(choose({ interfaces: ['169.254.7.7'] })).toContain('eth1 169.254.7.7');
  });

  it('tries --iface-regex after --iface: every address first, then names', () => {
    expect(choose({ interfaces: ['eth9'], patterns: ['eth1|192\\.0'] })).toBe(eth0);
    expect(choose({ patterns: ['^nothing$', '^eth[1-9]$'] })).toBe(eth1);
    expect(choose({ patterns: ['(?i)^ETH1$'] })).toBe(eth1);
    expect(choose({ interfaces: ['eth0'], patterns: ['eth1'] })).toBe(eth0);
  });

  it('asks --iface-can-reach last, and takes the source address of the route', () => {
    const reach: RouteJson = { dst: '198.51.100.77', dev: 'eth1', prefsrc: '198.51.100.20' };
    expect(choose({ canReach: '198.51.100.77' }, { reach })).toContain('eth1 198.51.100.20');
    expect(choose({ patterns: ['eth0'], canReach: '198.51.100.77' }, { reach })).toBe(eth0);
    expect(choose({ canReach: '198.51.100.77', publicIp: '192.0.2.10' }, { reach })).toContain('eth1');
  });
});

describe('the address', () => {
  it('is global before link-local, permanent before dynamic, primary before secondary, and never deprecated', () => {
    const pick = (...addresses: AddressJson[]) =>
      choose({ interfaces: ['x'] }, { links: [link(1, 'x', addresses)] }).split(' ')[1];
    expect(pick(inet('169.254.0.9'), inet('10.0.0.1', { dynamic: true }))).toBe('10.0.0.1');
    expect(pick(inet('10.0.0.1', { dynamic: true }), inet('10.0.0.2', { secondary: true }))).toBe('10.0.0.2');
    expect(pick(inet('10.0.0.1', { temporary: true }), inet('10.0.0.2'))).toBe('10.0.0.2');
    expect(pick(inet('10.0.0.1', { deprecated: true }), inet('169.254.0.9'))).toBe('169.254.0.9');
    expect(pick(inet('10.0.0.3'), inet('10.0.0.1'))).toBe('10.0.0.3');
    expect(pick({ ...inet('2001:db8::1'), family: 'inet6' }, inet('10.0.0.1'))).toBe('10.0.0.1');
  });

  it('is never loopback unless named', () => {
    expect(() => choose({ interfaces: ['lo'] })).toThrow('lo has no usable IPv4 address');
    expect(choose({ interfaces: ['127.0.0.1'] })).toContain('lo 127.0.0.1');
  });
});

describe('one error says what was tried and what there is', () => {
  it('lists every attempt', () => {
    const attempt = () =>
      choose(
        { interfaces: ['eth9', '10.9.9.9', 'down0', 'zero'], patterns: ['(', 'wlan'], canReach: '10.1.1.1' },
        { reach: 'RTNETLINK answers: Network is unreachable' },
      );
    expect(attempt).toThrow(
      'Tried: --iface=eth9 (no such interface); --iface=10.9.9.9 (no interface has this address); ' +
        '--iface=down0 (down0 has no usable IPv4 address); --iface=zero (zero has MTU 0); ' +
        '--iface-regex=( (not a regular expression); --iface-regex=wlan (matches no address and no name); ' +
        '--iface-can-reach=10.1.1.1 (RTNETLINK answers: Network is unreachable). ' +
        'This host has: lo (127.0.0.1), eth0 (192.0.2.10), ',
    );
    expect(attempt).toThrow(/Name one of them with --iface$/);
  });

  it('refuses a public address that is none, whatever else is given', () => {
    expect(() => choose({ publicIp: 'me.example', interfaces: ['eth0'] })).toThrow('not an IPv4 address');
  });

  it('says that there is no default route', () => {
    expect(() => choose({}, { defaultRoutes: [] })).toThrow('there is no default route');
    expect(() => choose({}, { defaultRoutes: [{ dst: 'default', type: 'unreachable' }] })).toThrow(
      'the default route names no interface',
    );
  });
});
