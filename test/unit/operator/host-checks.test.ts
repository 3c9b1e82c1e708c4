import { describe, expect, it } from 'vitest';
import { backendKind } from '../../../src/backend/select.js';
import { type Prefix, parseIpv4, parsePrefix } from '../../../src/base/ipv4.js';
import { type Finding, runChecks } from '../../../src/operator/doctor/finding.js';
import { nftablesChains } from '../../../src/operator/doctor/firewall/nftables-rules.js';
import { hostChecks } from '../../../src/operator/doctor/host-checks.js';
import {
  type DoctorQuestion,
  type HostFacts,
  parseCapabilities,
  parsePortHolders,
  sysctlsOf,
} from '../../../src/operator/doctor/host-facts.js';
import type { RouteJson } from '../../../src/routes/ip.js';
import type { LinkState } from '../../../src/routes/links.js';
import { installedRoute } from '../../../src/routes/route-table.js';
import { parseSavedRules } from '../../../src/routes/rules/iptables-save.js';

const prefix = (text: string) => parsePrefix(text) as Prefix;

const question: DoctorQuestion = {
  backend: backendKind('udp'),
  port: 8285,
  outerFamilies: [4],
  portV6: 8285,
  device: 'flannel0',
  ownDevices: ['flannel0'],
  network: prefix('10.5.0.0/16'),
  subnet: prefix('10.5.8.0/24'),
  networkV6: null,
  subnetV6: null,
  deviceV6: 'flannel0',
  underlay: {
    name: 'eth0',
    index: 2,
    address: parseIpv4('192.0.2.10') as number,
    prefixLength: 24,
    ipv6: null,
    mtu: 1500,
  },
  rulesMode: 'iptables',
  peers: [],
  daemonPid: 77,
  wantedBuffer: 7_000_000,
  wireguard: null,
};

const vxlan: Partial<DoctorQuestion> = {
  backend: backendKind('vxlan'),
  device: 'flannel.1',
  ownDevices: ['flannel.1', 'flannel0'],
  port: 8472,
};
const hostGw: Partial<DoctorQuestion> = {
  backend: backendKind('host-gw'),
  device: 'eth0',
  ownDevices: ['flannel0'],
  port: null,
};

const link = (name: string, mtu: number, kind: string, ...addresses: string[]): LinkState => ({
  name,
  index: 1,
  up: true,
  mtu,
  txQueueLength: 1000,
  kind,
  data: {},
  hardwareAddress: '',
  addresses: addresses.map(prefix),
});

const routes = (...list: RouteJson[]) => list.flatMap((route) => installedRoute(route));

const saved = (text: string) => [{ program: 'iptables', rules: parseSavedRules(text) }];

const healthy: HostFacts = {
  question,
  tun: 'open',
  capabilities: 1n << 12n,
  initialUserNamespace: true,
  portHolders: [{ address: '192.0.2.10', program: 'node', pid: 77 }],
  sysctls: {
    'net/ipv4/ip_forward': '1',
    'net/ipv4/conf/all/rp_filter': '0',
    'net/ipv4/conf/flannel0/rp_filter': '0',
    'net/core/rmem_max': '212992',
    'net/core/wmem_max': '212992',
    'net/bridge/bridge-nf-call-iptables': '1',
  },
  links: [
    link('lo', 65536, '', '127.0.0.1/8'),
    link('eth0', 1500, '', '192.0.2.10/24'),
    link('flannel0', 1472, 'tun', '10.5.8.0/32'),
    link('docker0', 1450, 'bridge', '10.5.8.1/24'),
  ],
  routes: routes(
    { dst: 'default', gateway: '192.0.2.1', dev: 'eth0' },
    { dst: '10.5.0.0/16', dev: 'flannel0' },
    { dst: '10.5.8.0/24', dev: 'docker0', protocol: 'kernel' },
    { dst: '10.5.8.0/24', type: 'blackhole', metric: 4294967295 },
    { dst: '10.0.0.0/8', gateway: '192.0.2.1', dev: 'eth0' },
  ),
  iptables: saved('*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\nCOMMIT\n'),
  ip6tables: [],
  bothIptables: false,
  nftables: null,
  present: 'none',
  kernelRelease: '6.18.44-cloud-amd64',
  udp: { received: 1_000_000, checksumErrors: 3 },
};

const examine = (facts: Partial<HostFacts>, about: Partial<DoctorQuestion> = {}) =>
  runChecks(hostChecks, { ...healthy, ...facts, question: { ...question, ...about } });
const troubles = (facts: Partial<HostFacts>, about: Partial<DoctorQuestion> = {}): readonly Finding[] =>
  examine(facts, about).filter(({ level }) => level !== 'ok');
/** The one thing that is wrong, as one line. */
const trouble = (facts: Partial<HostFacts>, about: Partial<DoctorQuestion> = {}) => {
  const found = troubles(facts, about);
  expect(found).toHaveLength(1);
  const [{ id, level, text, fix }] = found as [Finding];
  return `${level} ${id}: ${text} → ${fix}`;
};
const sysctl = (more: Record<string, string | null>) => ({ sysctls: { ...healthy.sysctls, ...more } });

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
  const holder = (program: string, pid: number | null) => ({ portHolders: [{ address: '0.0.0.0', program, pid }] });

  it('is held by the kernel itself while the device is there', () => {
    expect(troubles(holder('', null), vxlan)).toEqual([]);
  });

  it('may not be held by a program', () => {
    expect(trouble(holder('socat', 4711), vxlan)).toContain('UDP port 8472 is held by socat (process 4711)');
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
      { address: '192.0.2.10', program: 'flanneld', pid: 812 },
      { address: '127.0.0.1', program: '', pid: null },
      { address: '::', program: 'x y', pid: 9 },
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

describe('iptables firewall', () => {
  const filter = (text: string) => ({ iptables: saved(`*filter\n${text}\nCOMMIT\n`) });
  const dropIn = ':INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]';

  it.each([
    ['-A INPUT -p udp -m udp --dport 8285 -j ACCEPT'],
    ['-A INPUT -s 192.0.2.0/24 -p udp -m multiport --dports 53,8000:9000 -j ACCEPT'],
    [':ufw-user-input - [0:0]\n-A INPUT -j ufw-user-input\n-A ufw-user-input -p udp -m udp --dport 8285 -j ACCEPT'],
  ])('lets the port in: %s', (rule) => {
    expect(troubles(filter(`${dropIn}\n${rule}`))).toEqual([]);
  });

  it.each([
    [''],
    ['-A INPUT -i lo -j ACCEPT'],
    ['-A INPUT -p tcp -m tcp --dport 8285 -j ACCEPT'],
    ['-A INPUT -p udp -m udp --dport 8472 -j ACCEPT'],
    ['-A INPUT -p udp -m udp --dport 8285 -j DROP'],
  ])('does not: %s', (rule) => {
    expect(trouble(filter(`${dropIn}\n${rule}`))).toContain('iptables -I INPUT -p udp --dport 8285 -j ACCEPT');
  });

  it('that refuses by its last rule, or is ufw’s', () => {
    const last =
      ':INPUT ACCEPT [0:0]\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -j REJECT --reject-with icmp-host-prohibited';
    expect(trouble(filter(last))).toContain('fail firewall-input');
    expect(trouble(filter(`${dropIn}\n:ufw-before-input - [0:0]`))).toContain('ufw allow 8285/udp');
    expect(troubles(filter(dropIn), hostGw)).toEqual([]);
  });

  it('forwards only with FLANNEL-FWD before what refuses', () => {
    const drop = ':INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:FLANNEL-FWD - [0:0]';
    const own = ['-s', '-d'].map((side) => `-A FLANNEL-FWD ${side} 10.5.0.0/16 -j ACCEPT`);
    const jump = ['-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD', ...own].join('\n');
    const reject = '-A FORWARD -j REJECT --reject-with icmp-port-unreachable';
    expect(trouble(filter(drop))).toContain('no jump to FLANNEL-FWD');
    expect(troubles(filter(`${drop}\n${jump}`))).toEqual([]);
    expect(troubles(filter(`${drop}\n${jump}\n${reject}`))).toEqual([]);
    expect(trouble(filter(`${drop}\n${reject}\n${jump}`))).toContain('before the jump to FLANNEL-FWD');
    expect(troubles(filter(`${drop}\n-A FORWARD -s 10.0.0.0/8 -j ACCEPT`))).toEqual([]);
    expect(trouble(filter(drop), { rulesMode: 'nftables' })).toContain('whatever nftables accepts');
  });

  it('is asked for, and in two variants told of', () => {
    expect(trouble({ iptables: [], nftables: [] })).toContain('apt-get install iptables');
    expect(troubles({ iptables: [], nftables: [] }, { rulesMode: 'nftables' })).toEqual([]);
    expect(trouble({ bothIptables: true })).toContain('iptables-legacy-save');
  });
});

describe('nftables firewall', () => {
  const match = (field: string, right: unknown) => ({
    match: { op: '==', left: { payload: { protocol: field === 'dport' ? 'udp' : 'ip', field } }, right },
  });
  const ruleset = (table: string, hook: string, policy: string, ...rules: object[][]) => ({
    nftables: nftablesChains(
      JSON.stringify({
        nftables: [
          { metainfo: {} },
          { chain: { family: 'inet', table, name: 'c', hook, policy, prio: 0, type: 'filter' } },
          { chain: { family: 'inet', table, name: 'sub' } },
          ...rules.map((expr) => ({ rule: { family: 'inet', table, chain: 'c', expr } })),
        ],
      }),
    ),
  });

  it('lets the port in by number, set or range, or not at all', () => {
    expect(trouble(ruleset('filter', 'input', 'drop'))).toContain(
      'nft insert rule inet filter c udp dport 8285 accept',
    );
    for (const right of [8285, { set: [53, 8285] }, { range: [8000, 9000] }, { set: [{ range: [8285, 8286] }] }]) {
      expect(troubles(ruleset('filter', 'input', 'drop', [match('dport', right), { accept: null }]))).toEqual([]);
    }
    expect(trouble(ruleset('filter', 'input', 'drop', [match('dport', 53), { accept: null }]))).toContain('8285');
    expect(troubles(ruleset('filter', 'input', 'accept'))).toEqual([]);
  });

  it('knows firewalld, which refuses by its last rule', () => {
    const reject = [{ reject: { type: 'icmpx', expr: 'admin-prohibited' } }];
    expect(trouble(ruleset('firewalld', 'input', 'accept', reject))).toContain(
      'firewall-cmd --permanent --add-port=8285/udp',
    );
    expect(trouble(ruleset('firewalld', 'forward', 'accept', reject))).toContain(
      '--zone=trusted --add-source=10.5.0.0/16',
    );
  });

  it('lets a network through by the chain to which its packets go', () => {
    const to = (target: string, ...accepting: unknown[]) =>
      troubles({
        nftables: nftablesChains(
          JSON.stringify({
            nftables: [
              { chain: { family: 'inet', table: 't', name: 'c', hook: 'forward', policy: 'drop', type: 'filter' } },
              { rule: { family: 'inet', table: 't', chain: 'trusted', expr: accepting } },
              {
                rule: {
                  family: 'inet',
                  table: 't',
                  chain: 'c',
                  expr: [match('saddr', '10.5.0.0/16'), { goto: { target } }],
                },
              },
            ],
          }),
        ),
      });
    expect(to('trusted', { accept: null })).toEqual([]);
    expect(to('elsewhere', { accept: null })).toHaveLength(1);
    expect(to('trusted', match('dport', 22), { accept: null })).toHaveLength(1);
  });

  it('forwards the network, or not', () => {
    expect(trouble(ruleset('mine', 'forward', 'drop'))).toContain(
      'nft insert rule inet mine c ip saddr 10.5.0.0/16 accept',
    );
    const accept = [match('saddr', { prefix: { addr: '10.0.0.0', len: 8 } }), { accept: null }];
    expect(troubles(ruleset('mine', 'forward', 'drop', accept))).toEqual([]);
  });
});
