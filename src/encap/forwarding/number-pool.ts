/**
 * Numbers of things in shared memory that forwarders read without a lock: tree nodes, peers.
 *
 * Theory of operation. The control thread takes a number out of the tables by one store, but a forwarder that looked just
 * before it may hold the number still. It does so until the end of its turn, never longer; so a number may stand for
 * something else as soon as every forwarder has been seen outside of the turn that it was in, if it was in one, when the
 * number went (quiescent-state-based reclamation). Each thread says where it is by a beat in the control block, odd inside
 * a turn. A number that is given back rests with the beats of that moment: a thread whose beat was even held nothing, one
 * whose beat is another by now holds nothing any more. Forwarders pay two stores a turn for this, and nothing a packet.
 *
 * The numbers rest in a queue, oldest first. One that was given back earlier was out of the tables earlier, so when a
 * number may be used again, so may all before it.
 */
import { type ControlBlock, THREADS } from './control-block.js';

/** A resting number and the beats of all threads. */
const ENTRY_WORDS = 1 + THREADS;

/** Owned by the control thread. */
export class NumberPool {
  readonly #end: number;
  readonly #control: Pick<ControlBlock, 'beat'>;
  /** A ring with room for all numbers. */
  readonly #ring: Int32Array;
  #oldest = 0;
  #resting = 0;
  #fresh: number;

  /** @param first, end the numbers from `first` on, without `end` */
  constructor(first: number, end: number, control: Pick<ControlBlock, 'beat'>) {
    this.#fresh = first;
    this.#end = end;
    this.#control = control;
    this.#ring = new Int32Array(end * ENTRY_WORDS);
  }

  /** So many numbers that no forwarder holds, those that never were used first; null when there are fewer. */
  take(count: number): number[] | null {
    const reused = Math.max(0, count - (this.#end - this.#fresh));
    if (reused > this.#resting || (reused > 0 && !this.#rested(this.#place(reused - 1)))) return null;
    const numbers: number[] = [];
    while (numbers.length < count - reused) numbers.push(this.#fresh++);
    while (numbers.length < count) {
      numbers.push(this.#ring[this.#place(0)]);
      this.#oldest = (this.#oldest + 1) % this.#end;
      this.#resting--;
    }
    return numbers;
  }

  /** Gives a number back. It stands in no table any more, though a forwarder may hold it. */
  giveBack(number: number): void {
    const entry = this.#place(this.#resting++);
    this.#ring[entry] = number;
    for (let thread = 0; thread < THREADS; thread++) this.#ring[entry + 1 + thread] = this.#control.beat(thread);
  }

  /** Where the entry stands that is the so-manieth after the oldest. */
  #place(after: number): number {
    return ((this.#oldest + after) % this.#end) * ENTRY_WORDS;
  }

  #rested(entry: number): boolean {
    for (let thread = 0; thread < THREADS; thread++) {
      const beat = this.#ring[entry + 1 + thread];
      if ((beat & 1) !== 0 && this.#control.beat(thread) === beat) return false;
    }
    return true;
  }
}
