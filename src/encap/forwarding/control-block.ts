/**
 * The few words through which the control thread and the forwarders talk about themselves: please stop, I failed, I had
 * to turn something off.
 */

const STOP = 0;
const FAILED_AT = 1;
const FEATURES_AT = 16;

export type Direction = 'tx' | 'rx';

/** What a forwarder may have to turn off at run time, and where its words lie. */
const RUNTIME_FEATURES = ['udp_gso', 'merge_tcp', 'merge_udp'] as const;
export type RuntimeFeature = (typeof RUNTIME_FEATURES)[number];

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
    Atomics.store(this.#words, FAILED_AT + (direction === 'tx' ? 0 : 1), errno);
  }

  /** The errno with which a forwarder gave up; 0 while it has not. */
  failed(direction: Direction): number {
    return Atomics.load(this.#words, FAILED_AT + (direction === 'tx' ? 0 : 1));
  }

  /** Turns a feature off for good. @param errno what the kernel said to it */
  turnOff(feature: RuntimeFeature, errno: number): void {
    Atomics.store(this.#words, FEATURES_AT + RUNTIME_FEATURES.indexOf(feature), errno);
  }

  /** The errno for which a feature was turned off; 0 while it is not. */
  turnedOff(feature: RuntimeFeature): number {
    return Atomics.load(this.#words, FEATURES_AT + RUNTIME_FEATURES.indexOf(feature));
  }
}
