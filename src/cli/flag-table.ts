import { isIP, isIPv6 } from 'node:net';
import { parseAddress } from '../base/address.js';
import { parseIpv4 } from '../base/ipv4.js';
import { whyNoHosts } from '../base/no-hosts.js';
import { shown } from '../base/printable.js';
import { REDACTED, redactUrls } from '../base/redact.js';
import type { Flag } from './flags.js';

/** Every flag of `tweed run` and `flanneld`: flannel's with flannel's names and defaults, then tweed's own. */

const within = (low: number, high: number) => (value: number) =>
  value >= low && value <= high ? null : `must be ${low} to ${high}`;

const oneOf =
  (...choices: string[]) =>
  (text: string) =>
    choices.includes(text) ? null : `must be one of ${choices.join(', ')}`;

const ipv4Address = (text: string) => (parseIpv4(text) === null ? 'must be an IPv4 address such as 192.0.2.1' : null);
const ipv6Address = (text: string) => (isIPv6(text) ? null : 'must be an IPv6 address such as 2001:db8::1');
/** Peers refuse a lease with such an address, and this host would not hear of it. */
const hostAddress = (rule: (text: string) => string | null) => (text: string) => {
  const why = rule(text) ?? whyNoHosts(parseAddress(text) ?? 0);
  return why === ''
    ? null
    : why.startsWith('must')
      ? why
      : `must be an address that other hosts can send to; this is ${why}`;
};
const anyAddress = (text: string) =>
  isIP(text) || text === '' ? null : 'must be an IPv4 or IPv6 address, or empty for all of them';
const anyPath = (text: string) => (text === '' ? 'must be the name of a file' : null);
const oneInterface = (text: string) =>
  text.includes(',') || text === ''
    ? 'must be the name or the address of one interface; repeat it to give another'
    : null;
const absolutePath = (text: string) => (text.startsWith('/') ? null : 'must be an absolute path');

/** Go writes "ignore case" into the pattern, JavaScript beside it; the interface choice knows both. */
const regularExpression = (text: string) => {
  try {
    new RegExp(text.replace(/^\(\?[ims]+\)/, ''));
    return null;
  } catch (error) {
    return `must be a regular expression (${(error as Error).message})`;
  }
};

/** The kernel counts bytes; `all` and `default` are its words for every device (/proc/sys/net/ipv4/conf). */
const deviceName = (text: string) =>
  /^[^\s/:%]+$/.test(text) && Buffer.byteLength(text) <= 15 && !['.', '..', 'all', 'default'].includes(text)
    ? null
    : 'must be a name for a network device: 1 to 15 bytes without space, slash, colon or percent sign, and not all or default';

const endpoints = (text: string) => {
  const list = splitEndpoints(text);
  const directories = list.filter((endpoint) => endpoint.startsWith('file://'));
  if (directories.length > 0 && list.length > 1) return 'must be either one file:// directory or a list of etcd URLs';
  if (list.some((endpoint) => endpoint.includes('@'))) {
    return 'must be without user and password; give them as -etcd-username and FLANNELD_ETCD_PASSWORD';
  }
  const rule = 'must be a comma-separated list of etcd servers such as http://10.0.0.1:2379, or file:///DIRECTORY';
  if (list.length === 0) return rule;
  const bad = list.find((endpoint) => !isEndpoint(endpoint));
  return bad === undefined ? null : `${rule}; ${shown(bad)} is none`;
};

/** The entries of the list; those that are empty, as behind a last comma, do not count, as with flanneld. */
export function splitEndpoints(text: string): string[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

/** etcd clients take a URL, and a host with or without its port. */
function isEndpoint(text: string): boolean {
  if (text.startsWith('file://')) return /^file:\/\/\/[^/]/.test(text);
  const url = tryUrl(/^[a-z]+:\/\//i.test(text) ? text : `http://${text}`);
  if (url === null || !/^https?:$/.test(url.protocol) || url.hostname === '') return false;
  return /^\/?$/.test(url.pathname) && url.search === '' && url.hash === '' && !/\s/.test(text);
}

function tryUrl(text: string): URL | null {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}

export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace'] as const;
const logLevel = oneOf(...LOG_LEVELS);

/** `env` only where the variable is not called by the flag's name. */
type WithoutGroup<Each> = Each extends unknown ? Omit<Each, 'group' | 'env'> & { readonly env?: string } : never;
type Row = WithoutGroup<Flag>;
type Of<Kind extends Flag['kind']> = Extract<Row, { readonly kind: Kind }>;
type More<Kind extends Flag['kind']> = Pick<Of<Kind>, 'rule' | 'show' | 'hidden' | 'env'>;

/** A flag: its name, what stands for its value in the help text, its default, the help. */
const text = (name: string, placeholder: string, standard: string, help: string, more: More<'string'> = {}): Row => {
  return { name, kind: 'string', default: standard, placeholder, help, ...more };
};
const integer = (name: string, placeholder: string, standard: number, help: string, more: More<'integer'>): Row => {
  return { name, kind: 'integer', default: standard, placeholder, help, ...more };
};
const list = (name: string, placeholder: string, help: string, more: More<'strings'> = {}): Row => {
  return { name, kind: 'strings', default: [], placeholder, help, ...more };
};
const yesOrNo = (name: string, standard: boolean, help: string, more: More<'boolean'> = {}): Row => {
  return { name, kind: 'boolean', default: standard, help, ...more };
};

const flannelFlags: readonly Row[] = [
  text(
    'etcd-endpoints',
    'URL,…',
    'http://127.0.0.1:4001,http://127.0.0.1:2379',
    'etcd servers, separated by commas; or file:///DIRECTORY for a registry without a server',
    { rule: endpoints, show: redactUrls },
  ),
  text('etcd-prefix', 'KEY', '/coreos.com/network', 'where in etcd the network is kept'),
  text('etcd-keyfile', 'FILE', '', "key of the client's TLS certificate"),
  text('etcd-certfile', 'FILE', '', "the client's TLS certificate"),
  text('etcd-cafile', 'FILE', '', 'certificate authority of the etcd servers; enough by itself for TLS'),
  text('etcd-username', 'NAME', '', 'user name for etcd'),
  text(
    'etcd-password',
    'PASSWORD',
    '',
    'password for etcd; better given by the variable, which other users cannot see',
    { show: () => REDACTED },
  ),
  list(
    'iface',
    'NAME|IP',
    'interface for traffic between hosts; repeat it to name others to fall back to (default: that of the default route)',
    { rule: oneInterface },
  ),
  list('iface-regex', 'REGEX', 'like -iface, by a pattern matched against addresses, then names; after all -iface', {
    rule: regularExpression,
  }),
  text('iface-can-reach', 'IP', '', 'use the interface by which the kernel would reach this address', {
    rule: ipv4Address,
  }),
  text('subnet-file', 'FILE', '/run/flannel/subnet.env', 'where to write the subnet and MTU for Docker or CNI', {
    rule: anyPath,
  }),
  text('public-ip', 'IP', '', "address under which other hosts reach this one (default: the interface's)", {
    rule: hostAddress(ipv4Address),
  }),
  text('public-ipv6', 'IP', '', 'the same for IPv6, where the network has it', {
    rule: hostAddress(ipv6Address),
  }),
  integer('subnet-lease-renew-margin', 'MINUTES', 60, 'renew the lease this long before it ends', {
    rule: within(1, 1439),
  }),
  yesOrNo('ip-masq', false, 'masquerade traffic that leaves the overlay network'),
  yesOrNo('ip-masq-fully-random-disable', false, 'do not randomise source ports when masquerading'),
  text('healthz-ip', 'IP', '0.0.0.0', 'address of the health and metrics server', { rule: anyAddress }),
  integer('healthz-port', 'PORT', 0, 'port of the health and metrics server; 0 turns it off', {
    rule: within(0, 65535),
  }),
  integer('iptables-resync', 'SECONDS', 5, 'how often rules, routes and addresses are checked and mended', {
    rule: within(1, 86400),
  }),
  yesOrNo('iptables-forward-rules', true, 'accept forwarded traffic of the overlay network'),
  yesOrNo(
    'ip-blackhole-route',
    false,
    "add a blackhole route for this host's subnet, so that packets to absent containers go nowhere else",
  ),
];

const loggingFlags: readonly Row[] = [
  integer('v', 'LEVEL', 0, 'log level as a number: 0 is info, 1 to 5 debug, more is trace', { rule: within(0, 99) }),
  text('vmodule', 'PATTERN=N,…', '', 'accepted for compatibility; has no effect'),
  text('log_backtrace_at', 'FILE:LINE', '', 'accepted for compatibility; has no effect'),
];

const KUBERNETES_RULE = 'belongs to Kubernetes mode, which tweed does not have; leave it out and give -etcd-endpoints';
const refused = (name: string, standard: string) =>
  text(name, '', standard, '', { rule: (value) => (value === standard ? null : KUBERNETES_RULE) });
const refusedSwitch = (name: string, standard: boolean) =>
  yesOrNo(name, standard, '', { rule: (value) => (value === standard ? null : KUBERNETES_RULE) });

/** Refused by their rule unless they only repeat flanneld's default, which asks for nothing. */
const kubernetesFlags: readonly Row[] = [
  refusedSwitch('kube-subnet-mgr', false),
  refused('kube-api-url', ''),
  refused('kubeconfig-file', ''),
  refused('kube-annotation-prefix', 'flannel.alpha.coreos.com'),
  refused('net-config-path', '/etc/kube-flannel/net-conf.json'),
  refusedSwitch('set-node-network-unavailable', true),
];

const offload = (name: string, what: string) =>
  text(name, 'auto|on|off', 'auto', what, { rule: oneOf('auto', 'on', 'off') });

const tweedFlags: readonly Row[] = [
  text('device', 'NAME', 'flannel0', 'name of the TUN device', { rule: deviceName }),
  text('run-dir', 'DIR', '/run/tweed', 'directory of the status socket and the peer cache', { rule: absolutePath }),
  yesOrNo(
    'check-senders',
    true,
    'accept datagrams from the addresses of current peers only; turn it off for peers behind an odd NAT',
  ),
  offload('tun-tso', 'read and write TCP super-packets at the TUN device'),
  offload('tun-uso', 'read and write UDP super-packets at the TUN device (Linux 6.2)'),
  offload('udp-gso', 'send many datagrams with one system call, cut up by the kernel (UDP_SEGMENT)'),
  offload('udp-gro', 'receive runs of datagrams in one piece (UDP_GRO)'),
  offload('udp-batch', 'receive several messages with one system call (recvmmsg)'),
  text(
    'forwarder-threads',
    'auto|1|2',
    'auto',
    'one thread for each direction, or one for both; auto: one where at most two processors may be used',
    { rule: oneOf('auto', '1', '2') },
  ),
  // SO_RCVBUF doubles it, and the result is an int (socket(7))
  integer('socket-buffer', 'BYTES', 7_340_032, 'send and receive buffer of the UDP socket', {
    rule: within(4096, 2 ** 30 - 1),
  }),
  integer('txqueuelen', 'PACKETS', 1000, "length of the TUN device's queue", { rule: within(1, 500_000) }),
  text(
    'kernel-path',
    'off|route|direct|auto',
    'off',
    'let packets of the udp backend stay in the kernel (eBPF): in by route, or direct to the container; auto: the best that is safe here',
    { rule: oneOf('off', 'route', 'direct', 'auto') },
  ),
  text(
    'kernel-path-merge',
    'auto|off',
    'auto',
    'where the underlay brings packets one by one, have the kernel merge those of TCP on the kernel path',
    { rule: oneOf('auto', 'off') },
  ),
  text(
    'wireguard-engine',
    'auto|kernel|user',
    'auto',
    'who encrypts for the wireguard backend; auto: the kernel where it can, else this process',
    { rule: oneOf('auto', 'kernel', 'user') },
  ),
  text(
    'wireguard-key-file',
    'FILE',
    '/run/flannel/wgkey',
    "where this host's private key is kept; made when it is absent",
    { rule: absolutePath, env: 'WIREGUARD_KEY_FILE' },
  ),
  text(
    'wireguard-socket-dir',
    'DIR',
    '/var/run/wireguard',
    'where "wg show" finds the device of -wireguard-engine user',
    { rule: absolutePath },
  ),
  yesOrNo('release-on-exit', false, 'give the lease back on exit; without it a restart finds its subnet again'),
  yesOrNo(
    'clean-up-on-exit',
    false,
    'on exit remove devices, routes and rules, which otherwise stay so that a restart interrupts nothing',
  ),
  yesOrNo('take-over', false, 'take the place of the daemon that runs, if one does, without losing a packet'),
  yesOrNo(
    'start-from-cache',
    false,
    'when etcd cannot be reached at start, begin also with a last known lease that has run out',
  ),
  yesOrNo(
    'drop-privileges',
    true,
    'keep only the capabilities for network devices, routes and rules; turn it off where iptables has to load modules',
  ),
  text('log-level', LOG_LEVELS.join('|'), '', 'log level; goes before -v', { rule: logLevel }),
  integer('subnet-ttl', 'SECONDS', 86_400, 'life of a lease; flannel has 86400, tests take less', {
    hidden: true,
    rule: within(2, 86_400 * 365),
  }),
];

const commandFlags: readonly Row[] = [
  yesOrNo('version', false, 'print the version and exit'),
  yesOrNo('print-config', false, 'print every value in force and where it came from, and exit'),
  yesOrNo('check', false, 'say whether the options are right, and exit'),
  yesOrNo('json', false, 'with -print-config: print JSON'),
];

function group(rows: readonly Row[], name: Flag['group'], prefix: string): Flag[] {
  const variableOf = (row: Row) => `${prefix}_${row.name.toUpperCase().replaceAll('-', '_')}`;
  return rows.map((row) => ({ ...row, group: name, env: row.env ?? variableOf(row) }));
}

export const runFlags: readonly Flag[] = [
  ...group(flannelFlags, 'flannel', 'FLANNELD'),
  ...group(loggingFlags, 'logging', 'FLANNELD'),
  ...group(tweedFlags, 'tweed', 'TWEED'),
  ...group(kubernetesFlags, 'kubernetes', 'FLANNELD'),
  ...commandFlags.map((row): Flag => ({ ...row, group: 'command' })),
];
