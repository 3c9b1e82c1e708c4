/** A host with nothing wrong, and what the checks find when something of it is changed. */
import { expect } from 'vitest';
import { backendKind } from '../../../../src/backend/select.js';
import { type Prefix, parseIpv4, parsePrefix } from '../../../../src/base/ipv4.js';
import { type Finding, runChecks } from '../../../../src/operator/doctor/finding.js';
import { hostChecks } from '../../../../src/operator/doctor/host-checks.js';
import type { DoctorQuestion, HostFacts } from '../../../../src/operator/doctor/host-facts.js';
import type { RouteJson } from '../../../../src/routes/ip.js';
import type { LinkState } from '../../../../src/routes/links.js';
import { installedRoute } from '../../../../src/routes/route-table.js';
import { parseSavedRules } from '../../../../src/routes/rules/iptables-save.js';

export const prefix = (text: string) => parsePrefix(text) as Prefix;

export const question: DoctorQuestion = {
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

export const vxlan: Partial<DoctorQuestion> = {
  backend: backendKind('vxlan'),
  device: 'flannel.1',
  ownDevices: ['flannel.1', 'flannel0'],
  port: 8472,
};
export const hostGw: Partial<DoctorQuestion> = {
  backend: backendKind('host-gw'),
  device: 'eth0',
  ownDevices: ['flannel0'],
  port: null,
};

export const link = (name: string, mtu: number, kind: string, ...addresses: string[]): LinkState => ({
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

export const routes = (...list: RouteJson[]) => list.flatMap((route) => installedRoute(route));

export const saved = (text: string) => [{ program: 'iptables', rules: parseSavedRules(text) }];

export const healthy: HostFacts = {
  question,
  tun: 'open',
  capabilities: 1n << 12n,
  initialUserNamespace: true,
  portHolders: [{ port: 8285, address: '192.0.2.10', program: 'node', pid: 77 }],
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

export const examine = (facts: Partial<HostFacts>, about: Partial<DoctorQuestion> = {}) =>
  runChecks(hostChecks, { ...healthy, ...facts, question: { ...question, ...about } });
export const troubles = (facts: Partial<HostFacts>, about: Partial<DoctorQuestion> = {}): readonly Finding[] =>
  examine(facts, about).filter(({ level }) => level !== 'ok');
/** The one thing that is wrong, as one line. */
export const trouble = (facts: Partial<HostFacts>, about: Partial<DoctorQuestion> = {}) => {
  const found = troubles(facts, about);
  expect(found).toHaveLength(1);
  const [{ id, level, text, fix }] = found as [Finding];
  return `${level} ${id}: ${text} → ${fix}`;
};
export const sysctl = (more: Record<string, string | null>) => ({ sysctls: { ...healthy.sysctls, ...more } });
