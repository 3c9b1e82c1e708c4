/**
 * What `tweed doctor` asks of a host. Checks are data: each judges facts that host-facts.ts gathered, so every
 * judgement is tested without a host, and other rooms add theirs (etcd, clock) as tables of their own.
 */

import { isFlannelVxlan } from '../../backend/kernel/former-life.js';
import { type AnyPrefix, formatAnyPrefix, prefixContains, prefixCovers, prefixesOverlap } from '../../base/address.js';
import { formatIpv4, formatPrefix, type Prefix, parsePrefix } from '../../base/ipv4.js';
import { formatIpv6 } from '../../base/ipv6.js';
import { quirksOf } from '../../linux/kernel-quirks.js';
import type { LinkState } from '../../routes/links.js';
import type { InstalledRoute } from '../../routes/route-table.js';
import { removalOf } from '../../tun/present.js';
import { type Checks, fail, type Judge, type Judgement, ok, skip, warn } from './finding.js';
import { firewallForward, firewallInput, firewallOutput, iptablesVariants } from './firewall-checks.js';
import { type DoctorQuestion, type HostFacts, type PortHolder, portsOf } from './host-facts.js';

/** include/uapi/linux/capability.h */
const CAP_NET_ADMIN = 12n;

function isUnprivileged(capabilities: bigint): boolean {
  return ((capabilities >> CAP_NET_ADMIN) & 1n) === 0n;
}

/** Does the daemon forward itself? Null where only the daemon can tell, and none runs. */
function forwardsItself({ backend, wireguard }: DoctorQuestion): boolean | null {
  if (backend.type !== 'wireguard') return backend.type === 'udp';
  return wireguard === null ? null : wireguard.engine === 'user';
}

const tunDevice: Judge<HostFacts> = (facts) => {
  const needed = forwardsItself(facts.question);
  if (needed === false) return null;
  const judgement = judgeTun(facts);
  if (needed === true || judgement.level !== 'fail') return judgement;
  return warn(`${judgement.text}; it is needed where the kernel has no WireGuard`, judgement.fix);
};

const judgeTun = ({ tun, capabilities }: HostFacts): Judgement => {
  switch (tun) {
    case 'open':
      return ok('/dev/net/tun can be opened');
    case 'missing':
      return fail(
        '/dev/net/tun does not exist (in a container, pass the device in: --device /dev/net/tun)',
        'modprobe tun && mkdir -p /dev/net && mknod -m 666 /dev/net/tun c 10 200',
      );
    case 'denied':
      if (isUnprivileged(capabilities)) return skip('/dev/net/tun may not be opened by this user');
      return fail('/dev/net/tun may not be opened by this user or container', 'chmod 666 /dev/net/tun');
    case 'broken':
      return fail('/dev/net/tun exists, but the kernel has no TUN driver behind it', 'modprobe tun');
  }
};

/** A device that is there already is the running daemon's, or it must be one that can be taken over. */
const overlayDevice: Judge<HostFacts> = ({ question, present }) => {
  const { device, daemonPid } = question;
  if (forwardsItself(question) !== true) return null;
  if (present === 'none') return ok(`nothing else is called ${device}`);
  if (present === 'left over') return ok(`${device} was left without a process; the daemon will take it over`);
  if (present === 'held') {
    return daemonPid === null
      ? fail(`another process holds ${device}`, 'stop the daemon (tweed or flanneld) that it belongs to')
      : ok(`${device} is held by a process, as it is while the daemon runs`);
  }
  const advice = removalOf(device, present) || 'choose another -device';
  return fail(`${device} exists, and is no TUN device that could be used (${present})`, advice);
};

const capability: Judge<HostFacts> = ({ capabilities }) =>
  !isUnprivileged(capabilities)
    ? ok('CAP_NET_ADMIN is there')
    : fail(
        'CAP_NET_ADMIN is missing, so this is not all: run doctor as root to see the rest',
        'sudo tweed doctor (a service needs AmbientCapabilities=CAP_NET_ADMIN, a container --cap-add NET_ADMIN)',
      );

/** Backends with one device for all peers, which has a socket of its own. */
const FORWARDS_ALL = ['udp', 'wireguard'];

const udpPort: Judge<HostFacts> = ({ question, portHolders }) => {
  const ports = portsOf(question);
  if (ports.length === 0) return null;
  if (portHolders === null)
    return warn('ss is not installed, so who holds the port is unknown', 'apt-get install iproute2');
  return ports.map((port) => heldBy(port, question, portHolders));
};

function heldBy(port: number, { backend, underlay, daemonPid }: DoctorQuestion, holders: readonly PortHolder[]) {
  const own = underlay === null ? [] : [formatIpv4(underlay.address)];
  if (underlay !== null && underlay.ipv6 !== null) own.push(formatIpv6(underlay.ipv6.address));
  const matters = ['0.0.0.0', '*', '::', ...own];
  const rival = holders.find((holder) => {
    const { address, pid } = holder;
    if (holder.port !== port) return false;
    // A VXLAN or WireGuard device listens on all addresses, and is a holder without a process itself.
    if (['vxlan', 'wireguard'].includes(backend.type)) return pid !== null && pid !== daemonPid;
    return (underlay === null || matters.includes(address)) && (pid === null || pid !== daemonPid);
  });
  const users = backend.type === 'vxlan' ? 'the kernel' : daemonPid === null ? '' : 'the daemon';
  if (rival === undefined) return ok(`UDP port ${port} is free${users === '' ? '' : ` or held by ${users}`}`);
  const holder = rival.pid === null ? 'the kernel or a hidden process' : `${rival.program} (process ${rival.pid})`;
  return fail(
    `UDP port ${port} is held by ${holder} on ${rival.address}`,
    rival.pid === null ? `ss -lunp 'sport = :${port}'` : `kill ${rival.pid} (or stop the service it belongs to)`,
  );
}

/** Who encrypts, and whether somebody has been asked for a session in vain. */
const wireguard: Judge<HostFacts> = ({ question }) => {
  const { wireguard: answer, port } = question;
  if (answer === null) return null;
  const { engine, reason, unanswered, strangers } = answer;
  const why = reason === '' ? '' : `: ${reason}`;
  const who = ok(engine === 'user' ? `the daemon encrypts itself${why}` : `the kernel encrypts${why}`);
  if (unanswered === 0 || strangers.length === 0) return who;
  const whom = strangers.length > 3 ? `${strangers.slice(0, 3).join(', ')} and others` : strangers.join(', ');
  return [
    who,
    warn(
      `no session with ${whom}: handshakes were not answered for 90 s; UDP port ${port} may be closed on the way, or their preshared key is another`,
      `tweed ping ${strangers[0]}`,
    ),
  ];
};

const forwarding: Judge<HostFacts> = ({ sysctls }) =>
  sysctls['net/ipv4/ip_forward'] === '1'
    ? ok('the host forwards IPv4 packets')
    : fail('the host does not forward IPv4 packets: containers reach nothing', 'sysctl -w net.ipv4.ip_forward=1');

/** The kernel takes the larger of the settings for all and for the device; 1 is strict, 2 loose (ip-sysctl). */
const reversePath: Judge<HostFacts> = ({ question, sysctls }) => {
  const setting = (name: string) => sysctls[`net/ipv4/conf/${name}/rp_filter`] ?? null;
  const { device } = question;
  const effective = Math.max(Number(setting('all')), Number(setting(device) ?? setting('default')));
  return effective === 1
    ? warn(
        `reverse path filtering is strict on ${device}: packets whose way back leads elsewhere are dropped silently`,
        `sysctl -w net.ipv4.conf.${device}.rp_filter=2`,
      )
    : ok(`reverse path filtering on ${device} is ${effective === 0 ? 'off' : 'loose'}`);
};

/** What is advised never takes an address or a route from the host that the operator may be connected by. */
const overlap: Judge<HostFacts> = ({ question, links, routes }) => {
  const { network, underlay } = question;
  if (network === null) return null;
  const text = formatPrefix(network);
  const elsewhere = `tweed network set '${freeConfiguration(question, links, routes)}' (a network that holds no host; then restart tweed on every host)`;
  const findings: Judgement[] = [];
  for (const { link, address } of clashingAddresses(links, question, network)) {
    const danger =
      link.name === underlay?.name
        ? ': hosts of that network beyond the link, such as the registry or a gateway, are cut off as soon as tweed runs'
        : '';
    const what = `the overlay's network ${text} overlaps the address ${formatAnyPrefix(address)} of ${link.name}`;
    findings.push(fail(`${what}${danger}`, elsewhere));
  }
  for (const { destination, device, type } of clashingRoutes(routes, links, question, network)) {
    const what = `the overlay's network ${text} overlaps the route ${formatAnyPrefix(destination)}`;
    // One that leads nowhere can go; behind any other somebody may be.
    findings.push(
      device === ''
        ? fail(`${what} ${type}`, `ip route del ${type} ${formatAnyPrefix(destination)}`)
        : fail(`${what} dev ${device}`, elsewhere),
    );
  }
  return findings.length > 0 ? findings : ok(`nothing on this host overlaps ${text}`);
};

/** Private networks (RFC 1918, RFC 6598) of which hardly all are in use on one host. */
const spareNetworks = ['10.244.0.0/16', '100.96.0.0/16', '172.30.0.0/16', '10.96.0.0/16', '192.168.128.0/17'];

function freeConfiguration(
  { backend }: HostFacts['question'],
  links: readonly LinkState[],
  routes: readonly InstalledRoute[],
): string {
  const taken = [...links.flatMap(({ addresses }) => addresses), ...routes.map(({ destination }) => destination)];
  const free = spareNetworks.find((text) => {
    const spare = parsePrefix(text) as Prefix;
    return !taken.some((one) => one.length > 0 && prefixesOverlap(one, spare));
  });
  return JSON.stringify({ Network: free ?? 'a.b.c.d/16', Backend: { Type: backend.type } });
}

function clashingAddresses(
  links: readonly LinkState[],
  { ownDevices, subnet }: HostFacts['question'],
  network: Prefix,
): readonly { link: LinkState; address: AnyPrefix }[] {
  return links
    .filter((link) => !isOwn(link, ownDevices) && !(subnet === null && link.kind === 'bridge'))
    .flatMap((link) => link.addresses.map((address) => ({ link, address })))
    .filter(({ address }) => prefixesOverlap(address, network) && !(subnet !== null && prefixCovers(subnet, address)));
}

/** Routes of the kernel's own follow from addresses, which are judged themselves. */
function clashingRoutes(
  routes: readonly InstalledRoute[],
  links: readonly LinkState[],
  { ownDevices, subnet, backend }: HostFacts['question'],
  network: Prefix,
): readonly InstalledRoute[] {
  const own = new Set([...ownDevices, ...links.filter((link) => isOwn(link, ownDevices)).map(({ name }) => name)]);
  return routes.filter(({ destination, device, protocol, gateway, type }) => {
    if (destination.length === 0 || protocol === 'kernel' || own.has(device)) return false;
    // Inside the own subnet stand the containers' bridge and the blackhole route.
    if (subnet === null ? type === 'blackhole' : prefixCovers(subnet, destination)) return false;
    // host-gw, and vxlan with DirectRouting, lead a peer's subnet straight to the peer.
    if (!FORWARDS_ALL.includes(backend.type) && gateway !== undefined && prefixCovers(network, destination))
      return false;
    // A shorter route, such as 10.0.0.0/8, loses to the overlay's own and does no harm.
    return prefixesOverlap(destination, network) && destination.length >= network.length;
  });
}

/** Also a VXLAN device that a start of another backend removes. */
function isOwn(link: LinkState, ownDevices: readonly string[]): boolean {
  return ownDevices.includes(link.name) || isFlannelVxlan(link);
}

const mtu: Judge<HostFacts> = ({ question, links }) => {
  const { device, underlay, subnet } = question;
  const { overhead } = question.backend;
  const findings: Judgement[] = [];
  const own = links.find(({ name }) => name === device);
  const fits = underlay === null ? null : underlay.mtu - overhead;
  if (own !== undefined && underlay !== null && fits !== null && own.mtu > fits) {
    findings.push(
      fail(
        `${device} has MTU ${own.mtu}, but only ${fits} fit through ${underlay.name} (${underlay.mtu} − ${overhead})`,
        `ip link set dev ${device} mtu ${fits}`,
      ),
    );
  }
  const limit = own?.mtu ?? fits;
  if (limit === null) return findings;
  for (const { name, kind, mtu: size, addresses } of links) {
    const forContainers =
      kind === 'bridge' && (subnet === null ? false : addresses.some(({ address }) => prefixContains(subnet, address)));
    if (!forContainers || size <= limit) continue;
    findings.push(
      warn(
        `the container bridge ${name} has MTU ${size}, the overlay ${limit}: large packets need path MTU discovery`,
        `ip link set dev ${name} mtu ${limit} (lasting, for Docker: "mtu": ${limit} in /etc/docker/daemon.json)`,
      ),
    );
  }
  return findings.length > 0
    ? findings
    : ok(`packets of ${limit} bytes fit on this host; tweed test tries the way to the others`);
};

const socketBuffers: Judge<HostFacts> = ({ question, sysctls, capabilities, initialUserNamespace }) => {
  if (!FORWARDS_ALL.includes(question.backend.type)) return null;
  const { wantedBuffer } = question;
  const small = ['rmem_max', 'wmem_max'].filter((name) => Number(sysctls[`net/core/${name}`] ?? 0) < wantedBuffer);
  if (small.length === 0) return ok(`socket buffers of ${wantedBuffer} bytes are allowed`);
  // SO_RCVBUFFORCE and SO_SNDBUFFORCE, socket(7), pass the limits by.
  if (initialUserNamespace && ((capabilities >> CAP_NET_ADMIN) & 1n) === 1n) {
    return ok(`net.core.${small.join(' and ')} are below ${wantedBuffer} bytes, which CAP_NET_ADMIN overrides`);
  }
  return warn(
    `net.core.${small.join(' and net.core.')} allow less than the ${wantedBuffer} bytes of socket buffer wanted: ` +
      'bursts are dropped sooner',
    small.map((name) => `sysctl -w net.core.${name}=${wantedBuffer}`).join(' && '),
  );
};

/** One wrong checksum among so many datagrams may be a bad cable; more is a network card or driver. */
const TOLERABLE_CHECKSUMS = 1000;

const checksums: Judge<HostFacts> = ({ question, udp: { received, checksumErrors } }) => {
  const { backend, port, device, underlay } = question;
  if (port === null) return null;
  if (checksumErrors * TOLERABLE_CHECKSUMS <= received) return ok('datagrams arrive with right UDP checksums');
  const sender = backend.type === 'vxlan' ? device : (underlay?.name ?? 'eth0');
  // Below a virtual machine is another kernel, whose release its own does not tell.
  const [cause, cure] =
    backend.type === 'udp'
      ? [
          ', and Linux 7.0 to 7.1.4 breaks segmented sends, also those of virtual machines on it',
          ', or tweed run --udp-gso=off',
        ]
      : ['', ''];
  return warn(
    `${checksumErrors} datagrams came with a wrong UDP checksum and were dropped, beside ${received} good ones: ` +
      `some network cards fail to sum tunnelled packets${cause}`,
    `ethtool -K ${sender} tx-checksum-ip-generic off${cure} (on the hosts that send)`,
  );
};

const kernel: Judge<HostFacts> = ({ question, kernelRelease }) => {
  if (forwardsItself(question) !== true) return null;
  const quirks = quirksOf(kernelRelease);
  const troubles = quirks.filter(({ advice }) => advice !== '');
  if (troubles.length === 0) {
    const limits = quirks.map(({ why, follows }) => `; it ${why}: ${follows}`).join('');
    return ok(`kernel ${kernelRelease} has no known bug that matters here${limits}`);
  }
  return troubles.map(({ why, follows, advice, ranges }) => {
    const ends = ranges.map(({ until }) => until.join('.')).join(', ');
    return warn(`kernel ${kernelRelease} ${why}; ${follows}`, `${advice} (mended in ${ends})`);
  });
};

const bridgeNetfilter: Judge<HostFacts> = ({ question, sysctls }) => {
  if (question.rulesMode === 'nftables') return null;
  return sysctls['net/bridge/bridge-nf-call-iptables'] === '1'
    ? ok('iptables sees packets between containers on one bridge')
    : warn(
        'iptables does not see packets between containers on one bridge; Kubernetes services need that, tweed does not',
        'modprobe br_netfilter && sysctl -w net.bridge.bridge-nf-call-iptables=1',
      );
};

/** Rules are shown to nobody else. */
function forRoot(judge: Judge<HostFacts>): Judge<HostFacts> {
  return (facts) => {
    const judgement = judge(facts);
    return judgement === null || !isUnprivileged(facts.capabilities)
      ? judgement
      : skip('rules are shown to root alone');
  };
}

export const hostChecks: Checks<HostFacts> = {
  kernel,
  'capability-net-admin': capability,
  'tun-device': tunDevice,
  'overlay-device': overlayDevice,
  'udp-port': udpPort,
  wireguard,
  'ip-forward': forwarding,
  'rp-filter': reversePath,
  'iptables-variants': forRoot(iptablesVariants),
  'firewall-input': forRoot(firewallInput),
  'firewall-output': forRoot(firewallOutput),
  'firewall-forward': forRoot(firewallForward),
  'bridge-netfilter': bridgeNetfilter,
  'overlapping-networks': overlap,
  mtu,
  'udp-checksums': checksums,
  'socket-buffers': socketBuffers,
};
