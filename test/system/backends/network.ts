/** Hosts as network namespaces on one link, and backends that work inside them. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Backend, BackendContext } from '../../../src/backend/backend.js';
import { HostGwBackend } from '../../../src/backend/host-gw/host-gw-backend.js';
import { type Kernel, kernelThrough } from '../../../src/backend/kernel/kernel.js';
import { VxlanBackend } from '../../../src/backend/vxlan/vxlan-backend.js';
import { type Address, parseAddress } from '../../../src/base/address.js';
import { formatIpv4, type Prefix, parseIpv4, parsePrefix } from '../../../src/base/ipv4.js';
import type { Ipv6Prefix } from '../../../src/base/ipv6.js';
import type { Logger } from '../../../src/base/log.js';
import type { Run } from '../../../src/routes/ip.js';
import type { Lease, PeerSet } from '../../../src/subnet/lease.js';
import { parseNetworkConfig } from '../../../src/subnet/network-config/config.js';
import { exec } from '../../support/exec.js';
import { families, type TestFamily } from '../../support/families.js';

export const prefix = (text: string): Prefix => parsePrefix(text) as Prefix;
export const address = (text: string): number => parseIpv4(text) as number;

export type BackendMember = Readonly<Record<string, unknown>> & { readonly Type: string };

/**
 * A host of the test. Host N has 192.0.2.N, leases 10.5.N.0/24, and has a container's address, 10.5.N.1: each as its family
 * says it.
 */
export class Host {
  readonly run: Run;
  readonly kernel: Kernel;
  /** Every program that was started inside by the backends. */
  readonly started: string[] = [];
  /** What the backends logged at warning or above. */
  readonly warnings: string[] = [];
  readonly log: Logger;
  backend: Backend | null = null;
  lease: Lease | null = null;

  constructor(
    readonly number: number,
    readonly namespace: string,
    private readonly runDirectory: string,
    readonly family: TestFamily,
  ) {
    const inside = (argv: readonly string[]) => ['ip', 'netns', 'exec', namespace, ...argv];
    this.run = (argv, options) => exec(inside(argv), options);
    const recorded: Run = (argv, options) => {
      this.started.push(argv.join(' '));
      return this.run(argv, options);
    };
    this.kernel = kernelThrough(recorded, (file) => {
      const [program = '', ...words] = inside(['cat', `/proc/self/net/${file}`]);
      return execFileSync(program, words, { encoding: 'utf8' });
    });
    const keep = (first: unknown, second?: unknown) => {
      this.warnings.push(typeof first === 'string' ? first : `${Object.values(first as object).join()}: ${second}`);
    };
    const quiet = () => {};
    this.log = { debug: quiet, info: quiet, warn: keep, error: keep } as unknown as Logger;
  }

  get address(): string {
    return this.family.say(`192.0.2.${this.number}`);
  }

  get subnet(): string {
    return this.family.say(`10.5.${this.number}.0/24`);
  }

  /** Runs `ip` with words of IPv4, which the family says in its own. */
  async ip(...words: string[]): Promise<string> {
    const { family, say } = this.family;
    return (await this.run(['ip', ...(family === 6 ? ['-6'] : []), ...say(words)])).stdout
      .replaceAll(/ +$/gm, '')
      .trimEnd();
  }

  /** The lines of `ip route` inside the overlay, but for the container's and what the kernel makes by itself, such as each metric of IPv6. */
  async routes(): Promise<string[]> {
    const lines = (await this.ip('route', 'show', 'root', '10.5.0.0/16')).split('\n');
    return lines
      .filter((line) => line !== '' && !/ dev br0 | proto kernel /.test(line))
      .map((line) => line.replace(/ linkdown| pref medium/g, '').replace(' metric 1024', ''));
  }

  async neighbours(): Promise<string[]> {
    // the kernel lists them in the order of a hash that a new device changes
    const lines = await this.ip('neigh', 'show', 'dev', 'flannel.1', 'nud', 'permanent');
    return lines.split('\n').filter(Boolean).sort();
  }

  async forwarding(): Promise<string[]> {
    const { stdout } = await this.run(['bridge', 'fdb', 'show', 'dev', this.family.say('flannel.1')]);
    return stdout.split('\n').filter(Boolean).sort();
  }

  /** Answers the host a ping from its container's address to the one of another host? */
  async reaches(other: Host): Promise<boolean> {
    const argv = ['ping', '-c', '1', '-W', '1', '-I', `10.5.${this.number}.1`, `10.5.${other.number}.1`];
    return (await this.run(this.family.say(argv), { tolerate: true })).status === 0;
  }

  context(backend: BackendMember, others: Partial<BackendContext> = {}): BackendContext {
    const own = parseAddress(this.address) as Address;
    const { family, say } = this.family;
    const networks =
      family === 4
        ? { Network: '10.5.0.0/16' }
        : { EnableIPv4: false, EnableIPv6: true, IPv6Network: say('10.5.0.0/16') };
    return {
      log: this.log,
      underlay: {
        ...{ name: 'eth0', index: 2, mtu: 1500 },
        ...(typeof own === 'number'
          ? { address: own, prefixLength: 24, ipv6: null }
          : { address: 0, prefixLength: 0, ipv6: { address: own, prefixLength: 64 } }),
      },
      ...publicAddress(this.family, `192.0.2.${this.number}`),
      config: parseNetworkConfig(JSON.stringify({ ...networks, Backend: backend })),
      ...others,
    };
  }

  make(member: BackendMember, others: Partial<BackendContext> = {}): Backend {
    const context = this.context(member, others);
    return member.Type === 'vxlan'
      ? new VxlanBackend(context, this.runDirectory, this.kernel)
      : new HostGwBackend(context, this.kernel);
  }

  /**
   * Starts a backend as the daemon does, and remembers what it announces. A former one is just forgotten, as by a crash.
   *
   * @param peers nobody is known yet, when they are left out
   */
  async start(
    member: BackendMember,
    others: Partial<BackendContext> = {},
    peers: PeerSet = remembered([]),
  ): Promise<Backend> {
    const backend = this.make(member, others);
    const attributes = await backend.attributes();
    this.lease = leaseOf(this.family, `10.5.${this.number}.0/24`, attributes);
    await backend.start(this.lease, peers);
    this.backend = backend;
    return backend;
  }
}

/** A lease of a subnet that is told in IPv4's words. */
export function leaseOf({ family, prefix }: TestFamily, subnet: string, attributes: Lease['attributes']): Lease {
  const own = prefix(subnet);
  return family === 4
    ? { subnet: own as Prefix, subnetV6: null, attributes, expiresAt: null }
    : { subnet: null, subnetV6: own as Ipv6Prefix, attributes, expiresAt: null };
}

/** What peers send to, told in IPv4's words. */
export function publicAddress(
  { address }: TestFamily,
  text: string,
): Pick<Lease['attributes'], 'publicIp' | 'publicIpv6'> {
  const own = address(text);
  return typeof own === 'number' ? { publicIp: own, publicIpv6: null } : { publicIp: 0, publicIpv6: own };
}

export interface Network {
  readonly hosts: readonly [Host, Host, Host];
  remove(): Promise<void>;
}

const [ipv4] = families as [TestFamily];

/** Three hosts on one link, with addresses of one family. Their namespaces, and that of the link, begin with `twx`. */
export async function makeNetwork(family = ipv4): Promise<Network> {
  const name = `twx-${randomBytes(3).toString('hex')}`;
  const directory = await mkdtemp(join(tmpdir(), `${name}-`));
  const link = `${name}-link`;
  const hosts = [1, 2, 3].map(
    (number) => new Host(number, `${name}-h${number}`, join(directory, String(number)), family),
  );
  for (const namespace of [link, ...hosts.map((host) => host.namespace)]) await exec(['ip', 'netns', 'add', namespace]);
  await exec(['ip', '-n', link, 'link', 'add', 'switch', 'up', 'type', 'bridge']);
  for (const host of hosts) {
    const inside = ['link set lo up', 'link set eth0 up', `address add 192.0.2.${host.number}/24 dev eth0`];
    inside.push('link add br0 type bridge', 'link set br0 up', `address add 10.5.${host.number}.1/24 dev br0`);
    const port = `host${host.number}`;
    const add = ['link', 'add', port, 'master', 'switch', 'up', 'type', 'veth'];
    await exec(['ip', '-n', link, ...add, 'peer', 'name', 'eth0', 'netns', host.namespace]);
    // Nobody else has these addresses: by IPv6 the kernel need not ask around for a second before it uses one.
    const switches = ['all', 'default', 'eth0'].map((device) => `/proc/sys/net/ipv6/conf/${device}/accept_dad`);
    await host.run(['tee', ...switches], { input: '0' });
    await host.run(['ip', '-batch', '-'], { input: family.say(inside).join('\n') });
  }
  return {
    hosts: hosts as unknown as Network['hosts'],
    remove: async () => {
      for (const namespace of [link, ...hosts.map((host) => host.namespace)])
        await exec(['ip', 'netns', 'del', namespace]);
      await rm(directory, { recursive: true });
    },
  };
}

/** Tells a host of all the others. */
export async function introduce(host: Host, others: readonly Host[]): Promise<readonly string[]> {
  return tell(host, leasesOf(others.filter((other) => other !== host)));
}

export function leasesOf(hosts: readonly Host[]): readonly Lease[] {
  return hosts.map(({ lease }) => lease as Lease);
}

/** Tells a host who all its peers are. @returns what was put back besides */
export async function tell(host: Host, leases: readonly Lease[]): Promise<readonly string[]> {
  return (await host.backend?.setPeers({ leases, complete: true })) ?? [];
}

/** Peers as an earlier run knew them. */
export function remembered(leases: readonly Lease[]): PeerSet {
  return { leases, complete: false };
}

/** As many peers as wanted, in 10.5.10.0/28 and on, with public addresses of 192.0.2.0/24 that nobody has. */
export function inventedPeers(count: number, attributes: (index: number) => Partial<Lease['attributes']>): Lease[] {
  return Array.from({ length: count }, (_, index) => ({
    subnet: { address: address('10.5.10.0') + 16 * index, length: 28 },
    subnetV6: null,
    attributes: { publicIp: address('192.0.2.10') + (index % 200), publicIpv6: null, ...attributes(index) },
    expiresAt: null,
  }));
}

export { formatIpv4 };
