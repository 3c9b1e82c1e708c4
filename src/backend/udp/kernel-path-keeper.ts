/**
 * Keeps the kernel path as it is wanted: starts it, tells it peers and containers, puts it back, and does without it where the
 * kernel refuses. User space forwards all the same; nothing here may disturb it, so nothing here throws.
 */
import { messageOf } from '../../base/errors.js';
import { exec } from '../../base/exec.js';
import type { Logger } from '../../base/log.js';
import { pathMtu } from '../../encap/datapath/udp-socket.js';
import type { Device, Run } from '../../kernel-path/attachment.js';
import { ContainerWatch, type ContainerWatchOptions, type FoundContainer } from '../../kernel-path/containers.js';
import { doubtAboutDirect, type Firewall, obstacleToDirect, readFirewall } from '../../kernel-path/firewall.js';
import { type FormerPath, removeFormerFilters } from '../../kernel-path/former-path.js';
import type { KernelPath, KernelPathOptions } from '../../kernel-path/kernel-path.js';
import { mergePairNames, removeMergePair } from '../../kernel-path/merge-pair.js';
import type { InboundMode } from '../../kernel-path/programs/settings.js';
import { deviceTotals } from '../../routes/device-statistics.js';
import { hasIpv4, type Lease } from '../../subnet/lease.js';
import type { FeatureStatus } from '../backend.js';
import { hostKernel } from '../kernel/kernel.js';
import { takesUnfinished } from './lease-data.js';
import type { KernelPathWish } from './options.js';

/** After a refusal it is tried again; and so often the host's rules are read. */
const PATIENCE_MS = 60_000;
const FIREWALL_MS = 30_000;

export interface KernelPathKeeperOptions {
  readonly wanted: KernelPathWish;
  readonly checkSenders: boolean;
  readonly log: Logger;
  readonly path: Omit<KernelPathOptions, 'mode'>;
  readonly underlayMtu: number;
  /** What a former process left of its own on the same device; null where the device is another one. */
  readonly former: Pick<FormerPath, 'end'> | null;
  /** No other daemon of this network runs, whose filters and devices might be taken for left ones. */
  readonly sole: boolean;
}

/** What the keeper works with; a test scripts it. */
export interface KernelPathTools {
  start(options: KernelPathOptions): Promise<Pick<KernelPath, Exclude<keyof KernelPath, symbol>>>;
  run: Run;
  firewall(run: Run): Promise<Firewall>;
  pathMtu: typeof pathMtu;
  /** Milliseconds of a clock that only goes forward. */
  now(): number;
  /** A file of /proc/net, such as `dev`. */
  readStatistics(file: string): string;
  /** Tells of changes of containers; the watch's own if not given. */
  readonly monitor?: ContainerWatchOptions['monitor'];
}

const tools: KernelPathTools = {
  start: async (options) => (await import('../../kernel-path/kernel-path.js')).KernelPath.start(options),
  run: (argv, tolerate = false) => exec(argv, { tolerate }),
  firewall: readFirewall,
  pathMtu,
  now: () => performance.now(),
  readStatistics: hostKernel.readStatistics,
};

type Path = Awaited<ReturnType<KernelPathTools['start']>>;
interface Plan {
  readonly mode: InboundMode;
  /** Why it is not the one that was wanted. */
  readonly reason: string;
}

export class KernelPathKeeper {
  readonly #options: KernelPathKeeperOptions;
  readonly #tools: KernelPathTools;
  #path: Path | null = null;
  #mode: InboundMode | 'off' = 'off';
  #reason = '';
  #containers: ContainerWatch | null = null;
  /** Those that containers are behind, by their numbers. */
  #bridges: readonly Device[] = [];
  #firewall: Firewall | null = null;
  #firewallReadAt = Number.NEGATIVE_INFINITY;
  #refusedAt = Number.NEGATIVE_INFINITY;
  /** Why it is not known where containers are, as it was last told; empty for nothing. */
  #deafness = '';
  /** `direct` was refused by the kernel itself. */
  #noDirect = '';
  /** What a former process left has ended. */
  #settled = false;
  #stopped = false;

  constructor(options: KernelPathKeeperOptions, parts: KernelPathTools = tools) {
    this.#options = options;
    this.#tools = parts;
  }

  /**
   * It is to be there, with these peers.
   *
   * @returns one line for each thing that had to be put back
   */
  async keep(peers: readonly Lease[]): Promise<readonly string[]> {
    const { wanted, checkSenders } = this.#options;
    if (this.#stopped) return [];
    if (wanted === 'off' || !checkSenders) {
      if (wanted !== 'off') this.#reason = 'it checks senders, which -check-senders=false forbids';
      void this.#endFormer(false);
      return [];
    }
    try {
      const plan = await this.#plan();
      if (this.#path !== null && plan.mode !== this.#mode) await this.#end();
      if (this.#path === null) await this.#begin(plan.mode, plan.reason);
      const path = this.#path as Path | null;
      if (path === null) return [];
      const lines = await path.mend();
      this.#tell(path, peers);
      await this.#endFormer(true);
      await this.#containers?.refresh();
      return [...lines, ...(await path.keepBridges(this.#bridges))];
    } catch (error) {
      await this.#refused(error);
      return [];
    }
  }

  /** Takes the programs off; before the TUN goes. @param pinned those stay that a store holds, see KernelPath.leave */
  async stop(pinned = false): Promise<void> {
    this.#stopped = true;
    await this.#end(pinned ? 'leave' : 'stop');
  }

  /** See KernelPath.holds. */
  holds(): ReadonlyMap<string, number> {
    return this.#path?.holds() ?? new Map();
  }

  /** Ends what a former process left, once. @param replaced own programs are in its place, and know the peers */
  async #endFormer(replaced: boolean): Promise<void> {
    if (this.#settled) return;
    this.#settled = true;
    const { path, log, former, sole } = this.#options;
    try {
      await former?.end();
      if (!sole) return;
      // filters first: they would send packets into a pair that is gone
      if (!replaced) await removeFormerFilters(path, this.#tools.run);
      await this.#removeFormerPair();
    } catch (error) {
      log.debug(`what a former kernel path left: ${messageOf(error)}`);
    }
  }

  /** A process that was killed left it, and this one has no use for it. */
  async #removeFormerPair(): Promise<void> {
    const { path, log } = this.#options;
    const { into } = mergePairNames(path.port);
    if (this.#mergesInto === into || !this.#tools.readStatistics('dev').includes(`${into}:`)) return;
    if (await removeMergePair(path.port, this.#tools.run)) log.info({ device: into }, 'removed a device that was left');
  }

  /** Name of the device in which packets are merged; empty when none are. */
  get #mergesInto(): string {
    return this.#path?.status().merging.into ?? '';
  }

  async #plan(): Promise<Plan> {
    const { wanted } = this.#options;
    if (wanted === 'off' || wanted === 'route') return { mode: 'route', reason: '' };
    if (this.#noDirect !== '') return { mode: 'route', reason: this.#noDirect };
    const firewall = await this.#rules();
    const reason = wanted === 'auto' ? doubtAboutDirect(firewall) : obstacleToDirect(firewall);
    return { mode: reason === '' ? 'direct' : 'route', reason };
  }

  /** The rules of the host. Flows that they decided about differently before begin anew. */
  async #rules(): Promise<Firewall> {
    const now = this.#tools.now();
    if (this.#firewall !== null && now - this.#firewallReadAt < FIREWALL_MS) return this.#firewall;
    const firewall = await this.#tools.firewall(this.#tools.run);
    if (firewall.rules !== this.#firewall?.rules) this.#path?.forgetFlows();
    this.#firewall = firewall;
    this.#firewallReadAt = now;
    return firewall;
  }

  async #begin(mode: InboundMode, reason: string): Promise<void> {
    if (this.#tools.now() - this.#refusedAt < PATIENCE_MS) return;
    const { path: options } = this.#options;
    try {
      this.#path = await this.#tools.start({ ...options, mode });
    } catch (error) {
      if (mode === 'route') throw error;
      this.#noDirect = messageOf(error);
      return this.#begin('route', this.#noDirect);
    }
    this.#mode = mode;
    this.#reason = reason;
    const path = this.#path;
    this.#deafness = '';
    this.#bridges = [];
    this.#containers = new ContainerWatch({
      subnet: options.subnet,
      run: this.#tools.run,
      ...(this.#tools.monitor && { monitor: this.#tools.monitor }),
      onContainers: (containers) => {
        try {
          if (this.#path === path) this.#place(path, containers);
        } catch (error) {
          void this.#refused(error);
        }
      },
      onFailed: (error) => {
        const deafness = messageOf(error);
        if (deafness !== this.#deafness) this.#options.log.warn(`containers are reached by route: ${deafness}`);
        this.#deafness = deafness;
      },
    });
  }

  #place(path: Path, containers: readonly FoundContainer[]): void {
    path.setContainers(containers);
    const bridges = bridgesOf(containers);
    const same =
      bridges.length === this.#bridges.length && bridges.every(({ index }, i) => index === this.#bridges[i]?.index);
    this.#bridges = bridges;
    // what is lost or foreign there is found at the next resync
    if (!same) void path.keepBridges(bridges);
  }

  #tell(path: Path, peers: readonly Lease[]): void {
    const { underlayMtu, path: options, log } = this.#options;
    const refused = path.setPeers(
      peers.filter(hasIpv4).map(({ subnet, attributes }) => ({
        subnet,
        publicIp: attributes.publicIp,
        pathMtu: this.#tools.pathMtu(attributes.publicIp, options.port) || underlayMtu,
        kernelPath: takesUnfinished(attributes),
      })),
    );
    for (const { index, reason } of refused) log.debug({ peer: index }, `a peer goes through user space: ${reason}`);
  }

  async #refused(error: unknown): Promise<void> {
    this.#refusedAt = this.#tools.now();
    await this.#end();
    this.#reason = messageOf(error);
    await this.#endFormer(false);
  }

  async #end(how: 'stop' | 'leave' = 'stop'): Promise<void> {
    this.#containers?.stop();
    this.#containers = null;
    const path = this.#path;
    this.#path = null;
    this.#mode = 'off';
    try {
      await path?.[how]();
    } catch (error) {
      this.#options.log.warn(`stopping the kernel path: ${messageOf(error)}`);
    }
  }

  /** What is wanted and in force, which bridges packets are spared on their way in, and whether single ones are merged. */
  features(): readonly FeatureStatus[] {
    const path = { name: 'kernel_path', wanted: this.#options.wanted, inForce: this.#mode, reason: this.#reason };
    if (this.#path === null) return [path];
    const { bridges, merging } = this.#path.status();
    return [
      path,
      {
        name: 'kernel_path_bridges',
        wanted: 'auto',
        inForce: bridges.spared.join(' ') || 'none',
        reason: bridges.reason,
      },
      {
        name: 'kernel_path_merge',
        wanted: this.#options.path.merge === false ? 'off' : 'auto',
        inForce: merging.into === '' ? 'off' : 'on',
        reason: merging.reason,
      },
    ];
  }

  /** Counters by the names that the forwarders have, to be added to theirs; and the kernel path's own share of the packets. */
  counted(): { totals: Readonly<Record<string, number>>; drops: Readonly<Record<string, number>> } {
    const { totals, drops, pastBridge } = this.#path?.counters() ?? { totals: {}, drops: {}, pastBridge: 0 };
    const { tx_packets = 0, rx_packets = 0 } = totals as Readonly<Record<string, number>>;
    const share = { kernel_tx_packets: tx_packets, kernel_rx_packets: rx_packets, kernel_past_bridge: pastBridge };
    const { txDrops } = deviceTotals(this.#mergesInto, this.#tools.readStatistics('dev'));
    return { totals: { ...totals, ...share }, drops: { ...drops, rx_merge_queue_full: txDrops } };
  }

  peers(): ReturnType<KernelPath['peers']> {
    return this.#path?.peers() ?? [];
  }
}

/** The bridges that these are behind, each once, by their numbers. */
function bridgesOf(containers: readonly FoundContainer[]): readonly Device[] {
  const behind = containers.filter(({ bridge }) => bridge !== 0);
  const devices = new Map(behind.map(({ bridge, bridgeName }) => [bridge, { name: bridgeName, index: bridge }]));
  return [...devices.values()].sort((a, b) => a.index - b.index);
}
