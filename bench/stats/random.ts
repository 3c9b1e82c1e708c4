/** A source of numbers from 0 (inclusive) to 1 (exclusive). */
export type Random = () => number;

/**
 * A seeded generator (mulberry32), so that the same samples give the same interval on every machine and every time.
 *
 * Good enough for resampling: it passes gjrand's basic tests and has a period of 2³².
 */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
