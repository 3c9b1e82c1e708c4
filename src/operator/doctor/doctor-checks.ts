/**
 * What `tweed doctor` asks of a host. Checks are data: each judges facts that doctor-facts.ts gathered, so every
 * judgement is tested without a host, and other rooms add theirs (etcd, clock) as lists of their own.
 */

import { contains, formatPrefix, overlaps, type Prefix } from '../../base/ipv4.js';
import type { InstalledRoute, LinkState } from '../../routes/links.js';
import type { HostFacts } from './doctor-facts.js';
import { firewallForward, firewallInput, iptablesVariants } from './doctor-firewall.js';
import { type Check, type Finding, fail, ok, warn } from './finding.js';

/** include/uapi/linux/capability.h */
const CAP_NET_ADMIN = 12n;

const tunDevice: Check<HostFacts> = {
  id: 'tun-device',
  evaluate: ({ question, tun }) => {
    if (question.backend !== 'udp') return null;
    switch (tun) {
      case 'open':
        return ok('/dev/net/tun can be opened');
      case 'missing':
        return fail(
          '/dev/net/tun does not exist (in a container, pass the device in: --device /dev/net/tun)',
          'modprobe tun && mkdir -p /dev/net && mknod -m 666 /dev/net/tun c 10 200',
        );
      case 'denied':
        return fail('/dev/net/tun may not be opened by this user or container', 'chmod 666 /dev/net/tun');
      case 'broken':
        return fail('/dev/net/tun exists, but the kernel has no TUN driver behind it', 'modprobe tun');
    }
  },
};

const capability: Check<HostFacts> = {
  id: 'capability-net-admin',
  evaluate: ({ capabilities }) =>
    ((capabilities >> CAP_NET_ADMIN) & 1n) === 1n
      ? ok('CAP_NET_ADMIN is there')
      : fail(
          'CAP_NET_ADMIN is missing: no device, address, route or rule can be made',
          'sudo tweed doctor (a service needs AmbientCapabilities=CAP_NET_ADMIN, a container --cap-add NET_ADMIN)',
        ),
};

const udpPort: Check<HostFacts> = {
  id: 'udp-port',
  evaluate: ({ question, portHolders }) => {
    const { backend, port, underlay, daemonPid } = question;
    if (backend === 'host-gw') return null;
    if (portHolders === null)
      return warn('ss is not installed, so who holds the port is unknown', 'apt-get install iproute2');
    const own = underlay === null ? null : formatPrefix({ address: underlay.address, length: 32 }).slice(0, -3);
    const wildcards = ['0.0.0.0', '*', '::'];
    const rival = portHolders.find(({ address, pid }) => {
      // A VXLAN device listens on all addresses, and is a holder without a process itself.
      if (backend === 'vxlan') return pid !== null && pid !== daemonPid;
      return (own === null || address === own || wildcards.includes(address)) && (pid === null || pid !== daemonPid);
    });
    const users = backend === 'vxlan' ? 'the kernel' : daemonPid === null ? '' : 'the daemon';
    if (rival === undefined) return ok(`UDP port ${port} is free${users === '' ? '' : ` or held by ${users}`}`);
    const holder = rival.pid === null ? 'the kernel or a hidden process' : `${rival.program} (process ${rival.pid})`;
    return fail(
      `UDP port ${port} is held by ${holder} on ${rival.address}`,
      rival.pid === null ? `ss -lunp 'sport = :${port}'` : `kill ${rival.pid} (or stop the service it belongs to)`,
    );
  },
};

const forwarding: Check<HostFacts> = {
  id: 'ip-forward',
  evaluate: ({ sysctls }) =>
    sysctls['net/ipv4/ip_forward'] === '1'
      ? ok('the host forwards IPv4 packets')
      : fail('the host does not forward IPv4 packets: containers reach nothing', 'sysctl -w net.ipv4.ip_forward=1'),
};

/** The kernel takes the larger of the settings for all and for the device; 1 is strict, 2 loose (ip-sysctl). */
const reversePath: Check<HostFacts> = {
  id: 'rp-filter',
  evaluate: ({ question, sysctls }) => {
    const setting = (name: string) => sysctls[`net/ipv4/conf/${name}/rp_filter`] ?? null;
    const { device } = question;
    const effective = Math.max(Number(setting('all')), Number(setting(device) ?? setting('default')));
    return effective === 1
      ? warn(
          `reverse path filtering is strict on ${device}: packets whose way back leads elsewhere are dropped silently`,
          `sysctl -w net.ipv4.conf.${device}.rp_filter=2`,
        )
      : ok(`reverse path filtering on ${device} is ${effective === 0 ? 'off' : 'loose'}`);
  },
};

const overlap: Check<HostFacts> = {
  id: 'overlapping-networks',
  evaluate: ({ question, links, routes }) => {
    const { network } = question;
    if (network === null) return null;
    const text = formatPrefix(network);
    const findings: Omit<Finding, 'id'>[] = [];
    for (const { link, address } of clashingAddresses(links, question, network)) {
      findings.push(
        fail(
          `the overlay's network ${text} overlaps the address ${formatPrefix(address)} of ${link.name}`,
          `choose another Network in the configuration, or: ip address del ${formatPrefix(address)} dev ${link.name}`,
        ),
      );
    }
    for (const route of clashingRoutes(routes, question, network)) {
      const destination = formatPrefix(route.destination);
      const via = route.device === '' ? route.type : `dev ${route.device}`;
      findings.push(
        fail(
          `the overlay's network ${text} overlaps the route ${destination} ${via}`,
          `choose another Network in the configuration, or: ip route del ${route.type === 'unicast' ? '' : `${route.type} `}${destination}`,
        ),
      );
    }
    return findings.length > 0 ? findings : ok(`nothing on this host overlaps ${text}`);
  },
};

function clashingAddresses(
  links: readonly LinkState[],
  { device, subnet, backend }: HostFacts['question'],
  network: Prefix,
): readonly { link: LinkState; address: Prefix }[] {
  // host-gw has no device of its own: its device is the underlay, which has no business inside the overlay.
  const isOwn = (name: string) => isOverlayDevice(name) || (name === device && backend !== 'host-gw');
  return links
    .filter(({ name, kind }) => !isOwn(name) && !(subnet === null && kind === 'bridge'))
    .flatMap((link) => link.addresses.map((address) => ({ link, address })))
    .filter(({ address }) => overlaps(address, network) && !(subnet !== null && inside(address, subnet)));
}

/** Routes of the kernel's own follow from addresses, which are judged themselves. */
function clashingRoutes(
  routes: readonly InstalledRoute[],
  { device, subnet, backend }: HostFacts['question'],
  network: Prefix,
): readonly InstalledRoute[] {
  return routes.filter(({ destination, device: through, protocol, gateway, type }) => {
    if (destination.length === 0 || protocol === 'kernel' || through === device || isOverlayDevice(through))
      return false;
    // Inside the own subnet stand the containers' bridge and the blackhole route.
    if (subnet === null ? type === 'blackhole' : inside(destination, subnet)) return false;
    // host-gw, and vxlan with DirectRouting, lead a peer's subnet straight to the peer.
    if (backend !== 'udp' && gateway !== undefined && inside(destination, network)) return false;
    // A shorter route, such as 10.0.0.0/8, loses to the overlay's own and does no harm.
    return overlaps(destination, network) && destination.length >= network.length;
  });
}

function isOverlayDevice(name: string): boolean {
  return /^flannel[.\d]/.test(name);
}

function inside(inner: Prefix, outer: Prefix): boolean {
  return inner.length >= outer.length && contains(outer, inner.address);
}

const mtu: Check<HostFacts> = {
  id: 'mtu',
  evaluate: ({ question, links }) => {
    const { device, overhead, underlay, subnet } = question;
    const findings: Omit<Finding, 'id'>[] = [];
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
        kind === 'bridge' && (subnet === null ? false : addresses.some(({ address }) => contains(subnet, address)));
      if (!forContainers || size <= limit) continue;
      findings.push(
        warn(
          `the container bridge ${name} has MTU ${size}, the overlay ${limit}: large packets need path MTU discovery`,
          `ip link set dev ${name} mtu ${limit} (lasting, for Docker: "mtu": ${limit} in /etc/docker/daemon.json)`,
        ),
      );
    }
    return findings.length > 0 ? findings : ok(`packets of ${limit} bytes fit everywhere`);
  },
};

const socketBuffers: Check<HostFacts> = {
  id: 'socket-buffers',
  evaluate: ({ question, sysctls, capabilities, initialUserNamespace }) => {
    if (question.backend !== 'udp') return null;
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
  },
};

/** One wrong checksum among so many datagrams may be a bad cable; more is a network card or driver. */
const TOLERABLE_CHECKSUMS = 1000;

const checksums: Check<HostFacts> = {
  id: 'udp-checksums',
  evaluate: ({ question, udp: { received, checksumErrors } }) => {
    const { backend, device, underlay } = question;
    if (backend === 'host-gw') return null;
    if (checksumErrors * TOLERABLE_CHECKSUMS <= received) return ok('datagrams arrive with right UDP checksums');
    const sender = backend === 'vxlan' ? device : (underlay?.name ?? 'eth0');
    return warn(
      `${checksumErrors} datagrams came with a wrong UDP checksum and were dropped, beside ${received} good ones: ` +
        'some network cards fail to sum tunnelled packets',
      `ethtool -K ${sender} tx-checksum-ip-generic off (on the hosts that send)`,
    );
  },
};

interface KernelBug {
  /** First release with it, and the first without. */
  readonly from: readonly [number, number, number];
  readonly until: readonly [number, number, number];
  readonly text: string;
  readonly fix: string;
}

// Sources: tailscale/tailscale issues 19777 and 13041; where the ranges of 6.6 and 6.10 end is not confirmed, and a
// distribution may have the fix earlier or later, so the advice is a warning, never a refusal.
const kernelBugs: readonly KernelBug[] = [
  {
    from: [7, 0, 0],
    until: [7, 1, 5],
    text: 'corrupts datagrams sent with UDP segmentation offload when all segments have one length',
    fix: 'tweed run --udp-gso=off until the kernel is 7.1.5 or later',
  },
  ...(
    [
      [6, 6, 44, 46],
      [6, 10, 3, 5],
    ] as const
  ).map(
    ([major, minor, from, until]): KernelBug => ({
      from: [major, minor, from],
      until: [major, minor, until],
      text: 'refuses merged packets with a short tail on a TUN device (a regression of that stable release)',
      fix: `tweed run --tun-tso=off until the kernel is ${major}.${minor}.${until} or later`,
    }),
  ),
];

const kernel: Check<HostFacts> = {
  id: 'kernel',
  evaluate: ({ question, kernelRelease }) => {
    if (question.backend !== 'udp') return null;
    const release = parseKernelRelease(kernelRelease);
    const bug = kernelBugs.find(({ from, until }) => compare(from, release) <= 0 && compare(release, until) < 0);
    return bug === undefined
      ? ok(`kernel ${kernelRelease} has no known bug that matters here`)
      : warn(`kernel ${kernelRelease} ${bug.text}`, bug.fix);
  },
};

/** `6.18.44-cloud-amd64` → 6, 18, 44. */
export function parseKernelRelease(text: string): readonly [number, number, number] {
  const match = /^(\d+)\.(\d+)(?:\.(\d+))?/.exec(text);
  return [Number(match?.[1] ?? 0), Number(match?.[2] ?? 0), Number(match?.[3] ?? 0)];
}

function compare(a: readonly number[], b: readonly number[]): number {
  const index = a.findIndex((part, at) => part !== b[at]);
  return index < 0 ? 0 : (a[index] as number) - (b[index] as number);
}

const bridgeNetfilter: Check<HostFacts> = {
  id: 'bridge-netfilter',
  evaluate: ({ question, sysctls }) => {
    if (question.rulesMode === 'nftables') return null;
    return sysctls['net/bridge/bridge-nf-call-iptables'] === '1'
      ? ok('iptables sees packets between containers on one bridge')
      : warn(
          'iptables does not see packets between containers on one bridge; Kubernetes services need that, tweed does not',
          'modprobe br_netfilter && sysctl -w net.bridge.bridge-nf-call-iptables=1',
        );
  },
};

/** In the order in which they are shown. */
export const hostChecks: readonly Check<HostFacts>[] = [
  kernel,
  capability,
  tunDevice,
  udpPort,
  forwarding,
  reversePath,
  iptablesVariants,
  firewallInput,
  firewallForward,
  bridgeNetfilter,
  overlap,
  mtu,
  checksums,
  socketBuffers,
];
