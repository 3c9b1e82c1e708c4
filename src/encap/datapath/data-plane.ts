/**
 * The data path as the control thread sees it: the shared memory with the forwarding table in it, and the threads that
 * forward by it.
 *
 * Made first, so that the table can be filled before the first packet is taken; `start` then puts the threads to work.
 */
import { SharedMemory } from '../../linux/memory.js';
import { ControlBlock, type Direction, RUNTIME_FEATURES } from '../forwarding/control-block.js';
import { Counters } from '../forwarding/counters.js';
import { ForwardingTable, IPV4_UNDERLAY } from '../forwarding/forwarding-table.js';
import { type Layout, type OverlayNetworks, planLayout } from '../forwarding/layout.js';
import type { ForwarderOptions } from './options.js';
import { ForwarderThreads, SHARES, type ThreadOptions } from './threads.js';

/** `tick` is to be called so often. */
export const TICK_MS = 1000;
/** An offload that the kernel has refused is tried again after so many ticks. */
const REARM_TICKS = 60;

export class DataPlane {
  readonly layout: Layout;
  readonly memory: SharedMemory;
  readonly control: ControlBlock;
  readonly table: ForwardingTable;
  readonly counters: Readonly<Record<Direction, Counters>>;
  #threads: ForwarderThreads | null = null;
  /** For how many ticks each feature has been off. */
  readonly #ticksOff = RUNTIME_FEATURES.map(() => 0);
  #shares = SHARES[1];
  /** What each thread showed at the latest tick, and for how many ticks it has shown the same in a turn. */
  readonly #beats: number[] = [];
  readonly #counted: number[] = [];
  readonly #ticksStill: number[] = [];

  /** @param port UDP port of every host @param underlay what this host has sockets of */
  constructor(networks: OverlayNetworks, port: number, layout = planLayout(networks), underlay = IPV4_UNDERLAY) {
    this.layout = layout;
    this.memory = SharedMemory.create(layout.bytes);
    const { i32, f64 } = this.memory;
    this.control = new ControlBlock(i32, layout.control);
    this.counters = { tx: new Counters(f64, layout.txCounters), rx: new Counters(f64, layout.rxCounters) };
    this.table = new ForwardingTable({ memory: this.memory, layout, control: this.control, networks, underlay, port });
  }

  /**
   * Starts one thread for both directions, or one for each, and waits until they run. None does when this throws.
   *
   * @param options may come later: the threads get ready meanwhile. They read nothing before
   */
  async start(options: ForwarderOptions | Promise<ForwarderOptions>, how: ThreadOptions): Promise<void> {
    this.#shares = SHARES[how.threads];
    this.#threads = await ForwarderThreads.start(this.memory, this.control, Promise.resolve(options), how);
  }

  /** Has the forwarders told that there may be news for them. */
  wake(): void {
    this.#threads?.wake();
  }

  /** Ends the threads and waits until they have; the descriptors that they used may be closed then. */
  async stop(): Promise<void> {
    await this.#threads?.stop();
    this.#threads = null;
  }

  /** Looks after the forwarders: gives refused offloads another chance, and sees whether a thread is stuck. */
  tick(): void {
    for (const [i, feature] of RUNTIME_FEATURES.entries()) {
      const off = this.control.turnedOff(feature) !== 0 && !this.control.offForGood(feature);
      this.#ticksOff[i] = off ? this.#ticksOff[i] + 1 : 0;
      if (this.#ticksOff[i] <= REARM_TICKS) continue;
      this.#ticksOff[i] = 0;
      this.control.turnOn(feature);
    }
    for (const [thread, directions] of this.#shares.entries()) {
      const beat = this.control.beat(thread);
      const counted = directions.reduce((sum, direction) => sum + this.counters[direction].sum(), 0);
      const still = (beat & 1) !== 0 && beat === this.#beats[thread] && counted === this.#counted[thread];
      this.#ticksStill[thread] = still ? this.#ticksStill[thread] + 1 : 0;
      this.#beats[thread] = beat;
      this.#counted[thread] = counted;
    }
  }

  /**
   * For how many seconds a thread has been in one turn without counting anything: it spins, or sleeps where it should not.
   * A turn takes milliseconds; one that waits for a full device counts what it drops every half second. Time in which this
   * process did not run itself does not count.
   */
  get stuckFor(): number {
    return (Math.max(0, ...this.#ticksStill) * TICK_MS) / 1000;
  }
}
