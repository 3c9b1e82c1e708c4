/**
 * The kernel path: packets of the `udp` backend that never leave the kernel.
 *
 * Theory of operation. Two programs shorten the way of ordinary packets: one on flannel0's way out, one on the underlay's way
 * in. User space runs all the same, on the same TUN and the same port, and gets whatever the programs do not take; the wire
 * format is one. So the kernel path can come, refuse, or go at any moment, and costs no packet: at worst it is slower again.
 *
 * Where the underlay brings single packets, those of TCP go by a device in which the kernel merges them (merging.ts).
 *
 * It may also go on without user space: links that somebody else holds stay when the process ends (former-path.ts). All that
 * the programs do then is to carry packets between the peers that they know, by the host's routes. They judge nobody and deliver
 * nothing straight, for who the peers are and where containers are is told them every second (`TEND_MS`) or not at all.
 *
 * Owned by the control thread, which tells the same peers to this and to the forwarding table.
 */
import { readFileSync } from 'node:fs';
import { messageOf, TweedError } from '../base/errors.js';
import { exec } from '../base/exec.js';
import type { Prefix } from '../base/ipv4.js';
import { BPF_PROG_TYPE_SCHED_CLS, BPF_TCX_INGRESS } from '../linux/bpf.js';
import {
  type Attachment,
  attach,
  type Device,
  type Direction,
  detachFormer,
  detachFormerEverywhere,
  type Run,
  type Way,
} from './attachment.js';
import { Bpf } from './bpf.js';
import { Bridges, type BridgesStatus } from './bridges.js';
import { conntrackPlaces, type ReadTypes, readTypes } from './conntrack.js';
import { holdName } from './former-path.js';
import { type Capacity, closeMaps, createMaps, DEFAULT_CAPACITY, type Drop, type Maps, type Total } from './maps.js';
import { Merging, type MergingStatus } from './merging.js';
import { decapProgram } from './programs/decap.js';
import { DELIVER_PROGRAM, deliverProgram } from './programs/deliver.js';
import { encapProgram } from './programs/encap.js';
import { mergedProgram } from './programs/merged.js';
import type { ConntrackPlaces, InboundMode } from './programs/settings.js';
import { selfTest } from './self-test.js';
import {
  type KernelContainer,
  type KernelPeer,
  type KernelPeerCounters,
  KernelTable,
  RECEIVE_ONLY,
  type Refusal,
} from './table.js';
import { type LinkFacts, readLinkFacts } from './underlay-device.js';

/** Why there is no kernel path. User space shows it and goes on alone. `cause` is the error behind it, if there is one. */
export class KernelPathRefusedError extends TweedError {
  constructor(
    readonly stage: 'underlay' | 'maps' | 'programs' | 'self-test' | 'attach',
    message: string,
    options?: ErrorOptions,
  ) {
    super('KERNEL_PATH_REFUSED', message, options);
  }
}

/** Addresses in host order. All of it holds until `stop`: when one changes, stop and start. */
export interface KernelPathOptions {
  readonly underlay: Device & { readonly address: number };
  readonly tun: Device;
  readonly network: Prefix;
  /** This host's lease. */
  readonly subnet: Prefix;
  readonly port: number;
  readonly mode: InboundMode;
  readonly capacity?: Capacity;
  /** How programs are attached; `auto` prefers TCX links. */
  readonly way?: Way | 'auto';
  /** Whether single packets of TCP are merged where that can be had; true if not given. */
  readonly merge?: boolean;
}

/** A peer, and whether it is known to run a kernel path as well. */
export interface PathPeer extends KernelPeer {
  readonly kernelPath?: boolean;
}

export interface KernelPathStatus {
  readonly mode: InboundMode;
  readonly way: Way;
  /** False where nothing is sent to peers that are not known to have a kernel path. */
  readonly finishesPackets: boolean;
  readonly peers: number;
  readonly containers: number;
  readonly bridges: BridgesStatus;
  readonly merging: MergingStatus;
  /** False while a peer is missing in the maps: foreign datagrams are judged by user space then. */
  readonly complete: boolean;
}

/** What it needs of the system; a test scripts it. */
export interface KernelPathSystem {
  bpf(): Bpf;
  run: Run;
  /** Processors that the kernel reckons with, present or not. */
  processors(): number;
  types: ReadTypes;
}

const system: KernelPathSystem = {
  bpf: () => new Bpf(),
  run: (argv, tolerate = false) => exec(argv, { tolerate }),
  processors: () => countProcessors(readFileSync('/sys/devices/system/cpu/possible', 'utf8')),
  types: readTypes,
};

/** How many a list such as `0-3,8` names. */
export function countProcessors(list: string): number {
  return list
    .trim()
    .split(',')
    .reduce((sum, range) => {
      const [first = 0, last = first] = range.split('-').map(Number);
      return sum + last - first + 1;
    }, 0);
}

/** So often the programs are told that somebody keeps the maps as the host is. */
const TEND_MS = 1000;

/** Where a program is to hang. */
interface Place {
  readonly program: number;
  readonly device: Device;
  readonly direction: Direction;
}

export class KernelPath {
  readonly #bpf: Bpf;
  readonly #maps: Maps;
  readonly #table: KernelTable;
  readonly #options: KernelPathOptions;
  readonly #facts: LinkFacts;
  readonly #programs: number[] = [];
  readonly #places: Place[] = [];
  readonly #attachments: Attachment[] = [];
  #bridges: Bridges | null = null;
  #merging: Merging | null = null;
  readonly #run: Run;
  #tending: NodeJS.Timeout | null = null;
  #stopped = false;

  private constructor(
    bpf: Bpf,
    maps: Maps,
    processors: number,
    facts: LinkFacts,
    options: KernelPathOptions,
    run: Run,
  ) {
    this.#bpf = bpf;
    this.#run = run;
    this.#facts = facts;
    this.#maps = maps;
    this.#options = options;
    const { underlay, port, capacity = DEFAULT_CAPACITY } = options;
    this.#table = new KernelTable(bpf, maps, { address: underlay.address, port, capacity: capacity.peers, processors });
  }

  /**
   * Loads, tests and attaches the programs. Without peers they take nothing, so this may come before or after the first
   * `setPeers` of the forwarding table.
   *
   * @throws KernelPathRefusedError, with nothing left behind
   */
  static async start(options: KernelPathOptions, sys: KernelPathSystem = system): Promise<KernelPath> {
    const facts = await underlayFacts(options.underlay.name, sys.run);
    const bpf = sys.bpf();
    const processors = sys.processors();
    const places = options.mode === 'direct' ? await stage('programs', () => conntrackPlaces(sys.types)) : null;
    const { capacity = DEFAULT_CAPACITY } = options;
    const maps = await stage('maps', () => createMaps(bpf, places === null ? { ...capacity, flows: 1 } : capacity));
    const path = new KernelPath(bpf, maps, processors, facts, options, sys.run);
    try {
      await path.#attach(places);
      path.#tending = setInterval(() => path.#tend(), TEND_MS).unref();
      return path;
    } catch (error) {
      await path.stop();
      throw error;
    }
  }

  async #attach(places: ConntrackPlaces | null): Promise<void> {
    const { underlay, tun, mode } = this.#options;
    const { network, subnet, port } = this.#options;
    const settings = {
      network,
      subnet,
      port,
      address: underlay.address,
      underlayIfindex: underlay.index,
      tunIfindex: tun.index,
    };
    const load = (program: ReturnType<typeof encapProgram>) => {
      const descriptor = this.#bpf.load(program.name, BPF_PROG_TYPE_SCHED_CLS, program.bytes(this.#maps));
      this.#programs.push(descriptor);
      return descriptor;
    };
    const [encap, decap, deliver, merged] = await stage('programs', () => [
      load(encapProgram(settings, places)),
      load(decapProgram(settings, mode)),
      load(deliverProgram(settings)),
      load(mergedProgram(settings, mode)),
    ]);
    await stage('self-test', () => selfTest(this.#bpf, this.#maps, this.#table, decap as number, settings, places));
    await stage('attach', async () => {
      this.#table.tend();
      // the way in first: a peer that answers at once is answered
      this.#places.push({ program: decap as number, device: underlay, direction: 'ingress' });
      this.#places.push({ program: encap as number, device: tun, direction: 'egress' });
      for (const place of this.#places) this.#attachments.push(await this.#hang(place));
      if (this.#way === 'clsact') await detachFormerEverywhere(DELIVER_PROGRAM, this.#run, port);
    });
    this.#bridges = new Bridges(this.#bpf, deliver as number, this.#run, (device) =>
      this.#hang({ program: deliver as number, device, direction: 'egress' }),
    );
    this.#merging = new Merging({
      wanted: this.#options.merge ?? true,
      port,
      queues: this.#facts.queues,
      run: this.#run,
      table: this.#table,
      hang: (device) => this.#hang({ program: merged as number, device, direction: 'ingress' }),
      programsOn: (ifindex) => this.#bpf.programsOn(ifindex, BPF_TCX_INGRESS).length,
    });
    await this.#merging.keep();
  }

  /** Where that fails the programs do without what has to be kept, as if nobody were there. */
  #tend(): void {
    try {
      this.#table.tend();
    } catch {
      // the next second may be better
    }
  }

  async #hang({ program, device, direction }: Place): Promise<Attachment> {
    const { way, port } = this.#options;
    const attachment = await attach(this.#bpf, program, device, direction, way, this.#run, port);
    // a filter takes a former one's place
    if (attachment.way === 'tcx') await detachFormer(device, direction, this.#run, port);
    return attachment;
  }

  /** Puts programs back that somebody took off. @returns one line for each. @throws BpfError, ExecError */
  async mend(): Promise<readonly string[]> {
    const lines: string[] = [];
    for (const [i, place] of this.#places.entries()) {
      const attachment = this.#attachments[i];
      if (attachment === undefined || (await attachment.isThere())) continue;
      await attachment.detach();
      this.#attachments[i] = await this.#hang(place);
      lines.push(`the kernel path's program on the ${place.direction} of ${place.device.name}`);
    }
    return [...lines, ...((await this.#merging?.keep()) ?? [])];
  }

  /**
   * These are the bridges that containers are behind, all of them; where nothing speaks against it, packets are spared them.
   *
   * @returns one line for each program that was put back. Never throws: `status` says what went wrong
   */
  async keepBridges(bridges: readonly Device[]): Promise<readonly string[]> {
    return this.#stopped ? [] : ((await this.#bridges?.keep(bridges)) ?? []);
  }

  get #way(): Way {
    return this.#attachments[0]?.way ?? 'tcx';
  }

  /** All flows go by route until their next packet out: the rules of the host have changed. */
  forgetFlows(): void {
    this.#table.forgetFlows();
  }

  /**
   * These are the peers, all of them. Where the underlay hands packets on unfinished, what goes to a peer that is not known to
   * have a kernel path goes through user space, which finishes them.
   *
   * @returns those that the kernel did not take; they go through user space
   */
  setPeers(peers: readonly PathPeer[]): readonly Refusal[] {
    const sendable = (peer: PathPeer) => this.#facts.finishesPackets || peer.kernelPath === true;
    return this.#table.replaceAll(peers.map((peer) => (sendable(peer) ? peer : { ...peer, pathMtu: RECEIVE_ONLY })));
  }

  /** These are the containers whose place is known, all of them. The others are reached by route, and by way of their bridge. */
  setContainers(containers: readonly KernelContainer[]): readonly Refusal[] {
    return this.#table.setContainers(containers);
  }

  /**
   * What keeps the ways in and out attached when this process ends, if somebody else has it: descriptors, by names that tell what
   * they are good for. Those on bridges are not among them, for nobody follows the containers then.
   */
  holds(): ReadonlyMap<string, number> {
    const attachments = [...this.#attachments, ...(this.#merging?.attachments ?? [])];
    const holds = attachments.flatMap(({ hold }) => hold ?? []);
    return new Map(holds.map(({ id, descriptor }) => [holdName(this.#options, id), descriptor]));
  }

  /** To be added to the forwarders' totals and drops of the same names. */
  counters(): {
    readonly totals: Record<keyof typeof Total, number>;
    readonly drops: Record<keyof typeof Drop, number>;
    readonly pastBridge: number;
  } {
    return this.#table.counters();
  }

  /** To be added to the forwarding table's counters of the same peers. */
  peers(): readonly KernelPeerCounters[] {
    return [...this.#table.entries()];
  }

  status(): KernelPathStatus {
    return {
      mode: this.#options.mode,
      way: this.#way,
      finishesPackets: this.#facts.finishesPackets,
      peers: this.#table.peers,
      containers: this.#table.containers,
      bridges: this.#bridges?.status() ?? { spared: [], reason: '' },
      merging: this.#merging?.status() ?? { into: '', reason: '' },
      complete: this.#table.complete,
    };
  }

  /** Takes the programs off, then everything else. From then on user space carries all. May be called twice. */
  async stop(): Promise<void> {
    await this.#end((attachment) => attachment.detach());
  }

  /** As `stop`, but what somebody else holds goes on, by route only and as things are now. */
  async leave(): Promise<void> {
    if (this.#stopped) return;
    try {
      this.#table.abandon();
    } catch {
      return this.stop();
    }
    await this.#end((attachment) => attachment.letGo());
  }

  async #end(off: (attachment: Attachment) => Promise<void>): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    if (this.#tending !== null) clearInterval(this.#tending);
    try {
      // what went out last is answered through user space
      for (const attachment of this.#attachments.reverse()) await off(attachment);
      await this.#bridges?.stop();
      await this.#merging?.stop();
    } finally {
      for (const program of this.#programs) this.#bpf.close(program);
      closeMaps(this.#bpf, this.#maps);
    }
  }
}

async function underlayFacts(name: string, run: Run): Promise<LinkFacts> {
  return stage('underlay', async () => {
    const facts = await readLinkFacts(name, run);
    if (!facts.ethernet)
      throw new Error(`${name} is no Ethernet device but ${facts.linkType}; the kernel path needs one`);
    return facts;
  });
}

async function stage<T>(name: KernelPathRefusedError['stage'], work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw new KernelPathRefusedError(name, `no kernel path (${name}): ${messageOf(error)}`, { cause: error });
  }
}
