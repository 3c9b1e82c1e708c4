import { isIP, isIPv6 } from 'node:net';
import { parseIpv4 } from '../base/ipv4.js';
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
const anyAddress = (text: string) => (isIP(text) ? null : 'must be an IPv4 or IPv6 address');
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

const deviceName = (text: string) =>
  /^[^\s/:%]{1,15}$/.test(text) && text !== '.' && text !== '..'
    ? null
    : 'must be a name for a network device: 1 to 15 characters without space, slash, colon or percent sign';

const endpoints = (text: string) => {
  const list = text.split(',').map((part) => part.trim());
  const directories = list.filter((endpoint) => endpoint.startsWith('file://'));
  if (directories.length > 0 && list.length > 1) return 'must be either one file:// directory or a list of etcd URLs';
  if (list.some((endpoint) => endpoint.includes('@'))) {
    return 'must be without user and password; give them as -etcd-username and FLANNELD_ETCD_PASSWORD';
  }
  if (list.every(isEndpoint)) return null;
  return 'must be a comma-separated list of http:// or https:// URLs with host and port, or file:///DIRECTORY';
};

function isEndpoint(text: string): boolean {
  if (text.startsWith('file://')) return /^file:\/\/\/[^/]/.test(text);
  const url = tryUrl(text);
  if (url !== null && /^https?:$/.test(url.protocol)) return url.hostname !== '' && /^\/?$/.test(url.pathname);
  return /^[a-z\d.-]+:\d{1,5}$/i.test(text); // etcd clients also take host:port
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

type WithoutGroup<Each> = Each extends unknown ? Omit<Each, 'group' | 'env'> : never;
type Row = WithoutGroup<Flag>;

const flannelFlags: readonly Row[] = [
  {
    name: 'etcd-endpoints',
    kind: 'string',
    default: 'http://127.0.0.1:4001,http://127.0.0.1:2379',
    placeholder: 'URL,…',
    help: 'etcd servers, separated by commas; or file:///DIRECTORY for a registry without a server',
    rule: endpoints,
    show: redactUrls,
  },
  {
    name: 'etcd-prefix',
    kind: 'string',
    default: '/coreos.com/network',
    placeholder: 'KEY',
    help: 'where in etcd the network is kept',
  },
  {
    name: 'etcd-keyfile',
    kind: 'string',
    default: '',
    placeholder: 'FILE',
    help: "key of the client's TLS certificate",
  },
  { name: 'etcd-certfile', kind: 'string', default: '', placeholder: 'FILE', help: "the client's TLS certificate" },
  {
    name: 'etcd-cafile',
    kind: 'string',
    default: '',
    placeholder: 'FILE',
    help: 'certificate authority of the etcd servers; enough by itself for TLS',
  },
  { name: 'etcd-username', kind: 'string', default: '', placeholder: 'NAME', help: 'user name for etcd' },
  {
    name: 'etcd-password',
    kind: 'string',
    default: '',
    placeholder: 'PASSWORD',
    help: 'password for etcd; better given by the variable, which other users cannot see',
    show: () => REDACTED,
  },
  {
    name: 'iface',
    kind: 'strings',
    default: [],
    placeholder: 'NAME|IP',
    help: 'interface for traffic between hosts; repeat it to name others to fall back to (default: that of the default route)',
  },
  {
    name: 'iface-regex',
    kind: 'strings',
    default: [],
    placeholder: 'REGEX',
    help: 'like -iface, by a pattern matched against addresses, then names; after all -iface',
    rule: regularExpression,
  },
  {
    name: 'iface-can-reach',
    kind: 'string',
    default: '',
    placeholder: 'IP',
    help: 'use the interface by which the kernel would reach this address',
    rule: ipv4Address,
  },
  {
    name: 'subnet-file',
    kind: 'string',
    default: '/run/flannel/subnet.env',
    placeholder: 'FILE',
    help: 'where to write the subnet and MTU for Docker or CNI',
    rule: absolutePath,
  },
  {
    name: 'public-ip',
    kind: 'string',
    default: '',
    placeholder: 'IP',
    help: "address under which other hosts reach this one (default: the interface's)",
    rule: ipv4Address,
  },
  {
    name: 'public-ipv6',
    kind: 'string',
    default: '',
    placeholder: 'IP',
    help: 'accepted for compatibility; the udp backend carries no IPv6',
    rule: ipv6Address,
  },
  {
    name: 'subnet-lease-renew-margin',
    kind: 'integer',
    default: 60,
    placeholder: 'MINUTES',
    help: 'renew the lease this long before it ends',
    rule: within(1, 1439),
  },
  { name: 'ip-masq', kind: 'boolean', default: false, help: 'masquerade traffic that leaves the overlay network' },
  {
    name: 'ip-masq-fully-random-disable',
    kind: 'boolean',
    default: false,
    help: 'do not randomise source ports when masquerading',
  },
  {
    name: 'healthz-ip',
    kind: 'string',
    default: '0.0.0.0',
    placeholder: 'IP',
    help: 'address of the health and metrics server',
    rule: anyAddress,
  },
  {
    name: 'healthz-port',
    kind: 'integer',
    default: 0,
    placeholder: 'PORT',
    help: 'port of the health and metrics server; 0 turns it off',
    rule: within(0, 65535),
  },
  {
    name: 'iptables-resync',
    kind: 'integer',
    default: 5,
    placeholder: 'SECONDS',
    help: 'how often rules, routes and addresses are checked and mended',
    rule: within(1, 86400),
  },
  {
    name: 'iptables-forward-rules',
    kind: 'boolean',
    default: true,
    help: 'accept forwarded traffic of the overlay network',
  },
  {
    name: 'ip-blackhole-route',
    kind: 'boolean',
    default: false,
    help: "add a blackhole route for this host's subnet, so that packets to absent containers go nowhere else",
  },
];

const loggingFlags: readonly Row[] = [
  {
    name: 'v',
    kind: 'integer',
    default: 0,
    placeholder: 'LEVEL',
    help: 'log level as a number: 0 is info, 1 to 5 debug, more is trace',
    rule: within(0, 99),
  },
  {
    name: 'vmodule',
    kind: 'string',
    default: '',
    placeholder: 'PATTERN=N,…',
    help: 'accepted for compatibility; has no effect',
  },
  {
    name: 'log_backtrace_at',
    kind: 'string',
    default: '',
    placeholder: 'FILE:LINE',
    help: 'accepted for compatibility; has no effect',
  },
];

const KUBERNETES_RULE = 'belongs to Kubernetes mode, which tweed does not have; leave it out and give -etcd-endpoints';
const onlyDefault = (standard: string) => (text: string) => (text === standard ? null : KUBERNETES_RULE);

/** Refused by their rule unless they only repeat flanneld's default, which asks for nothing. */
const kubernetesFlags: readonly Row[] = [
  { name: 'kube-subnet-mgr', kind: 'boolean', default: false, help: '', rule: (on) => (on ? KUBERNETES_RULE : null) },
  { name: 'kube-api-url', kind: 'string', default: '', help: '', rule: onlyDefault('') },
  { name: 'kubeconfig-file', kind: 'string', default: '', help: '', rule: onlyDefault('') },
  {
    name: 'kube-annotation-prefix',
    kind: 'string',
    default: 'flannel.alpha.coreos.com',
    help: '',
    rule: onlyDefault('flannel.alpha.coreos.com'),
  },
  {
    name: 'net-config-path',
    kind: 'string',
    default: '/etc/kube-flannel/net-conf.json',
    help: '',
    rule: onlyDefault('/etc/kube-flannel/net-conf.json'),
  },
  {
    name: 'set-node-network-unavailable',
    kind: 'boolean',
    default: true,
    help: '',
    rule: (on) => (on ? null : KUBERNETES_RULE),
  },
];

const offload = (name: string, what: string): Row => ({
  name,
  kind: 'string',
  default: 'auto',
  placeholder: 'auto|on|off',
  help: what,
  rule: oneOf('auto', 'on', 'off'),
});

const tweedFlags: readonly Row[] = [
  {
    name: 'device',
    kind: 'string',
    default: 'flannel0',
    placeholder: 'NAME',
    help: 'name of the TUN device',
    rule: deviceName,
  },
  {
    name: 'run-dir',
    kind: 'string',
    default: '/run/tweed',
    placeholder: 'DIR',
    help: 'directory of the status socket and the peer cache',
    rule: absolutePath,
  },
  {
    name: 'check-senders',
    kind: 'boolean',
    default: true,
    help: 'accept datagrams from the addresses of current peers only; turn it off for peers behind an odd NAT',
  },
  offload('tun-tso', 'read and write TCP super-packets at the TUN device'),
  offload('tun-uso', 'read and write UDP super-packets at the TUN device (Linux 6.2)'),
  offload('udp-gso', 'send many datagrams with one system call, cut up by the kernel (UDP_SEGMENT)'),
  offload('udp-gro', 'receive runs of datagrams in one piece (UDP_GRO)'),
  offload('udp-batch', 'receive several messages with one system call (recvmmsg)'),
  {
    name: 'forwarder-threads',
    kind: 'string',
    default: 'auto',
    placeholder: 'auto|1|2',
    help: 'one thread for each direction, or one for both; auto: one where at most two processors may be used',
    rule: oneOf('auto', '1', '2'),
  },
  {
    name: 'socket-buffer',
    kind: 'integer',
    default: 7_340_032,
    placeholder: 'BYTES',
    help: 'send and receive buffer of the UDP socket',
    rule: within(4096, 2 ** 30 - 1), // SO_RCVBUF doubles it, and the result is an int (socket(7))
  },
  {
    name: 'txqueuelen',
    kind: 'integer',
    default: 1000,
    placeholder: 'PACKETS',
    help: "length of the TUN device's queue",
    rule: within(1, 1_000_000),
  },
  {
    name: 'release-on-exit',
    kind: 'boolean',
    default: false,
    help: 'give the lease back on exit; without it a restart finds its subnet again',
  },
  {
    name: 'clean-up-on-exit',
    kind: 'boolean',
    default: false,
    help: 'on exit remove devices, routes and rules, which otherwise stay so that a restart interrupts nothing',
  },
  {
    name: 'take-over',
    kind: 'boolean',
    default: false,
    help: 'take the place of the daemon that runs, if one does, without losing a packet',
  },
  {
    name: 'start-from-cache',
    kind: 'boolean',
    default: false,
    help: 'when etcd cannot be reached at start, begin also with a last known lease that has run out',
  },
  {
    name: 'log-level',
    kind: 'string',
    default: '',
    placeholder: LOG_LEVELS.join('|'),
    help: 'log level; goes before -v',
    rule: logLevel,
  },
  {
    name: 'subnet-ttl',
    kind: 'integer',
    default: 86_400,
    hidden: true,
    placeholder: 'SECONDS',
    help: 'life of a lease; flannel has 86400, tests take less',
    rule: within(2, 86_400 * 365),
  },
];

const commandFlags: readonly Row[] = [
  { name: 'version', kind: 'boolean', default: false, help: 'print the version and exit' },
  {
    name: 'print-config',
    kind: 'boolean',
    default: false,
    help: 'print every value in force and where it came from, and exit',
  },
  { name: 'check', kind: 'boolean', default: false, help: 'say whether the options are right, and exit' },
  { name: 'json', kind: 'boolean', default: false, help: 'with -print-config: print JSON' },
];

function group(rows: readonly Row[], name: Flag['group'], prefix: string): Flag[] {
  return rows.map((row) => ({ ...row, group: name, env: `${prefix}_${row.name.toUpperCase().replaceAll('-', '_')}` }));
}

export const runFlags: readonly Flag[] = [
  ...group(flannelFlags, 'flannel', 'FLANNELD'),
  ...group(loggingFlags, 'logging', 'FLANNELD'),
  ...group(tweedFlags, 'tweed', 'TWEED'),
  ...group(kubernetesFlags, 'kubernetes', 'FLANNELD'),
  ...commandFlags.map((row): Flag => ({ ...row, group: 'command' })),
];
