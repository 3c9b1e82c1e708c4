import { HANDSHAKES_PER_ADDRESS_BURST, HANDSHAKES_PER_ADDRESS_PER_SECOND } from './constants.js';

/** Addresses remembered at once. A flood from more than these is let in at no more than their common rate. */
const CAPACITY = 4096;
const COST = 1000 / HANDSHAKES_PER_ADDRESS_PER_SECOND;
const BUDGET = HANDSHAKES_PER_ADDRESS_BURST * COST;

/**
 * A token bucket for each source address: under load, somebody who proved with a cookie that the address is theirs still
 * gets only their share. The memory is bounded: where it is full, newcomers wait until an old bucket has filled up.
 */
export class AddressLimit {
  /** The moment at which the address's bucket will be full, in milliseconds; in the order of their last use. */
  readonly #fullAt = new Map<string, number>();

  /** May the address send one more? @param now milliseconds since some moment */
  take(address: string, now: number): boolean {
    const fullAt = Math.max(now, this.#fullAt.get(address) ?? now);
    if (fullAt + COST > now + BUDGET) return false;
    if (!this.#fullAt.has(address) && this.#fullAt.size >= CAPACITY && !this.#forgetOne(now)) return false;
    this.#fullAt.delete(address);
    this.#fullAt.set(address, fullAt + COST);
    return true;
  }

  get size(): number {
    return this.#fullAt.size;
  }

  /** A full bucket is as good as none. The least recently used is the first to be full, give or take a burst. */
  #forgetOne(now: number): boolean {
    for (const [address, fullAt] of this.#fullAt) {
      if (fullAt > now) return false;
      this.#fullAt.delete(address);
      return true;
    }
    return false;
  }
}
