import { randomFillSync } from 'node:crypto';

/** So many bytes are drawn at once: a draw costs the same for 32 as for these. */
const POOL_BYTES = 1024;

/** A source of random bytes, each of which is given out once, and is nowhere else then. */
export function createRandom(): (bytes: number) => Uint8Array {
  const pool = new Uint8Array(POOL_BYTES);
  let used = POOL_BYTES;
  return (length) => {
    if (length > POOL_BYTES) return randomFillSync(new Uint8Array(length));
    if (used + length > POOL_BYTES) {
      randomFillSync(pool);
      used = 0;
    }
    const bytes = pool.slice(used, used + length);
    pool.fill(0, used, used + length);
    used += length;
    return bytes;
  };
}
