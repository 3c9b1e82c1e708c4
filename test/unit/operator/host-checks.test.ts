import { describe, expect, it } from 'vitest';
import { backendKind } from '../../../src/backend/select.js';
import { parseIpv6Prefix } from '../../../src/base/ipv6.js';
import { runChecks } from '../../../src/operator/doctor/finding.js';
import { hostChecks } from '../../../src/operator/doctor/host-checks.js';
import {
  type DoctorQuestion,
  type HostFacts,
  parseCapabilities,
  parsePortHolders,
  sysctlsOf,
} from '../../../src/operator/doctor/host-facts.js';
import type { RouteJson } from '../../../src/routes/ip.js';
import {
  examine,
  healthy,
  hostGw,
  link,
  prefix,
  question,
  routes,
  saved,
  sysctl,
  trouble,
  troubles,
  vxlan,
} from './support/healthy-host.js';

describe('checksums', () => {
  const bad = { udp: { received: 100, checksumErrors: 60 } };

  it('that are wrong are told, with the device to mend on the hosts that send', () => {
    expect(trouble(bad)).toMatch(/60 datagrams came with a wrong UDP checksum.* → ethtool -K eth0 tx-checksum-ip-gen/);
    expect(trouble(bad, vxlan)).toContain('ethtool -K flannel.1 tx-checksum');
    expect(trouble(bad)).toMatch(/Linux 7\.0 to 7\.1\.4 .*virtual machines.* → .*--udp-gso=off/);
    expect(trouble(bad, vxlan)).not.toContain('udp-gso');
  });

  it('do not matter without a tunnel', () => {
    expect(troubles(bad, hostGw)).toEqual([]);
  });
});

describe('a device of the overlay’s name', () => {
  it.each<[HostFacts['present'], number | null, string | null]>([
    ['none', null, null],
    ['left over', null, null],
    ['held', 77, null],
    ['held', null, 'another process holds flannel0'],
    ['several queues', null, '→ ip tuntap del dev flannel0 mode tun multi_queue'],
    ['no tun', 77, '→ ip link del flannel0'],
    ['in use', null, '→ choose another -device'],
  ])('is judged: %s, with daemon %s', (present, daemonPid, expected) => {
    const found = troubles({ present }, { daemonPid }).filter(({ id }) => id === 'overlay-device');
    expect(found.map(({ text, fix }) => `${text} → ${fix}`)).toEqual(
      expected === null ? [] : [expect.stringContaining(expected)],
    );
  });

  it('does not matter to a backend that makes another', () => {
    expect(troubles({ present: 'no tun' }, vxlan)).toEqual([]);
  });
});

describe('the port of vxlan', () => {
  const holder = (program: string, pid: number | null) => ({
    portHolders: [{ port: 8472, address: '0.0.0.0', program, pid }],
  });

  it('is held by the kernel itself while the device is there', () => {
    expect(troubles(holder('', null), vxlan)).toEqual([]);
  });

  it('may not be held by a program', () => {
    expect(trouble(holder('socat', 4711), vxlan)).toContain('UDP port 8472 is held by socat (process 4711)');
  });
});

describe('the ports of wireguard with a device for each family', () => {
  const both = {
    ...{ backend: backendKind('wireguard'), port: 51_820, portV6: 51_821 },
    networkV6: parseIpv6Prefix('fd00::/48'),
  };
  const holder = (port: number) => ({ portHolders: [{ port, address: '*', program: 'socat', pid: 4711 }] });

  const held = (port: number, change = {}) =>
    troubles(holder(port), { ...both, ...change }).flatMap(({ id, text }) => (id === 'udp-port' ? [text] : []));

  it('are both looked at', () => {
    for (const port of [51_820, 51_821]) expect(held(port)).toEqual([expect.stringContaining(`port ${port} is held`)]);
    expect(held(51_822)).toEqual([]);
  });

  it('are one where there is one family', () => {
    expect(held(51_821, { networkV6: null })).toEqual([]);
  });
});

describe('a healthy host', () => {
  it('has nothing to mend, whatever the backend', () => {
    expect(troubles({})).toEqual([]);
    expect(examine({}).map(({ id }) => id)).toEqual(Object.keys(hostChecks).filter((id) => id !== 'wireguard'));
    expect(troubles({}, hostGw)).toEqual([]);
    expect(troubles({}, vxlan)).toEqual([]);
    expect(troubles({}, { network: null, subnet: null, underlay: null, daemonPid: 77 })).toEqual([]);
  });

  it('every finding that is not ok says how to mend it', () => {
    const sick = troubles({
      tun: 'missing',
      capabilities: 0n,
      portHolders: null,
      sysctls: {},
      iptables: [],
      kernelRelease: '7.1.4',
      links: [link('eth9', 1500, '', '10.5.77.1/24')],
    });
    expect(sick.length).toBeGreaterThan(7);
    for (const { fix, level } of sick) if (level !== 'skip') expect(fix).not.toBe('');
  });

  it('is one line to a user who may not look at the rest', () => {
    const seen = troubles({ tun: 'denied', capabilities: 0n, iptables: [], nftables: null });
    expect(seen.filter(({ level }) => level === 'fail').map(({ id }) => id)).toEqual(['capability-net-admin']);
    const skipped = seen.filter(({ level }) => level === 'skip').map(({ id }) => id);
    expect(skipped).toEqual([
      'tun-device',
      'iptables-variants',
      'firewall-input',
      'firewall-output',
      'firewall-forward',
    ]);
  });
});

describe('the wireguard backend', () => {
  const answer = { engine: 'user', reason: 'the kernel has no WireGuard', unanswered: 0, strangers: [] };
  const about: Partial<DoctorQuestion> = {
    backend: backendKind('wireguard'),
    device: 'flannel-wg',
    ownDevices: ['flannel-wg'],
    port: 51_820,
    wireguard: answer,
  };
  const texts = (facts: Partial<HostFacts>, more: Partial<DoctorQuestion> = {}) =>
    examine(facts, { ...about, ...more }).map(({ id, level, text }) => `${level} ${id}: ${text}`);

  it('tells who encrypts, and why', () => {
    expect(texts({})).toContain('ok wireguard: the daemon encrypts itself: the kernel has no WireGuard');
    const kernel = { ...answer, engine: 'kernel', reason: '' };
    expect(texts({}, { wireguard: kernel })).toContain('ok wireguard: the kernel encrypts');
  });

  it('needs a TUN device where the daemon encrypts, may need one where nobody can tell, and else none', () => {
    const judged = (wireguard: DoctorQuestion['wireguard']) =>
      texts({ tun: 'missing', present: 'no tun' }, { wireguard }).filter((text) =>
        /tun-device|overlay-device/.test(text),
      );
    expect(judged(answer)).toEqual([
      expect.stringMatching(/^fail tun-device: .*does not exist/),
      expect.stringMatching(/^fail overlay-device: flannel-wg exists/),
    ]);
    expect(judged(null)).toEqual([expect.stringMatching(/^warn tun-device: .*where the kernel has no WireGuard/)]);
    expect(judged({ ...answer, engine: 'kernel' })).toEqual([]);
  });

  it('names peers that never answered', () => {
    const strangers = ['192.0.2.3', '192.0.2.4'];
    const found = (wireguard: DoctorQuestion['wireguard']) =>
      troubles({}, { ...about, wireguard }).filter(({ id }) => id === 'wireguard');
    expect(found({ ...answer, strangers })).toEqual([]);
    expect(found({ ...answer, strangers, unanswered: 2 })).toMatchObject([
      { id: 'wireguard', text: expect.stringContaining('192.0.2.3, 192.0.2.4'), fix: 'tweed ping 192.0.2.3' },
    ]);
    const many = Array.from({ length: 9 }, (_, i) => `192.0.2.${i}`);
    expect(found({ ...answer, strangers: many, unanswered: 1 })[0]?.text).toContain('192.0.2.2 and others');
  });
});

describe('device, privileges and port', () => {
  it.each([
    ['missing', 'modprobe tun && mkdir'],
    ['denied', 'chmod'],
    ['broken', 'modprobe tun'],
  ] as const)('/dev/net/tun is %s', (tun, fix) => {
    expect(trouble({ tun })).toContain(fix);
    expect(troubles({ tun }, hostGw)).toEqual([]);
  });

  it('reads capabilities', () => {
    expect(parseCapabilities('Name:\tnode\nCapEff:\t0000000000001000\n')).toBe(1n << 12n);
    expect(parseCapabilities('')).toBe(0n);
    expect(troubles({ capabilities: ~(1n << 12n) & 0xffffffn })[0]?.id).toBe('capability-net-admin');
  });

  it('finds who holds the port', () => {
    const ss =
      'UNCONN 0      0        192.0.2.10:8285      0.0.0.0:*    users:(("flanneld",pid=812,fd=9))\n' +
      'UNCONN 0      0      127.0.0.1%lo:8285      0.0.0.0:*\n' +
      'UNCONN 0      0              [::]:8285         [::]:*    users:(("x y",pid=9,fd=3),("x y",pid=10,fd=3))\n';
    const holders = parsePortHolders(ss);
    expect(holders).toEqual([
      { port: 8285, address: '192.0.2.10', program: 'flanneld', pid: 812 },
      { port: 8285, address: '127.0.0.1', program: '', pid: null },
      { port: 8285, address: '::', program: 'x y', pid: 9 },
    ]);
    expect(trouble({ portHolders: holders })).toContain('held by flanneld (process 812) on 192.0.2.10 → kill 812');
    expect(troubles({ portHolders: holders.slice(1, 2) })).toEqual([]);
    expect(trouble({ portHolders: holders.slice(2) })).toContain('x y (process 9)');
    expect(trouble({}, { daemonPid: null })).toContain('node (process 77)');
  });
});

describe('sysctls', () => {
  it('forwarding', () => {
    expect(trouble(sysctl({ 'net/ipv4/ip_forward': '0' }))).toContain('sysctl -w net.ipv4.ip_forward=1');
  });

  it('reverse path filter: the larger of all and device counts, loose is fine', () => {
    expect(trouble(sysctl({ 'net/ipv4/conf/all/rp_filter': '1' }))).toContain('net.ipv4.conf.flannel0.rp_filter=2');
    expect(trouble(sysctl({ 'net/ipv4/conf/flannel0/rp_filter': '1' }))).toContain('warn rp-filter');
    expect(troubles(sysctl({ 'net/ipv4/conf/all/rp_filter': '1', 'net/ipv4/conf/flannel0/rp_filter': '2' }))).toEqual(
      [],
    );
    expect(
      trouble(sysctl({ 'net/ipv4/conf/flannel0/rp_filter': null, 'net/ipv4/conf/default/rp_filter': '1' })),
    ).toContain('rp-filter');
    expect(sysctlsOf(question)).toContain('net/ipv4/conf/eth0/rp_filter');
  });

  it('buffers matter only where they cannot be forced', () => {
    expect(trouble({ initialUserNamespace: false })).toContain(
      'sysctl -w net.core.rmem_max=7000000 && sysctl -w net.core.wmem_max=7000000',
    );
    expect(
      troubles({
        initialUserNamespace: false,
        ...sysctl({ 'net/core/rmem_max': '8000000', 'net/core/wmem_max': '7000000' }),
      }),
    ).toEqual([]);
  });

  it('bridge netfilter is a hint', () => {
    expect(trouble(sysctl({ 'net/bridge/bridge-nf-call-iptables': null }))).toContain('modprobe br_netfilter');
  });
});

describe('overlapping networks', () => {
  it('by an address', () => {
    const links = [...healthy.links, link('eth1', 1500, '', '10.5.77.3/24')];
    expect(trouble({ links })).toContain('overlaps the address 10.5.77.3/24 of eth1');
    expect(trouble({ links: [link('wide', 1500, '', '10.0.0.1/8')] })).toContain('10.0.0.1/8 of wide');
    expect(trouble({ links: [link('cni0', 1400, 'bridge', '10.5.9.1/24')] })).toContain('10.5.9.1/24 of cni0');
    expect(troubles({ links: [link('cni0', 1400, 'bridge', '10.5.9.1/24')] }, { subnet: null })).toEqual([]);
  });

  it('by the underlay itself, for host-gw too', () => {
    const links = [link('eth0', 1500, '', '10.5.1.1/24')];
    for (const about of [hostGw, {}]) {
      expect(trouble({ links, routes: [] }, about)).toMatch(
        /10\.5\.1\.1\/24 of eth0: hosts .* beyond the link.* are cut off/,
      );
    }
  });

  it('is mended by a network that is free here', () => {
    const links = [link('eth1', 1500, '', '10.5.77.3/24'), link('cni', 1500, '', '10.244.9.1/24')];
    const routes = healthy.routes.filter(({ destination }) => destination.length !== 8);
    expect(trouble({ links: links.slice(0, 1), routes })).toContain(
      '{"Network":"10.244.0.0/16","Backend":{"Type":"udp"}}',
    );
    expect(trouble({ links, routes }, { ...vxlan, underlay: null })).toContain(
      '{"Network":"100.96.0.0/16","Backend":{"Type":"vxlan"}}',
    );
    expect(trouble({ links: links.slice(0, 1) })).toContain('"Network":"100.96.0.0/16"'); // 10.0.0.0/8 is routed
  });

  it('by a route', () => {
    const with1 = (route: RouteJson) => ({ routes: [...healthy.routes, ...routes(route)] });
    expect(trouble(with1({ dst: '10.5.3.0/24', gateway: '192.0.2.3', dev: 'eth0' }))).toContain(
      'the route 10.5.3.0/24 dev eth0',
    );
    expect(trouble(with1({ dst: '10.5.3.0/24', type: 'unreachable' }))).toContain(
      'ip route del unreachable 10.5.3.0/24',
    );
    const peer = with1({ dst: '10.5.3.0/24', gateway: '192.0.2.3', dev: 'eth0' });
    expect(troubles(peer, hostGw)).toEqual([]);
  });
});

describe('what is advised', () => {
  const everyNetwork = ['192.0.2.10/24', '10.43.1.1/24'];
  const sickHosts: readonly [Partial<HostFacts>, Partial<DoctorQuestion>][] = [
    [{ tun: 'missing', capabilities: 0n, sysctls: {}, iptables: [], kernelRelease: '7.1.4' }, {}],
    [
      { links: [link('eth0', 1500, '', '10.43.1.1/24')] },
      { network: prefix('10.0.0.0/8'), subnet: prefix('10.5.8.0/24') },
    ],
    [{ links: [link('eth0', 1500, '', ...everyNetwork), link('eth1', 1500, '', '10.5.7.1/24')] }, {}],
    [{ links: [link('eth0', 1500, '', '10.5.1.1/24')] }, hostGw],
    [{ routes: routes({ dst: '10.5.3.0/24', gateway: '192.0.2.3', dev: 'eth0' }) }, {}],
    [{ routes: routes({ dst: '10.5.0.0/17', dev: 'eth0', protocol: 'static' }) }, vxlan],
    [{ iptables: saved('*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\nCOMMIT\n') }, {}],
  ];

  it.each(sickHosts)('never cuts the host off: %#', (facts, about) => {
    const found = troubles(facts, about);
    expect(found.length).toBeGreaterThan(0);
    for (const { fix } of found) {
      expect(fix).not.toMatch(
        /ip (address|addr|link) (del|flush)|link set \S+ down|ip route (del|flush) (?!blackhole|unreachable)|-F\b|flush ruleset/,
      );
    }
  });

  it('removes a route only where it leads nowhere', () => {
    const with1 = (type: string) => ({ routes: routes({ dst: '10.5.3.0/24', type }) });
    expect(trouble(with1('unreachable'))).toContain('→ ip route del unreachable 10.5.3.0/24');
  });
});

describe('MTU', () => {
  it('of the device and of container bridges', () => {
    const links = [link('flannel0', 1500, 'tun', '10.5.8.0/32')];
    expect(trouble({ links })).toContain('only 1472 fit through eth0 (1500 − 28) → ip link set dev flannel0 mtu 1472');
    const bridge = [link('flannel0', 1472, 'tun'), link('docker0', 1500, 'bridge', '10.5.8.1/24')];
    expect(trouble({ links: bridge })).toContain('docker0 has MTU 1500, the overlay 1472');
    const other = [link('flannel0', 1472, 'tun'), link('br-x', 1500, 'bridge', '172.18.0.1/16')];
    expect(troubles({ links: other })).toEqual([]);
    expect(trouble({ links: bridge.slice(1) })).toContain('the overlay 1472');
  });
});

describe('the kernel', () => {
  it.each([
    ['6.18.44', null],
    ['7.0.0-rc1', '--udp-gso at auto'],
    ['7.0.2-6-pve', '--udp-gso at auto'],
    ['7.1.4', 'mended in 7.1.5'],
    ['7.1.5', null],
    ['6.6.43', null],
    ['6.6.44', 'tun-tso=off'],
    ['6.6.46', null],
    ['6.10.3', 'tun-tso=off'],
    ['6.10.5', null],
  ])('%s', (kernelRelease, fix) => {
    if (fix === null) expect(troubles({ kernelRelease })).toEqual([]);
    else expect(trouble({ kernelRelease })).toContain(fix);
  });

  it('is told with what it has less of, which needs no mending', () => {
    const told = (kernelRelease: string) =>
      runChecks(hostChecks, { ...healthy, kernelRelease }).find(({ id }) => id === 'kernel');
    expect(told('6.1.192')).toMatchObject({
      level: 'ok',
      text: expect.stringMatching(/no UDP super-packets.*64 datagrams/),
    });
    expect(told('6.18.44')?.text).not.toContain(';');
  });
});
