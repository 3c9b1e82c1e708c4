import { median } from '../stats/summary.js';
import type { Clock } from './clock.js';

const CAPACITY = 1 << 16;

/** The durations of many calls of one kind, in nanoseconds, the clock's own cost taken off. */
export class Stopwatch {
  readonly #times = new Float64Array(CAPACITY);
  #count = 0;

  add(duration: number): void {
    if (this.#count < CAPACITY) this.#times[this.#count++] = duration;
  }

  get count(): number {
    return this.#count;
  }

  reset(): void {
    this.#count = 0;
  }

  /**
   * Median and mean of the durations. The median is what a call costs; the mean includes what came between: interrupts,
   * other programs, the kernel's own threads.
   */
  read(): { readonly median: number; readonly mean: number; readonly count: number } {
    const times = this.#times.subarray(0, this.#count);
    if (this.#count === 0) return { median: Number.NaN, mean: Number.NaN, count: 0 };
    let sum = 0;
    for (const time of times) sum += time;
    return { median: median(times), mean: sum / this.#count, count: this.#count };
  }
}

/** Times one call. */
export function time(clock: Clock, stopwatch: Stopwatch, call: () => number): number {
  const start = clock.now();
  const result = call();
  stopwatch.add(clock.now() - start - clock.overhead);
  return result;
}
