import { describe, expect, it } from 'vitest';
import { formatIpv4 } from '../../../src/base/ipv4.js';
import { formatIpv6 } from '../../../src/base/ipv6.js';
import type { AddressJson, LinkJson, RouteJson } from '../../../src/routes/ip.js';
import { chooseUnderlay, type UnderlayFacts, type UnderlayOptions } from '../../../src/routes/underlay.js';
import { publicNames } from '../../../src/subnet/lease.js';

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
    { interfaces: [], patterns: [], canReach: '', publicIp: '', publicIpv6: '', ...options },
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
    expect(() => choose({ interfaces: ['lo'] })).toThrow('lo has no usable address');
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
        '--iface=down0 (down0 has no usable address); --iface=zero (zero has MTU 0); ' +
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

describe('the two families', () => {
  const inet6 = (local: string, more: Partial<AddressJson> = {}): AddressJson => ({
    family: 'inet6',
    local,
    prefixlen: 64,
    scope: 'global',
    ...more,
  });
  const facts: UnderlayFacts = {
    links: [
      link(2, 'eth0', [
        inet('192.0.2.10'),
        inet6('2001:db8::1:10', { temporary: true, dynamic: true }),
        inet6('2001:db8::10'),
        inet6('fe80::1', { scope: 'link' }),
      ]),
      link(3, 'six', [inet6('2001:db8:6::1')]),
      link(4, 'four', [inet('198.51.100.4'), inet6('fe80::4', { scope: 'link' })]),
    ],
    defaultRoutes: [
      { dst: 'default', gateway: '192.0.2.1', dev: 'eth0' },
      { dst: 'default', gateway: 'fe80::99', dev: 'six' },
    ],
    reach: null,
  };
  const both = (options: Partial<UnderlayOptions>, others: Partial<UnderlayFacts> = {}) => {
    const given = { interfaces: [], patterns: [], canReach: '', publicIp: '', publicIpv6: '', ...options };
    const { underlay, publicIp, publicIpv6 } = chooseUnderlay(given, { ...facts, ...others });
    const own = underlay.ipv6 === null ? 'none' : `${formatIpv6(underlay.ipv6.address)}/${underlay.ipv6.prefixLength}`;
    return `${underlay.name} ${formatIpv4(underlay.address)} ${own}, public ${publicNames({ publicIp, publicIpv6 })}`;
  };
  const eth0Both = 'eth0 192.0.2.10 2001:db8::10/64, public 192.0.2.10, 2001:db8::10';
  const six = 'six 0.0.0.0 2001:db8:6::1/64, public 2001:db8:6::1';

  it.each([
    ['the IPv4 default route goes first, with the best IPv6 address of its interface', {}, eth0Both],
    ['an interface by name', { interfaces: ['six'] }, six],
    ['without IPv6', { interfaces: ['four'] }, 'four 198.51.100.4 none, public 198.51.100.4'],
    ['an interface by its IPv6 address', { interfaces: ['2001:db8:6::1'] }, six],
    [
      'an address that would not be chosen',
      { interfaces: ['2001:db8::1:10'] },
      'eth0 192.0.2.10 2001:db8::1:10/64, public 192.0.2.10, 2001:db8::1:10',
    ],
    ['an address in another spelling', { interfaces: ['2001:DB8:6:0::1'] }, six],
    ['a pattern of an IPv6 address', { patterns: ['db8:6:'] }, six],
    [
      'a public address of its own',
      { interfaces: ['six'], publicIpv6: '2001:db8::99' },
      'six 0.0.0.0 2001:db8:6::1/64, public 2001:db8::99',
    ],
    ['the public IPv6 address tells the interface', { publicIpv6: '2001:db8:6::1' }, six],
    [
      'the public IPv4 address goes before it',
      { publicIp: '192.0.2.10', publicIpv6: '2001:db8:6::1' },
      'eth0 192.0.2.10 2001:db8::10/64, public 192.0.2.10, 2001:db8:6::1',
    ],
  ])('%s', (_, options, expected) => {
    expect(both(options)).toBe(expected);
  });

  it('the IPv6 default route is taken where there is none of IPv4', () => {
    expect(both({}, { defaultRoutes: facts.defaultRoutes.slice(1) })).toBe(six);
  });

  it('by which interface an IPv6 address is reached counts, and not the temporary source', () => {
    const reach = { dst: '2001:db8::77', dev: 'eth0', prefsrc: '2001:db8::1:10' };
    expect(both({ canReach: '2001:db8::77' }, { reach })).toBe(eth0Both);
  });

  it.each([
    ['deprecated', inet6('2001:db8::5', { deprecated: true })],
    ['tentative', inet6('2001:db8::5', { tentative: true })],
    ['a duplicate', inet6('2001:db8::5', { dadfailed: true })],
    ['link-local', inet6('fe80::5', { scope: 'link' })],
    ['multicast', inet6('ff05::5')],
    ['loopback', inet6('::1', { scope: 'host' })],
  ])('an IPv6 address that is %s is not chosen', (_, address) => {
    const links = [link(2, 'eth0', [inet('192.0.2.10'), address])];
    expect(both({}, { links })).toBe('eth0 192.0.2.10 none, public 192.0.2.10');
  });

  it('a public IPv6 address that is none is refused', () => {
    expect(() => both({ publicIpv6: '192.0.2.1' })).toThrow('not an IPv6 address');
  });
});
