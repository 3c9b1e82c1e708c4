/**
 * The IPv6 addresses of all peers, in memory that many threads read while one writes: who may send us datagrams.
 *
 * Theory of operation. A hash table with open addressing. An entry is the number of a peer plus one, so it is one word, and
 * the address itself is compared where it lies in the peer's record. Addresses of hosts share nothing that a tree of
 * octets could profit from: with random interface identifiers it would take some six kilobytes a host, while here it is
 * eight bytes. An entry that goes leaves a mark, since others may lie behind it, and marks before a free entry are freed
 * with it. Every change is one 32-bit store; a number that a reader took before it went stays what it was until the end of the
 * reader's turn (`number-pool.ts`).
 */
import { PEER_BYTES, PEER_IPV6 } from './peer-record.js';
import { NO_VALUE } from './prefix-table.js';

/** Something was here, and something may lie behind it. */
const GONE = -1;

/** Entries for so many peers: at most half of them are ever taken. A power of two. */
export function senderEntries(peers: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, peers)) + 1);
}

function hash(a: number, b: number, c: number, d: number): number {
  let sum = Math.imul(a ^ Math.imul(b, 0x85ebca6b), 0x9e3779b1);
  sum = Math.imul(sum ^ (sum >>> 15) ^ c, 0x9e3779b1);
  sum = Math.imul(sum ^ (sum >>> 15) ^ d, 0x9e3779b1);
  return sum ^ (sum >>> 15);
}

/**
 * The number of a peer at an address, or NO_VALUE. Any thread may call it, a forwarder only in its turn.
 *
 * @param set index of the first entry
 * @param entries how many there are
 * @param records offset of the peers' records
 * @param at offset of the address, aligned to four
 */
export function findSender(i32: Int32Array, set: number, entries: number, records: number, at: number): number {
  const wanted = at >>> 2;
  const mask = entries - 1;
  const first = hash(i32[wanted], i32[wanted + 1], i32[wanted + 2], i32[wanted + 3]);
  for (let i = 0; i < entries; i++) {
    const entry = i32[set + ((first + i) & mask)];
    if (entry === 0) return NO_VALUE;
    if (entry === GONE) continue;
    const known = (records + (entry - 1) * PEER_BYTES + PEER_IPV6) >>> 2;
    if (
      i32[known] === i32[wanted] &&
      i32[known + 1] === i32[wanted + 1] &&
      i32[known + 2] === i32[wanted + 2] &&
      i32[known + 3] === i32[wanted + 3]
    ) {
      return entry - 1;
    }
  }
  return NO_VALUE;
}

/** The writing side. One thread owns it. */
export class SenderSet {
  readonly #i32: Int32Array;
  readonly #set: number;
  readonly #entries: number;
  readonly #records: number;

  /**
   * @param i32 shared memory, zero where the set lies
   * @param set index of the first entry
   */
  constructor(i32: Int32Array, set: number, entries: number, records: number) {
    this.#i32 = i32;
    this.#set = set;
    this.#entries = entries;
    this.#records = records;
  }

  /** Adds a peer by the address in its record, which no peer in the set has. There is room for all peers. */
  add(number: number): void {
    const at = (this.#records + number * PEER_BYTES + PEER_IPV6) >>> 2;
    const first = hash(this.#i32[at], this.#i32[at + 1], this.#i32[at + 2], this.#i32[at + 3]);
    for (let i = 0; i < this.#entries; i++) {
      const entry = this.#place(first + i);
      if (this.#i32[entry] <= 0) return void Atomics.store(this.#i32, entry, number + 1);
    }
  }

  /** Takes a peer out, whose address is still in its record; or has another one with the same address take its place. */
  remove(number: number, heir = NO_VALUE): void {
    const at = (this.#records + number * PEER_BYTES + PEER_IPV6) >>> 2;
    const first = hash(this.#i32[at], this.#i32[at + 1], this.#i32[at + 2], this.#i32[at + 3]);
    for (let i = 0; i < this.#entries; i++) {
      const entry = this.#place(first + i);
      if (this.#i32[entry] === 0) return;
      if (this.#i32[entry] !== number + 1) continue;
      if (heir !== NO_VALUE) return void Atomics.store(this.#i32, entry, heir + 1);
      return this.#free(first + i);
    }
  }

  #free(index: number): void {
    if (this.#i32[this.#place(index + 1)] !== 0) return void Atomics.store(this.#i32, this.#place(index), GONE);
    Atomics.store(this.#i32, this.#place(index), 0);
    for (let before = index - 1; this.#i32[this.#place(before)] === GONE; before--) {
      Atomics.store(this.#i32, this.#place(before), 0);
    }
  }

  #place(index: number): number {
    return this.#set + (index & (this.#entries - 1));
  }
}
