/**
 * The few words through which the control thread and the forwarders talk about themselves: please stop, I failed, I had
 * to turn something off, I am in a turn.
 */

export type Direction = 'tx' | 'rx';

/** Most forwarder threads that there are. */
export const THREADS = 2;

const STOP = 0;
const FAILED: Readonly<Record<Direction, number>> = { tx: 1, rx: 2 };
const PEERS_COMPLETE = 3;
/** Each thread's beat has a cache line for itself: a thread writes it twice a turn. */
const BEATS_AT = 64;
const BEAT_STRIDE = 16;

/** What a forwarder may have to turn off at run time, and where its two words lie: why it is off, and whether for good. */
const FEATURES = { udp_gso: 16, merge_tcp: 18, merge_udp: 20 } as const;
export type RuntimeFeature = keyof typeof FEATURES;
export const RUNTIME_FEATURES = Object.keys(FEATURES) as readonly RuntimeFeature[];

export class ControlBlock {
  readonly #words: Int32Array;

  /** @param at offset of the control block's 4096 bytes */
  constructor(i32: Int32Array, at: number) {
    this.#words = i32.subarray(at >>> 2, (at >>> 2) + 1024);
  }

  /** Asks both forwarders to end; they look at it before every wait and every read. */
  requestStop(): void {
    Atomics.store(this.#words, STOP, 1);
  }

  get stopRequested(): boolean {
    return this.#words[STOP] !== 0;
  }

  /** A forwarder cannot go on. @param errno why */
  setFailed(direction: Direction, errno: number): void {
    Atomics.store(this.#words, FAILED[direction], errno);
  }

  /** The errno with which a forwarder gave up; 0 while it has not. */
  failed(direction: Direction): number {
    return Atomics.load(this.#words, FAILED[direction]);
  }

  /** Are the peers in the table all that there are? Set by the control thread. */
  get peersComplete(): boolean {
    return this.#words[PEERS_COMPLETE] !== 0;
  }

  set peersComplete(complete: boolean) {
    Atomics.store(this.#words, PEERS_COMPLETE, complete ? 1 : 0);
  }

  /** Turns a feature off. @param errno what the kernel said to it @param forGood nobody shall turn it on again */
  turnOff(feature: RuntimeFeature, errno: number, forGood: boolean): void {
    Atomics.store(this.#words, FEATURES[feature] + 1, forGood ? 1 : 0);
    Atomics.store(this.#words, FEATURES[feature], errno);
  }

  /** Turns a feature on again that is off, but not for good. Called by the control thread. */
  turnOn(feature: RuntimeFeature): void {
    Atomics.store(this.#words, FEATURES[feature], 0);
  }

  /** The errno for which a feature is off; 0 while it is not. */
  turnedOff(feature: RuntimeFeature): number {
    return Atomics.load(this.#words, FEATURES[feature]);
  }

  offForGood(feature: RuntimeFeature): boolean {
    return this.turnedOff(feature) !== 0 && Atomics.load(this.#words, FEATURES[feature] + 1) !== 0;
  }

  /**
   * A thread begins a turn: its beat is odd until `leaveTurn`. All that it reads of the tables it reads in between. The
   * load orders those reads behind the store, which on arm64 the store alone does not.
   */
  enterTurn(thread: number): void {
    const word = BEATS_AT + thread * BEAT_STRIDE;
    Atomics.store(this.#words, word, (this.#words[word] + 1) | 1);
    Atomics.load(this.#words, word);
  }

  /** A thread has ended its turn, or itself, and holds nothing any more that it read of the tables. */
  leaveTurn(thread: number): void {
    const word = BEATS_AT + thread * BEAT_STRIDE;
    Atomics.store(this.#words, word, (this.#words[word] + 1) & ~1);
  }

  /** Odd while the thread is in a turn, another number in each; even while it waits, has not begun or has ended. */
  beat(thread: number): number {
    return Atomics.load(this.#words, BEATS_AT + thread * BEAT_STRIDE);
  }
}
