/**
 * The keys of all sessions in shared memory, and how threads agree on them without a lock.
 *
 * Theory of operation. A session lives in a slot. The control thread alone writes slots; forwarders read them. The index
 * that a peer puts into its messages names the slot in its low bits, so finding a session is one comparison.
 *
 * A slot has a generation, which is odd while the slot is being written and changes with every session. A forwarder copies
 * the key of a slot into memory of its own and keeps it for as long as the generation stays what it was before the copy
 * and after it: so it never uses half a key, and a key that was taken away is not used for another message. To send, it
 * takes a counter first and looks at the generation afterwards: as the generation stands, key and counter belong
 * together, and no counter is ever used twice with one key.
 *
 * Which slot a peer's messages leave under is one word of its record (`peer-records.ts`).
 *
 * A slot that was given up rests for a while before the next session moves in, so that a forwarder that was in the middle
 * of a message cannot mark a counter in the next session's window.
 *
 * Every access to generation and keys is atomic: plain ones may be reordered around them on arm64.
 */
import type { SharedMemory } from '../linux/memory.js';
import { REJECT_AFTER_MESSAGES } from './constants.js';
import type { TransportKeys } from './handshake.js';
import { KEY_BYTES } from './keys.js';
import { clearWindow, WINDOW_BYTES } from './replay-window.js';

/** Written by the control thread: generation, our index, the peer's index, the peer's number, both keys. */
export const SLOT_GENERATION = 0;
export const SLOT_LOCAL_INDEX = 4;
export const SLOT_REMOTE_INDEX = 8;
export const SLOT_PEER = 12;
export const SLOT_SEND_KEY = 16;
export const SLOT_RECEIVE_KEY = 48;
/** Messages sent under the key: the next counter. Added to by every thread that sends. */
export const SLOT_SENT = 128;
/** 1 as soon as something authentic came under the key; and the window. Written by the thread that receives. */
export const SLOT_CONFIRMED = 192;
export const SLOT_WINDOW = 200;
export const SLOT_BYTES = Math.ceil((SLOT_WINDOW + WINDOW_BYTES) / 64) * 64;

/** Sessions of a peer at the same time: current, next, RETIRED_KEYPAIRS, and the one that is being made in either role. */
export const SLOTS_PER_PEER = 8;

/** How long a slot rests, in milliseconds. */
export const SLOT_REST = 1_000;

/**
 * So many counters are left out by a process that goes on with another's session. None of them was used, as far as we know: a
 * counter used twice would give contents away, and these cost nothing, since they are fewer than a window has.
 */
export const ADOPTED_GAP = 1_024;

/** Where the slots lie. Plain numbers, for every thread. */
export interface KeySlotsLayout {
  readonly slots: number;
  /** A power of two. */
  readonly count: number;
}

/** How many slots so many peers need: a power of two. */
export function slotsFor(peers: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(2, peers * SLOTS_PER_PEER)));
}

/** The writing side. Owned by the control thread. */
export class KeySlots {
  readonly #memory: SharedMemory;
  readonly #layout: KeySlotsLayout;
  readonly #random: (bytes: number) => Uint8Array;
  /** Slots that are free again and since when, the longest first. */
  readonly #resting: { readonly slot: number; readonly since: number }[] = [];
  #fresh = 0;
  /** Slots of sessions that a former process began: they are not fresh. */
  readonly #adopted = new Set<number>();

  constructor(memory: SharedMemory, layout: KeySlotsLayout, random: (bytes: number) => Uint8Array) {
    this.#memory = memory;
    this.#layout = layout;
    this.#random = random;
  }

  /**
   * Takes a slot and makes an index for it, which nobody else's messages name. @param now monotonic milliseconds
   *
   * @returns undefined when every slot is taken or resting
   */
  reserve(now: number): number | undefined {
    const rested = this.#resting[0];
    let slot: number;
    while (this.#adopted.has(this.#fresh)) this.#fresh++;
    if (this.#fresh < this.#layout.count) slot = this.#fresh++;
    else if (rested !== undefined && now - rested.since >= SLOT_REST) {
      slot = rested.slot;
      this.#resting.shift();
    } else return undefined;
    const bytes = this.#random(4);
    const random = (bytes[0] | (bytes[1] << 8) | (bytes[2] << 16) | (bytes[3] << 24)) & -this.#layout.count;
    // 0 says that a slot is empty
    return ((random | slot) === 0 ? this.#layout.count : random | slot) >>> 0;
  }

  /** Puts a session into the slot of a reserved index: from now on messages of the peer open under it. */
  install(index: number, peer: number, remoteIndex: number, keys: TransportKeys): void {
    const at = this.#at(index);
    const { i32 } = this.#memory;
    const generation = this.#beginWriting(at);
    clearWindow(i32, at + SLOT_WINDOW);
    Atomics.store(i32, (at + SLOT_SENT) >>> 2, 0);
    Atomics.store(i32, (at + SLOT_CONFIRMED) >>> 2, 0);
    Atomics.store(i32, (at + SLOT_REMOTE_INDEX) >>> 2, remoteIndex | 0);
    Atomics.store(i32, (at + SLOT_PEER) >>> 2, peer);
    this.#storeKey(at + SLOT_SEND_KEY, keys.send.bytes);
    this.#storeKey(at + SLOT_RECEIVE_KEY, keys.receive.bytes);
    Atomics.store(i32, (at + SLOT_LOCAL_INDEX) >>> 2, index | 0);
    Atomics.store(i32, (at + SLOT_GENERATION) >>> 2, generation + 1);
    keys.send.zero();
    keys.receive.zero();
  }

  /** Ends a session or gives up a reserved index; the keys are zero afterwards. @param now monotonic milliseconds */
  release(index: number, now: number): void {
    const at = this.#at(index);
    const { i32 } = this.#memory;
    const generation = this.#beginWriting(at);
    for (let word = at + SLOT_LOCAL_INDEX; word < at + SLOT_RECEIVE_KEY + KEY_BYTES; word += 4) {
      Atomics.store(i32, word >>> 2, 0);
    }
    Atomics.store(i32, (at + SLOT_GENERATION) >>> 2, generation + 1);
    this.#resting.push({ slot: slotOf(index, this.#layout), since: now });
  }

  get count(): number {
    return this.#layout.count;
  }

  /** A copy of a session's slot. Nobody sends or receives any more. */
  copyOf(index: number): Uint8Array {
    const at = this.#at(index);
    return this.#memory.u8.slice(at, at + SLOT_BYTES);
  }

  /**
   * Puts a session into its slot that another process had there, as `copyOf` gave it. To be called before anything is reserved,
   * and before anybody sends or receives.
   *
   * @returns false where the slot is taken
   */
  adopt(index: number, peer: number, copy: Uint8Array): boolean {
    const slot = slotOf(index, this.#layout);
    if (index === 0 || slot < this.#fresh || this.#adopted.has(slot)) return false;
    this.#adopted.add(slot);
    const at = this.#at(index);
    const { i32, u8 } = this.#memory;
    const generation = this.#beginWriting(at);
    u8.set(copy.subarray(SLOT_REMOTE_INDEX), at + SLOT_REMOTE_INDEX);
    const sent = (i32[(at + SLOT_SENT) >>> 2] >>> 0) + ADOPTED_GAP;
    Atomics.store(i32, (at + SLOT_SENT) >>> 2, Math.min(sent, REJECT_AFTER_MESSAGES) | 0);
    Atomics.store(i32, (at + SLOT_PEER) >>> 2, peer);
    Atomics.store(i32, (at + SLOT_LOCAL_INDEX) >>> 2, index | 0);
    Atomics.store(i32, (at + SLOT_GENERATION) >>> 2, generation + 1);
    return true;
  }

  /** Messages sent under the index so far. */
  sent(index: number): number {
    return Atomics.load(this.#memory.i32, (this.#at(index) + SLOT_SENT) >>> 2) >>> 0;
  }

  /** Has something authentic come under the index? */
  confirmed(index: number): boolean {
    return Atomics.load(this.#memory.i32, (this.#at(index) + SLOT_CONFIRMED) >>> 2) !== 0;
  }

  slotOf(index: number): number {
    return slotOf(index, this.#layout);
  }

  #at(index: number): number {
    return this.#layout.slots + slotOf(index, this.#layout) * SLOT_BYTES;
  }

  /** @returns the odd generation */
  #beginWriting(at: number): number {
    const word = (at + SLOT_GENERATION) >>> 2;
    const generation = this.#memory.i32[word] + 1;
    Atomics.store(this.#memory.i32, word, generation);
    return generation;
  }

  #storeKey(at: number, key: Uint8Array): void {
    for (let i = 0; i < KEY_BYTES; i += 4) {
      const word = key[i] | (key[i + 1] << 8) | (key[i + 2] << 16) | (key[i + 3] << 24);
      Atomics.store(this.#memory.i32, (at + i) >>> 2, word);
    }
  }
}

export function slotOf(index: number, layout: KeySlotsLayout): number {
  return index & (layout.count - 1);
}

/**
 * One key of one slot, copied to where a forwarder's cipher takes it from. Owned by one thread.
 *
 * The direction says which of the slot's two keys it is.
 */
export class HeldKey {
  readonly #i32: Int32Array;
  readonly #key: number;
  readonly #which: number;
  #at = 0;
  #generation = -1;

  /** @param key offset of the 32 bytes that the cipher reads @param which SLOT_SEND_KEY or SLOT_RECEIVE_KEY */
  constructor(memory: SharedMemory, key: number, which: number) {
    this.#i32 = memory.i32;
    this.#key = key >>> 2;
    this.#which = which;
  }

  /** Makes sure that the key of the slot at `at` is the one held. @returns false when the slot is empty or being written */
  hold(at: number): boolean {
    const i32 = this.#i32;
    const generation = Atomics.load(i32, (at + SLOT_GENERATION) >>> 2);
    if (generation === this.#generation && at === this.#at) return true;
    if ((generation & 1) !== 0 || Atomics.load(i32, (at + SLOT_LOCAL_INDEX) >>> 2) === 0) return false;
    const from = (at + this.#which) >>> 2;
    for (let word = 0; word < KEY_BYTES >>> 2; word++) i32[this.#key + word] = Atomics.load(i32, from + word);
    this.#at = at;
    this.#generation = generation;
    return this.holds();
  }

  /** Is the key that is held still its slot's? */
  holds(): boolean {
    if (Atomics.load(this.#i32, (this.#at + SLOT_GENERATION) >>> 2) === this.#generation) return true;
    this.#generation = -1;
    return false;
  }

  /** To be called with the cipher's `forget`: the key is copied anew before it is used again. */
  forget(): void {
    this.#generation = -1;
  }
}
