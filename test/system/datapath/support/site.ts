import { afterAll, afterEach, beforeAll } from 'vitest';
import { WIREGUARD_OVERHEAD } from '../../../../src/backend/wireguard/options.js';
import type { Family } from '../../../../src/base/address.js';
import { address, addressV6, dualLeaseOf, type HostOptions, HostProcess, leaseOf } from './host.js';
import { connect, Namespace } from './namespace.js';
import { closeSockets } from './sockets.js';
import type { End } from './transfer.js';

/** What a tunnel takes off the underlay's MTU. */
export function overheadOf({ sealed = false, dualOver }: Partial<HostOptions>): number {
  if (sealed) return WIREGUARD_OVERHEAD;
  return dualOver === 6 ? 48 : 28;
}

/**
 * A host: a namespace with the underlay's eth0, the device flannel0 when its data path runs, a bridge br0 with the
 * subnet's first address, and one container on it.
 *
 *     container eth0 ── vc br0 ┐
 *     10.5.N.2    10.5.N.1 ├ flannel0 ── eth0 ── switch
 *
 * It has IPv6 besides, used where the overlay has both families: fd00::N:2, fd00::N:1, and fd00:77::N for 192.168.77.N.
 */
export class Host {
  readonly namespace = new Namespace();
  readonly container = new Namespace();
  readonly process: HostProcess;
  /** Host order. */
  readonly publicIp: number;
  readonly publicIpv6: bigint;
  readonly containerIp: number;
  readonly containerIpv6: bigint;
  /** Its container, for traffic. */
  readonly end: End<number>;
  readonly endV6: End;

  /** @param network first three numbers of the underlay's network, such as 192.168.77 */
  constructor(
    readonly number: number,
    readonly network: string,
  ) {
    this.publicIp = address(`${network}.${number}`);
    this.publicIpv6 = addressV6(`${this.networkV6}${number}`);
    this.containerIp = address(`10.5.${number}.2`);
    this.containerIpv6 = addressV6(`fd00::${number}:2`);
    this.end = { namespace: this.container, address: this.containerIp };
    this.endV6 = { namespace: this.container, address: this.containerIpv6 };
    this.process = new HostProcess(this.namespace, number);
  }

  /** What the underlay's IPv6 addresses begin with, outside of the overlay. */
  get networkV6(): string {
    return `fd00:${this.network.split('.').at(-1)}::`;
  }

  /** Where datagrams for it go. */
  publicAddress(family: Family): number | bigint {
    return family === 4 ? this.publicIp : this.publicIpv6;
  }

  endOf(family: Family): End {
    return family === 4 ? this.end : this.endV6;
  }

  async build(mtu: number): Promise<void> {
    const { namespace, container, number } = this;
    await namespace.ip(
      'link set lo up',
      `address add ${this.network}.${number}/24 dev eth0`,
      `address add ${this.networkV6}${number}/64 dev eth0 nodad`,
      'link add br0 type bridge',
      'link set br0 up',
      `address add 10.5.${number}.1/24 dev br0`,
      `address add fd00::${number}:1/112 dev br0 nodad`,
    );
    namespace.sysctl('ipv4/ip_forward', 1);
    await connect(namespace, 'vc', container, 'eth0');
    await namespace.ip('link set vc master br0');
    await container.ip(
      'link set lo up',
      `address add 10.5.${number}.2/24 dev eth0`,
      `route add default via 10.5.${number}.1`,
      `address add fd00::${number}:2/112 dev eth0 nodad`,
      `route add default via fd00::${number}:1`,
    );
    await this.setContainerMtu(mtu - overheadOf({}));
  }

  async setContainerMtu(mtu: number): Promise<void> {
    await this.namespace.ip(`link set vc mtu ${mtu}`, `link set br0 mtu ${mtu}`);
    await this.container.ip(`link set eth0 mtu ${mtu}`);
  }

  async close(): Promise<void> {
    await this.process.close();
    this.namespace.close();
    this.container.close();
  }
}

/** Lets super-packets out of a device whole, or has the kernel cut them and complete their checksums before. */
export async function setSegmentation(namespace: Namespace, device: string, whole: boolean): Promise<void> {
  const state = whole ? 'on' : 'off';
  const features = ['tx', 'tso', 'gso', 'tx-udp-segmentation'].flatMap((name) => [name, state]);
  await namespace.run('ethtool', '-K', device, ...features);
}

/** Starts the backend of every host, each knowing all others. Options may differ from host to host. */
export async function startAll(hosts: readonly Host[], mtu: number, ...options: Partial<HostOptions>[]): Promise<void> {
  await Promise.all(
    hosts.map(async (host, i) => {
      const optionsOf = (number: number) => options[number] ?? options[0] ?? {};
      const leases = hosts.map((other, j) => {
        const { kernelPath, sealed, dualOver = null } = optionsOf(j);
        if (dualOver !== null) return dualLeaseOf(other.number, other, dualOver);
        return leaseOf(other.number, other.publicIp, kernelPath, sealed);
      });
      const peers = leases.filter((_, j) => j !== i);
      // a host that forwards IPv6 says so on every device, and an overlay without IPv6 counts that as dropped
      const forwarding = (optionsOf(i).dualOver ?? null) === null ? 0 : 1;
      host.namespace.sysctl('ipv6/conf/all/forwarding', forwarding);
      await host.process.start(host, mtu, peers, optionsOf(i));
    }),
  );
}

/** What the data paths say of themselves, for a test that failed. */
export async function reportOn(hosts: readonly Host[]): Promise<string> {
  const lines: string[] = [];
  for (const { number, process: host } of hosts) {
    const status = host.alive ? await host.status().catch(() => null) : null;
    if (status !== null) {
      const { totals, drops, features, ...rest } = status;
      const off = features.filter(({ inForce }) => inForce === 'off').map(({ name }) => name);
      lines.push(`host ${number}: ${JSON.stringify({ ...rest, off, totals: nonZero(totals), drops: nonZero(drops) })}`);
    } else lines.push(`host ${number} does not run`);
    lines.push(host.log);
  }
  return lines.join('\n');
}

/** Two or more hosts on one switch, which is a namespace too. */
export class Site {
  readonly switch = new Namespace();
  readonly hosts: readonly Host[];
  #mtu: number;
  #overhead = overheadOf({});

  private constructor(count: number, mtu: number) {
    this.#mtu = mtu;
    this.hosts = Array.from({ length: count }, (_, i) => new Host(i + 1, '192.168.77'));
  }

  static async make({ hosts = 2, mtu = 1500 } = {}): Promise<Site> {
    const site = new Site(hosts, mtu);
    try {
      await site.switch.ip('link add br0 type bridge', 'link set br0 up');
      for (const host of site.hosts) {
        const port = `port${host.number}`;
        await connect(site.switch, port, host.namespace, 'eth0', mtu);
        await site.switch.ip(`link set ${port} master br0`);
        await host.build(mtu);
      }
      return site;
    } catch (error) {
      await site.close();
      throw error;
    }
  }

  get mtu(): number {
    return this.#mtu;
  }

  /** Of the overlay. */
  get innerMtu(): number {
    return this.#mtu - this.#overhead;
  }

  host(number: number): Host {
    const host = this.hosts[number - 1];
    if (host === undefined) throw new Error(`there is no host ${number}`);
    return host;
  }

  /** Changes the MTU of the whole underlay, and of the containers with it. Only while no backend runs. */
  async setMtu(mtu: number, options: Partial<HostOptions> = {}): Promise<void> {
    this.#mtu = mtu;
    this.#overhead = overheadOf(options);
    for (const host of this.hosts) {
      await this.switch.ip(`link set port${host.number} mtu ${mtu}`);
      await host.namespace.ip(`link set eth0 mtu ${mtu}`);
      await host.setContainerMtu(this.innerMtu);
    }
  }

  /** Says whether super-packets cross the underlay whole, as between machines of one host, or not, as on a plain NIC. */
  async setUnderlaySegmentation(whole: boolean): Promise<void> {
    await Promise.all(this.hosts.map(({ namespace }) => setSegmentation(namespace, 'eth0', whole)));
  }

  /** Starts the backend of every host, see `startAll`. */
  start(...options: Partial<HostOptions>[]): Promise<void> {
    return startAll(this.hosts, this.#mtu, ...options);
  }

  async stop(): Promise<void> {
    await Promise.all(this.hosts.map((host) => host.process.stop()));
  }

  async close(): Promise<void> {
    await Promise.all(this.hosts.map((host) => host.close()));
    this.switch.close();
  }
}

function nonZero(values: Readonly<Record<string, number>> = {}): Record<string, number> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== 0));
}

/**
 * A site for the tests of the surrounding `describe` or file. After each test its backends are stopped and the test's
 * sockets closed; when the test failed, what the backends said is printed first.
 */
export function useSite(options: { readonly hosts?: number; readonly mtu?: number } = {}): () => Site {
  let site: Site | undefined;
  beforeAll(async () => {
    site = await Site.make(options);
  });
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(`${await reportOn(site?.hosts ?? [])}\n`);
    closeSockets();
    await site?.stop();
  });
  afterAll(async () => {
    await site?.close();
  });
  return () => {
    if (site === undefined) throw new Error('the site is there only while tests run');
    return site;
  };
}
