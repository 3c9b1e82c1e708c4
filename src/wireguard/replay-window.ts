/**
 * Which counters of a key have been seen (RFC 6479), in shared memory.
 *
 * The window is a ring of 32-bit words, one bit a counter, and moves by whole words: one word is always cleared ahead, so
 * counters up to WINDOW_BITS behind the highest are told apart, and older ones are taken for seen.
 *
 * Owned by the thread that receives; the control thread clears it while nobody can reach it. Counters are plain numbers
 * below 2⁵³ and come here only from messages that proved authentic.
 */

/** Bits in the ring; the last word of them is the one that is being filled. */
const RING_BITS = 8192;
const RING_WORDS = RING_BITS / 32;

/** So far behind the highest counter a message may arrive and still be accepted, once. */
export const WINDOW_BITS = RING_BITS - 32;

/** The highest counter plus one, as a double, then the ring. */
export const WINDOW_BYTES = 8 + RING_WORDS * 4;

/** Forgets everything. @param at offset of WINDOW_BYTES, a multiple of 8 */
export function clearWindow(i32: Int32Array, at: number): void {
  const end = (at + WINDOW_BYTES) >>> 2;
  // `fill` takes shared memory byte by byte
  for (let word = at >>> 2; word < end; word++) i32[word] = 0;
}

/** @returns true for a counter that is new, which is thereby seen */
export function acceptCounter(i32: Int32Array, f64: Float64Array, at: number, counter: number): boolean {
  const ring = (at >>> 2) + 2;
  const next = f64[at >>> 3];
  if (counter + WINDOW_BITS < next) return false;
  // the numbers of words may be too big for bit operations
  const block = Math.floor(counter / 32);
  if (counter >= next) {
    const last = next === 0 ? 0 : Math.floor((next - 1) / 32);
    const steps = Math.min(block - last, RING_WORDS);
    for (let step = 1; step <= steps; step++) i32[ring + ((last + step) % RING_WORDS)] = 0;
    f64[at >>> 3] = counter + 1;
  }
  const word = ring + (block % RING_WORDS);
  const bit = 1 << (counter - block * 32);
  if ((i32[word] & bit) !== 0) return false;
  i32[word] |= bit;
  return true;
}
