import type { Clock } from './clock.js';
import { Stopwatch } from './stopwatch.js';

/** From container to container a packet crosses between user and kernel space six times. */
export const crossingIds = ['app-send', 'tun-read', 'udp-send', 'udp-receive', 'tun-write', 'app-receive'] as const;
export type CrossingId = (typeof crossingIds)[number];

/** What a packet's time is made of: its crossings, and what the daemon does between them on either host. */
export type TimedPart = CrossingId | 'tx-work' | 'rx-work';

/**
 * Variants of a crossing:
 * - `full`: the packet goes all the way; what the call costs in use.
 * - `empty`: the same call finds nothing to do and returns at once (EAGAIN, no bytes, or a destination that is refused
 *   at first sight): entering and leaving the kernel, finding file and arguments.
 * - `plain` and `short`: reading crossings only, read one right after the other: the whole packet, and a few bytes of it,
 *   so that next to nothing is copied.
 * - `dropped`: writing crossings only: the kernel takes the same packet over in full and drops it at once (a device whose
 *   queue is full; a header checksum that is wrong): all but the way onwards to the next queue.
 */
export type Variant = 'full' | 'empty' | 'plain' | 'short' | 'dropped';

/** Nanoseconds per call by one clock. */
export interface Timing {
  readonly part: TimedPart;
  readonly variant: Variant;
  readonly clock: Clock['id'];
  readonly median: number;
  readonly mean: number;
  readonly count: number;
}

/** The stopwatches of one measurement, by part and variant. */
export class Watches {
  readonly #watches = new Map<string, Stopwatch>();
  readonly #taken: Timing[] = [];

  constructor(readonly clock: Clock['id']) {}

  of(part: TimedPart, variant: Variant): Stopwatch {
    const key = `${part} ${variant}`;
    let watch = this.#watches.get(key);
    if (watch === undefined) {
      watch = new Stopwatch();
      this.#watches.set(key, watch);
    }
    return watch;
  }

  /** Reads a stopwatch that somebody else filled, and will use again. */
  take(part: TimedPart, variant: Variant, watch: Stopwatch): void {
    this.#taken.push({ part, variant, clock: this.clock, ...watch.read() });
  }

  timings(): Timing[] {
    const own = [...this.#watches].map(([key, watch]) => {
      const [part, variant] = key.split(' ') as [TimedPart, Variant];
      return { part, variant, clock: this.clock, ...watch.read() };
    });
    return [...own, ...this.#taken].filter(({ count }) => count > 0);
  }
}
