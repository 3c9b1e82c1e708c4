/**
 * Where the containers are, from the host's own tables: mode `direct` delivers to them, both modes spare them their bridge.
 *
 * Theory of operation. A container counts as found when everything about it is certain: its address is in this host's subnet and
 * a neighbour of exactly one device; that device is a bridge, whose forwarding database knows exactly one port for its MAC,
 * or is the link itself; the link is the host's end of a veth pair that is up, whose other end is in another namespace, and
 * shapes no traffic. Whatever is not certain is left out, and reached by route, which is always right.
 *
 * An entry that outlives its link loses packets, so `ip monitor` tells of changes: what is gone or has moved is
 * taken out at once, by that line alone; the tables are read again a moment later.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { cleanEnvironment } from '../base/exec.js';
import { contains, formatIpv4, type Prefix, parseIpv4 } from '../base/ipv4.js';
import { PROGRAM_LIMITS, parseJson } from '../base/json.js';
import type { Run } from './attachment.js';
import type { KernelContainer } from './table.js';

interface LinkJson {
  readonly ifindex: number;
  readonly ifname: string;
  readonly flags: readonly string[];
  readonly master?: string;
  readonly qdisc?: string;
  readonly address?: string;
  /** Present when the other end is in another namespace. */
  readonly link_netnsid?: number;
  readonly linkinfo?: {
    readonly info_kind?: string;
    readonly info_data?: { readonly vlan_filtering?: number };
    /** Of a port: what its bridge says of it. */
    readonly info_slave_data?: { readonly state?: string };
  };
}

interface NeighbourJson {
  readonly dst: string;
  readonly dev: string;
  readonly lladdr?: string;
  readonly state?: readonly string[];
}

interface FdbJson {
  readonly mac: string;
  readonly ifname: string;
  readonly master?: string;
  readonly state?: string;
}

export interface HostTables {
  readonly links: readonly LinkJson[];
  readonly neighbours: readonly NeighbourJson[];
  readonly fdb: readonly FdbJson[];
}

/** A container, and by what it was found. */
export interface FoundContainer extends KernelContainer {
  readonly lladdr: string;
  /** Name of the host's end of its link. */
  readonly port: string;
  /** Name of the bridge that packets need not pass to get there; empty when they do, or there is none. */
  readonly bridgeName: string;
}

/** @throws ExecError, JsonError */
export async function readHostTables(run: Run): Promise<HostTables> {
  const read = async <T>(...argv: string[]): Promise<T> => {
    const { stdout } = await run(argv);
    return parseJson(stdout.trim() || '[]', PROGRAM_LIMITS) as T;
  };
  const [links, neighbours, fdb] = await Promise.all([
    read<LinkJson[]>('ip', '-json', '-details', 'link', 'show'),
    read<NeighbourJson[]>('ip', '-json', '-4', 'neighbour', 'show'),
    read<FdbJson[]>('bridge', '-json', 'fdb', 'show'),
  ]);
  return { links, neighbours, fdb };
}

/** States in which a neighbour's MAC is not known, or nobody asked for it. */
const WITHOUT_MAC = new Set(['FAILED', 'INCOMPLETE', 'NOARP', 'NONE']);

/** The containers of a subnet that are certain. */
export function findContainers({ links, neighbours, fdb }: HostTables, subnet: Prefix): readonly FoundContainer[] {
  const byName = new Map(links.map((link) => [link.ifname, link]));
  const found = new Map<number, FoundContainer | null>();
  for (const { dst, dev, lladdr, state = [] } of neighbours) {
    const address = parseIpv4(dst);
    if (address === null || lladdr === undefined || !contains(subnet, address)) continue;
    if (state.some((one) => WITHOUT_MAC.has(one))) continue;
    const device = byName.get(dev);
    const port = device === undefined ? undefined : portOf(device, lladdr, byName, fdb);
    const mac = macOf(lladdr);
    const gatewayMac = macOf(device?.address);
    const container =
      port === undefined || mac === null || gatewayMac === null
        ? null
        : {
            ...{ address, ifindex: port.ifindex, mac, gatewayMac, lladdr, port: port.ifname },
            ...(device !== undefined && addsNothing(device, port)
              ? { bridge: device.ifindex, bridgeName: device.ifname }
              : { bridge: 0, bridgeName: '' }),
          };
    // a second one of the same address makes neither certain
    found.set(address, found.has(address) ? null : container);
  }
  return [...found.values()].filter((container) => container !== null);
}

/** The link behind a device that leads to a MAC; undefined when none does for certain. */
function portOf(
  device: LinkJson,
  mac: string,
  byName: ReadonlyMap<string, LinkJson>,
  fdb: readonly FdbJson[],
): LinkJson | undefined {
  if (isContainerLink(device) && device.master === undefined) return device;
  if (device.linkinfo?.info_kind !== 'bridge' || device.linkinfo.info_data?.vlan_filtering === 1) return undefined;
  const ports = fdb.filter((entry) => entry.mac === mac && entry.master === device.ifname);
  // permanent: the port's own MAC, so the host's
  const [entry, another] = ports;
  if (entry === undefined || another !== undefined || entry.state === 'permanent') return undefined;
  const port = byName.get(entry.ifname);
  return port !== undefined && port.master === device.ifname && isContainerLink(port) ? port : undefined;
}

/** A bridge that only finds the port: it shapes nothing, and the port takes what is sent to it. */
function addsNothing(device: LinkJson, port: LinkJson): boolean {
  return port.master === device.ifname && device.qdisc === 'noqueue' && portState(port) === 'forwarding';
}

function portState({ linkinfo }: LinkJson): string | undefined {
  return linkinfo?.info_slave_data?.state;
}

function isContainerLink({ linkinfo, link_netnsid, flags, qdisc }: LinkJson): boolean {
  return (
    linkinfo?.info_kind === 'veth' &&
    link_netnsid !== undefined &&
    flags.includes('UP') &&
    flags.includes('LOWER_UP') &&
    qdisc === 'noqueue'
  );
}

function macOf(text = ''): Uint8Array | null {
  return /^([\da-f]{2}:){5}[\da-f]{2}$/.test(text) ? Buffer.from(text.replaceAll(':', ''), 'hex') : null;
}

/** What a line of `ip monitor link neigh` says about known containers. */
export function struckOut(line: string, container: FoundContainer): boolean {
  const deleted = line.startsWith('Deleted ');
  const text = deleted ? line.slice(8) : line;
  const link = /^(\d+): \S+ <([^>]*)>/.exec(text);
  if (link !== null) {
    if (Number(link[1]) !== container.ifindex) return false;
    const flags = (link[2] as string).split(',');
    return deleted || !flags.includes('UP') || !flags.includes('LOWER_UP');
  }
  const lladdr = / lladdr (\S+)/.exec(text)?.[1];
  if (text.startsWith(`${formatIpv4(container.address)} `)) return deleted || lladdr !== container.lladdr;
  // of a bridge's forwarding database, which tells of a MAC that has moved by its new port alone
  if (!text.startsWith('dev ') || lladdr !== container.lladdr) return false;
  return deleted || !text.startsWith(`dev ${container.port} `);
}

/** Changes come in swarms: the tables are read this long after the first, milliseconds. */
const SETTLE_MS = 100;
const PAUSE_MS = 1000;

export interface ContainerWatchOptions {
  readonly subnet: Prefix;
  readonly run: Run;
  /** These are the containers, all of them. */
  readonly onContainers: (containers: readonly FoundContainer[]) => void;
  /** The tables could not be read, or nobody tells of changes; the containers known so far are none then. */
  readonly onFailed: (error: unknown) => void;
  readonly monitor?: () => ChildProcess;
}

/** Follows the containers of this host. */
export class ContainerWatch {
  readonly #options: ContainerWatchOptions;
  #known: readonly FoundContainer[] = [];
  #monitor: ChildProcess | null = null;
  #timer: NodeJS.Timeout | null = null;
  #reading: Promise<void> | null = null;
  #lastRead = 0;
  /** Counts what was struck out, so that a reading that began before does not bring it back. */
  #strikes = 0;
  #stopped = false;

  constructor(options: ContainerWatchOptions) {
    this.#options = options;
  }

  /** Reads the tables, and sees that changes are told of. May be called again and again. */
  async refresh(): Promise<void> {
    if (this.#stopped) return;
    this.#listen();
    await this.#read();
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#monitor?.kill();
    this.#monitor = null;
  }

  #listen(): void {
    if (this.#monitor !== null) return;
    const start =
      this.#options.monitor ??
      (() =>
        spawn('ip', ['monitor', 'link', 'neigh'], { stdio: ['ignore', 'pipe', 'ignore'], env: cleanEnvironment() }));
    const monitor = start();
    this.#monitor = monitor;
    monitor.unref();
    const gone = (error: unknown) => {
      if (this.#monitor !== monitor) return;
      this.#monitor = null;
      if (!this.#stopped) this.#fail(error);
    };
    monitor.once('error', gone);
    monitor.once('exit', () => gone(new Error('ip monitor ended')));
    if (monitor.stdout === null) return;
    createInterface({ input: monitor.stdout }).on('line', (line) => this.#hear(line));
  }

  #hear(line: string): void {
    if (this.#stopped) return;
    const left = this.#known.filter((container) => !struckOut(line, container));
    if (left.length < this.#known.length) {
      this.#strikes++;
      this.#tell(left);
    }
    this.#timer ??= setTimeout(
      () => {
        this.#timer = null;
        void this.#read();
      },
      Math.max(SETTLE_MS, this.#lastRead + PAUSE_MS - performance.now()),
    ).unref();
  }

  #read(): Promise<void> {
    this.#reading ??= this.#readTables().finally(() => {
      this.#reading = null;
    });
    return this.#reading;
  }

  async #readTables(): Promise<void> {
    const { subnet, run } = this.#options;
    this.#lastRead = performance.now();
    try {
      for (let strikes = -1; strikes !== this.#strikes; ) {
        strikes = this.#strikes;
        const containers = findContainers(await readHostTables(run), subnet);
        if (this.#stopped) return;
        if (strikes === this.#strikes && this.#monitor !== null) this.#tell(containers);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    if (this.#stopped) return;
    this.#tell([]);
    this.#options.onFailed(error);
  }

  #tell(containers: readonly FoundContainer[]): void {
    this.#known = containers;
    this.#options.onContainers(containers);
  }
}
