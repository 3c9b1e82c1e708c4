/**
 * Longest-prefix match over IPv4, in memory that many threads read while one writes.
 *
 * Theory of operation. A node is 256 words, one for each value of one octet of the address. A word is 0 (nothing), a
 * value plus one (a leaf), or a child's node number with the sign bit set. A prefix that ends inside an octet fills a
 * run of words; a prefix that ends deeper hangs a child below a word. A new child starts as 256 copies of the word that
 * it replaces, so a lookup never has to remember a shorter match on its way down: the word it ends at is the answer.
 *
 * The root decides the octets that all addresses share, so in a /16 network a /24 subnet costs one load, however many
 * hosts there are, and a /26 left over from another configuration costs two.
 *
 * Readers take no lock. Every change that they can see is one 32-bit store: leaves change one word at a time, and a
 * child is filled before the word that leads to it is stored. Nodes are never freed or moved; a node stays with its
 * octets, so their number is bounded by the distinct prefixes of 8, 16 and 24 bits that ever had something below them.
 */

import { TweedError } from '../../base/errors.js';
import { contains, formatPrefix, netmask, type Prefix } from '../../base/ipv4.js';

const NODE_WORDS = 256;
const CHILD = 0x8000_0000 | 0;
const NODE_MASK = 0x7fff_ffff;

/** What a lookup returns when no prefix covers the address. */
export const NO_VALUE = -1;

/** The memory that a table of so many nodes takes. */
export function prefixTableBytes(nodes: number): number {
  return nodes * NODE_WORDS * 4;
}

/** Where the table of a network starts to look: the octets before it are the same for every address inside. */
export function rootShift(network: Prefix): number {
  return 24 - 8 * Math.min(3, network.length >>> 3);
}

/**
 * The value of the longest prefix that covers `address`, or NO_VALUE.
 *
 * Any thread may call it at any time. The caller has made sure that the address is inside the table's network.
 *
 * @param words the shared memory
 * @param table index of the root node's first word
 * @param shift rootShift() of the table's network
 * @param address host order
 */
export function lookup(words: Int32Array, table: number, shift: number, address: number): number {
  let word = words[table + ((address >>> shift) & 255)];
  for (let next = shift - 8; word < 0; next -= 8) {
    word = words[table + (word & NODE_MASK) * NODE_WORDS + ((address >>> next) & 255)];
  }
  return word - 1;
}

/** The table has no node left for another prefix. */
export class PrefixTableFullError extends TweedError {
  constructor(prefix: Prefix) {
    super(
      'PREFIX_TABLE_FULL',
      `no room for ${formatPrefix(prefix)} in the forwarding table; use fewer distinct networks`,
    );
  }
}

/** The writing side of a table. One thread owns it. */
export class PrefixTable {
  readonly shift: number;
  readonly #values = new Map<number, Map<number, number>>();
  /** For every word that is a leaf: one more than the length of the prefix it comes from; 0 for nothing. */
  readonly #origin: Uint8Array;
  #used = 1;

  /**
   * @param words shared memory, zero where the table lies
   * @param table index of the table's first word
   * @param nodes room for so many nodes
   * @param network all prefixes lie inside it; 0.0.0.0/0 takes any
   */
  constructor(
    readonly words: Int32Array,
    readonly table: number,
    readonly nodes: number,
    readonly network: Prefix,
  ) {
    this.shift = rootShift(network);
    this.#origin = new Uint8Array(nodes * NODE_WORDS);
  }

  lookup(address: number): number {
    return contains(this.network, address) ? lookup(this.words, this.table, this.shift, address) : NO_VALUE;
  }

  /** Adds a prefix or changes its value. @param value 0 to 2³⁰ @throws PrefixTableFullError, with nothing changed */
  set(prefix: Prefix, value: number): void {
    let ofLength = this.#values.get(prefix.length);
    const known = ofLength?.get(prefix.address);
    if (known === value) return;
    const [node, first, count] = this.#place(prefix);
    if (ofLength === undefined) {
      ofLength = new Map();
      this.#values.set(prefix.length, ofLength);
    }
    ofLength.set(prefix.address, value);
    this.#fill(node, first, count, value + 1, prefix.length + 1, prefix.length + 1);
  }

  /** Takes a prefix out; the next shorter one that covers it takes over. Unknown prefixes are ignored. */
  delete(prefix: Prefix): void {
    const ofLength = this.#values.get(prefix.length);
    if (!ofLength?.delete(prefix.address)) return;
    let value = NO_VALUE;
    let length = prefix.length - 1;
    for (; length >= 0; length--) {
      value = this.#values.get(length)?.get((prefix.address & netmask(length)) >>> 0) ?? NO_VALUE;
      if (value !== NO_VALUE) break;
    }
    const [node, first, count] = this.#place(prefix);
    this.#fill(node, first, count, value + 1, length + 1, prefix.length + 1);
  }

  /** The run of words that a prefix covers in the node where it ends; makes the nodes on the way there. */
  #place(prefix: Prefix): [node: number, first: number, count: number] {
    let node = 0;
    let shift = this.shift;
    const wanted = Math.max(0, Math.ceil((prefix.length - (32 - shift)) / 8));
    if (this.#used + this.#missing(prefix.address, wanted) > this.nodes) throw new PrefixTableFullError(prefix);
    for (let depth = 0; depth < wanted; depth++, shift -= 8) {
      node = this.#child(node, (prefix.address >>> shift) & 255);
    }
    const bits = 32 - shift - prefix.length;
    const count = bits >= 8 ? NODE_WORDS : 1 << bits;
    return [node, bits >= 8 ? 0 : (prefix.address >>> shift) & 255, count];
  }

  /** How many nodes have yet to be made on the way down to `depth`. */
  #missing(address: number, depth: number): number {
    let node = 0;
    let shift = this.shift;
    for (let done = 0; done < depth; done++, shift -= 8) {
      const word = this.words[this.table + node * NODE_WORDS + ((address >>> shift) & 255)];
      if (word >= 0) return depth - done;
      node = word & NODE_MASK;
    }
    return 0;
  }

  #child(node: number, octet: number): number {
    const slot = node * NODE_WORDS + octet;
    const word = this.words[this.table + slot];
    if (word < 0) return word & NODE_MASK;
    const child = this.#used++;
    const start = child * NODE_WORDS;
    this.words.fill(word, this.table + start, this.table + start + NODE_WORDS);
    this.#origin.fill(this.#origin[slot], start, start + NODE_WORDS);
    Atomics.store(this.words, this.table + slot, CHILD | child);
    return child;
  }

  /** Stores `word` wherever the run's leaves come from a prefix no longer than `upTo` − 1 bits, children included. */
  #fill(node: number, first: number, count: number, word: number, origin: number, upTo: number): void {
    for (let octet = first; octet < first + count; octet++) {
      const slot = node * NODE_WORDS + octet;
      const old = this.words[this.table + slot];
      if (old < 0) this.#fill(old & NODE_MASK, 0, NODE_WORDS, word, origin, upTo);
      else if (this.#origin[slot] <= upTo) {
        this.#origin[slot] = origin;
        Atomics.store(this.words, this.table + slot, word);
      }
    }
  }
}
