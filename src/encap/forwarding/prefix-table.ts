/**
 * Longest-prefix match over addresses of one family, in memory that many threads read while one writes.
 *
 * Theory of operation. A node is 256 words, one for each value of one octet of the address. A word is 0 (nothing), a
 * value plus one (a leaf), or a child's node number with the sign bit set. A prefix that ends inside an octet fills a
 * run of words; a prefix that ends deeper hangs a child below a word. A new child starts as 256 copies of the word that
 * it replaces, so a lookup never has to remember a shorter match on its way down: the word it ends at is the answer.
 *
 * The root decides the octets that all addresses share, so in a /16 network a /24 subnet costs one load, however many
 * hosts there are, and a /26 left over from another configuration costs two. IPv6 is the same with sixteen octets: the /64
 * subnets of a /56 network cost one load, those of a /48 two. Only the loops that read differ by family, since an IPv4
 * address is a number and an IPv6 address stays where it lies in the packet.
 *
 * Readers take no lock. Every change that they can see is one 32-bit store: leaves change one word at a time, and a
 * child is filled before the word that leads to it is stored. A child in which no prefix ends any more, nor below it, has
 * 256 equal words; one store puts that word in its place, and the node is free once no reader can be in it
 * (`number-pool.ts`). So there are never more nodes than the prefixes of this moment need.
 */

import { type Address, type AnyPrefix, isIpv4Prefix, prefixContains } from '../../base/address.js';
import { netmask, type Prefix } from '../../base/ipv4.js';
import { type Ipv6Prefix, netmaskV6 } from '../../base/ipv6.js';
import { putIpv6 } from '../../linux/structs.js';
import type { ControlBlock } from './control-block.js';
import { NumberPool } from './number-pool.js';

const NODE_WORDS = 256;
const CHILD = 0x8000_0000 | 0;
const NODE_MASK = 0x7fff_ffff;

/** The network of a table that takes any prefix of its family. */
export const ANYWHERE: Prefix = { address: 0, length: 0 };
export const ANYWHERE_V6: Ipv6Prefix = { address: 0n, length: 0 };

/** What a lookup returns when no prefix covers the address. */
export const NO_VALUE = -1;

/** The memory that a table of so many nodes takes. */
export function prefixTableBytes(nodes: number): number {
  return nodes * NODE_WORDS * 4;
}

/** Which octet the table of a network looks at first: those before it are the same for every address inside. */
export function rootOctet(network: AnyPrefix): number {
  return Math.min(isIpv4Prefix(network) ? 3 : 15, network.length >>> 3);
}

/** The same for `lookup`: how far an IPv4 address is shifted to have that octet last. */
export function rootShift(network: Prefix): number {
  return 24 - 8 * rootOctet(network);
}

/**
 * The value of the longest prefix that covers the IPv4 `address`, or NO_VALUE.
 *
 * Any thread may call it, a forwarder only in its turn. The caller has made sure that the address is inside the table's
 * network.
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

/**
 * The same for an IPv6 address.
 *
 * @param u8 where the address lies, in network order
 * @param octet offset of the octet of the address that the root decides: `rootOctet` behind its first
 */
export function lookupV6(words: Int32Array, table: number, u8: Uint8Array, octet: number): number {
  let word = words[table + u8[octet]];
  for (let next = octet + 1; word < 0; next++) word = words[table + (word & NODE_MASK) * NODE_WORDS + u8[next]];
  return word - 1;
}

/** An address without the bits behind a prefix of that length. */
function masked(address: Address, length: number): Address {
  return typeof address === 'number' ? (address & netmask(length)) >>> 0 : address & netmaskV6(length);
}

function octetOf(address: Address, index: number): number {
  return typeof address === 'number'
    ? (address >>> (24 - 8 * index)) & 255
    : Number((address >> BigInt(120 - 8 * index)) & 0xffn);
}

/** The writing side of a table. One thread owns it. */
export class PrefixTable {
  /** The octet that the root decides. */
  readonly root: number;
  readonly #values = new Map<number, Map<Address, number>>();
  /** For every word that is a leaf: one more than the length of the prefix it comes from; 0 for nothing. */
  readonly #origin: Uint8Array;
  /** For every node: how many prefixes end in it or below it. */
  readonly #prefixes: Uint32Array;
  readonly #nodes: NumberPool;

  /**
   * @param words shared memory, zero where the table lies
   * @param table index of the table's first word
   * @param nodes room for so many nodes
   * @param network all prefixes lie inside it and are of its family
   * @param control tells which readers are in a turn
   */
  constructor(
    readonly words: Int32Array,
    readonly table: number,
    nodes: number,
    readonly network: AnyPrefix,
    control: Pick<ControlBlock, 'beat'>,
  ) {
    this.root = rootOctet(network);
    this.#origin = new Uint8Array(nodes * NODE_WORDS);
    this.#prefixes = new Uint32Array(nodes);
    this.#nodes = new NumberPool(1, nodes, control);
  }

  /** As a forwarder does it; an address outside the network has no value. */
  lookup(address: Address): number {
    if (!prefixContains(this.network, address)) return NO_VALUE;
    if (typeof address === 'number') return lookup(this.words, this.table, 24 - 8 * this.root, address);
    const octets = new Uint8Array(16);
    putIpv6(octets, 0, address);
    return lookupV6(this.words, this.table, octets, this.root);
  }

  /** Adds a prefix or changes its value. @param value 0 to 2³⁰ @returns false when there is no room; nothing is changed */
  set(prefix: AnyPrefix, value: number): boolean {
    let ofLength = this.#values.get(prefix.length);
    const known = ofLength?.get(prefix.address);
    if (known === value) return true;
    if (known === undefined && !this.#open(prefix)) return false;
    if (ofLength === undefined) {
      ofLength = new Map();
      this.#values.set(prefix.length, ofLength);
    }
    ofLength.set(prefix.address, value);
    this.#fillRun(prefix, value + 1, prefix.length + 1);
    return true;
  }

  /** Takes a prefix out; the next shorter one that covers it takes over. Unknown prefixes are ignored. */
  delete(prefix: AnyPrefix): void {
    const ofLength = this.#values.get(prefix.length);
    if (!ofLength?.delete(prefix.address)) return;
    let value = NO_VALUE;
    let length = prefix.length - 1;
    for (; length >= 0; length--) {
      const shorter = this.#values.get(length);
      if (shorter !== undefined) value = shorter.get(masked(prefix.address, length)) ?? NO_VALUE;
      if (value !== NO_VALUE) break;
    }
    this.#fillRun(prefix, value + 1, length + 1);
    this.#close(prefix);
  }

  /** How many nodes lie on the way from the root to the one in which a prefix ends. */
  #depth(prefix: AnyPrefix): number {
    return Math.max(0, Math.ceil(prefix.length / 8) - 1 - this.root);
  }

  /** The words that lead down to the node in which a prefix ends, as far as there are nodes. */
  #path(prefix: AnyPrefix): number[] {
    const slots: number[] = [];
    for (let node = 0, octet = this.root, left = this.#depth(prefix); left > 0; left--, octet++) {
      const slot = node * NODE_WORDS + octetOf(prefix.address, octet);
      const word = this.words[this.table + slot];
      if (word >= 0) break;
      slots.push(slot);
      node = word & NODE_MASK;
    }
    return slots;
  }

  #childAt(slot: number): number {
    return this.words[this.table + slot] & NODE_MASK;
  }

  /** Makes the nodes on the way to where a prefix ends, and counts it in all of them. @returns false when there are none */
  #open(prefix: AnyPrefix): boolean {
    const slots = this.#path(prefix);
    const nodes = this.#nodes.take(this.#depth(prefix) - slots.length);
    if (nodes === null) return false;
    let last = slots.length === 0 ? 0 : this.#childAt(slots[slots.length - 1]);
    for (const child of nodes) {
      const slot = last * NODE_WORDS + octetOf(prefix.address, this.root + slots.length);
      const start = child * NODE_WORDS;
      this.words.fill(this.words[this.table + slot], this.table + start, this.table + start + NODE_WORDS);
      this.#origin.fill(this.#origin[slot], start, start + NODE_WORDS);
      Atomics.store(this.words, this.table + slot, CHILD | child);
      slots.push(slot);
      last = child;
    }
    for (const slot of slots) this.#prefixes[this.#childAt(slot)]++;
    return true;
  }

  /** Takes a prefix out of the count of all nodes on its way, and those out of the tree that nothing is left of. */
  #close(prefix: AnyPrefix): void {
    for (const slot of this.#path(prefix).reverse()) {
      const child = this.#childAt(slot);
      if (--this.#prefixes[child] > 0) continue;
      this.#origin[slot] = this.#origin[child * NODE_WORDS];
      Atomics.store(this.words, this.table + slot, this.words[this.table + child * NODE_WORDS]);
      this.#nodes.giveBack(child);
    }
  }

  /** Stores `word` in the run that a prefix covers in the node where it ends. */
  #fillRun(prefix: AnyPrefix, word: number, origin: number): void {
    const slots = this.#path(prefix);
    const node = slots.length === 0 ? 0 : this.#childAt(slots[slots.length - 1]);
    const octet = this.root + slots.length;
    const bits = 8 * (octet + 1) - prefix.length;
    const first = bits >= 8 ? 0 : octetOf(prefix.address, octet);
    this.#fill(node, first, bits >= 8 ? NODE_WORDS : 1 << bits, word, origin, prefix.length + 1);
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
