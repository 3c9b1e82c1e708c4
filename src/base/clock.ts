import { performance } from 'node:perf_hooks';

/** Time, as the lease manager sees it; a test puts its own in place. */
export interface Clock {
  /** Milliseconds since the epoch; may jump when the machine's clock is set. */
  now(): number;
  /** Milliseconds since some moment; never jumps, but may stand still while the machine sleeps. */
  monotonic(): number;
  /** Waits so many milliseconds, or until the signal is aborted; never rejects. */
  sleep(milliseconds: number, signal: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (milliseconds, signal) =>
    new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const end = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', end);
        resolve();
      };
      const timer = setTimeout(end, milliseconds);
      signal.addEventListener('abort', end);
    }),
};

/**
 * Delays that double from the first to the last: 100 ms, 200 ms, … 5 s. Each is shortened by up to a quarter, at random, so
 * that hundreds of hosts that lost the registry together do not come back together.
 */
export class Backoff {
  #next: number;

  constructor(
    private readonly first = 100,
    private readonly last = 5_000,
  ) {
    this.#next = first;
  }

  /** The delay before the next try, in milliseconds. */
  next(): number {
    const delay = this.#next;
    this.#next = Math.min(this.last, delay * 2);
    return delay * (1 - Math.random() / 4);
  }

  reset(): void {
    this.#next = this.first;
  }
}
