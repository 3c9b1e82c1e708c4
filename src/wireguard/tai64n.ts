/**
 * TAI64N timestamps (cr.yp.to/libtai/tai64.html): seconds since 1970 plus 2⁶² and the 10 leap seconds of the start,
 * 8 bytes, then nanoseconds, 4 bytes, both big-endian. Compared as bytes they order by time.
 */

export const TAI64N_BYTES = 12;

const BASE = 0x4000_0000_0000_000an;
/** Told no finer than this (16.8 ms), so that the clock's exact value does not leak to everybody who listens. */
const GRAIN_NANOSECONDS = 1n << 24n;
const SECOND = 1_000_000_000n;

/** The stamps that one host sends to one peer: each greater than the one before, whatever the clock does. */
export class Timestamps {
  #last = 0n;

  /** @param now milliseconds since the epoch */
  next(now: number): Uint8Array {
    let time = BigInt(Math.trunc(now)) * 1_000_000n;
    time -= time % GRAIN_NANOSECONDS;
    if (time <= this.#last) time = this.#last + GRAIN_NANOSECONDS;
    this.#last = time;
    const stamp = new Uint8Array(TAI64N_BYTES);
    const view = new DataView(stamp.buffer);
    view.setBigUint64(0, BASE + time / SECOND);
    view.setUint32(8, Number(time % SECOND));
    return stamp;
  }
}

/** Is `a` later than `b`? */
export function isLater(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) > 0;
}
