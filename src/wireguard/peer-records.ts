/**
 * What the threads tell each other about a peer, in shared memory: under which key to send, and what was sent and
 * received since. The control thread's timers run on changes of these counts, so that forwarders need no clock.
 *
 * Counts wrap; only their changes mean anything. A record is four cache lines, each written by one side.
 */
import type { SharedMemory } from '../linux/memory.js';
import type { Endpoint } from './endpoint.js';

/**
 * Written by the control thread: one more than the slot to send under, 0 for none; the epoch of the endpoint; how often
 * the peer did not answer.
 */
export const PEER_SENDING = 0;
export const PEER_EPOCH = 4;
export const PEER_FAILED_ATTEMPTS = 8;
/** Written by the threads that send: packets; times that a packet found no key. */
export const PEER_DATA_SENT = 64;
export const PEER_KEY_WANTED = 68;
export const PEER_SENT_BYTES = 72;
/** Written by the thread that receives: packets; empty messages; bytes of both. */
export const PEER_DATA_RECEIVED = 128;
export const PEER_KEEPALIVES_RECEIVED = 132;
export const PEER_RECEIVED_BYTES = 136;
/**
 * Written by the thread that receives: the address that the last authentic message came from, as a socket address, and
 * the epoch that it was seen in. Odd while it is being written.
 */
export const PEER_SEEN_VERSION = 192;
export const PEER_SEEN_EPOCH = 196;
export const PEER_SEEN_SOCKADDR = 200;
export const PEER_RECORD_BYTES = 256;

/** sizeof struct sockaddr_in6 */
export const SOCKADDR_BYTES = 28;
const AF_INET = 2;
const AF_INET6 = 10;

export interface PeerRecordsLayout {
  readonly records: number;
  readonly capacity: number;
}

/** The control thread's side. */
export class PeerRecords {
  readonly #memory: SharedMemory;
  readonly #layout: PeerRecordsLayout;

  constructor(memory: SharedMemory, layout: PeerRecordsLayout) {
    this.#memory = memory;
    this.#layout = layout;
  }

  get capacity(): number {
    return this.#layout.capacity;
  }

  /** Makes a record that was another peer's a new one. */
  clear(peer: number): void {
    const at = this.#at(peer);
    this.setSending(peer, -1);
    const epoch = this.#load(peer, PEER_EPOCH);
    this.#memory.u8.fill(0, at + PEER_DATA_SENT, at + PEER_RECORD_BYTES);
    Atomics.store(this.#memory.i32, (at + PEER_EPOCH) >>> 2, epoch + 1);
    this.giveUp(peer); // whatever waits here was meant for another
  }

  /** From now on messages to the peer leave under this slot; −1 for none. */
  setSending(peer: number, slot: number): void {
    Atomics.store(this.#memory.i32, (this.#at(peer) + PEER_SENDING) >>> 2, slot + 1);
  }

  /** Nobody answered: packets that wait for a session do so in vain. */
  giveUp(peer: number): void {
    Atomics.add(this.#memory.i32, (this.#at(peer) + PEER_FAILED_ATTEMPTS) >>> 2, 1);
  }

  /** Has the address told again, even if it is the one told last: ours was set to another meanwhile. */
  askForEndpoint(peer: number): void {
    Atomics.add(this.#memory.i32, (this.#at(peer) + PEER_EPOCH) >>> 2, 1);
  }

  /** Where the last authentic message came from, if it was told since `version`. */
  seenSince(peer: number, version: number): { readonly version: number; readonly endpoint: Endpoint } | undefined {
    const now = this.#load(peer, PEER_SEEN_VERSION);
    if (now === version || (now & 1) !== 0) return undefined;
    const endpoint = readSockaddr(this.#memory.u8, this.#at(peer) + PEER_SEEN_SOCKADDR);
    if (endpoint === undefined || this.#load(peer, PEER_SEEN_VERSION) !== now) return undefined;
    return { version: now, endpoint };
  }

  count(peer: number, which: number): number {
    return this.#load(peer, which);
  }

  /** @param which PEER_SENT_BYTES or PEER_RECEIVED_BYTES */
  bytes(peer: number, which: number): number {
    return this.#memory.f64[(this.#at(peer) + which) >>> 3];
  }

  #load(peer: number, which: number): number {
    return Atomics.load(this.#memory.i32, (this.#at(peer) + which) >>> 2);
  }

  #at(peer: number): number {
    return this.#layout.records + peer * PEER_RECORD_BYTES;
  }
}

/** Reads a struct sockaddr_in or sockaddr_in6 (netinet/in.h); a copy. @returns undefined for another family */
export function readSockaddr(u8: Uint8Array, at: number): Endpoint | undefined {
  const port = (u8[at + 2] << 8) | u8[at + 3];
  switch (u8[at] | (u8[at + 1] << 8)) {
    case AF_INET:
      return { address: u8.slice(at + 4, at + 8), port };
    case AF_INET6:
      return { address: u8.slice(at + 8, at + 24), port };
    default:
      return undefined;
  }
}

/** Writes one; an IPv6 one without flow label and scope. */
export function writeSockaddr(u8: Uint8Array, at: number, { address, port }: Endpoint): void {
  u8.fill(0, at, at + SOCKADDR_BYTES);
  u8[at] = address.length === 4 ? AF_INET : AF_INET6;
  u8[at + 2] = port >>> 8;
  u8[at + 3] = port;
  u8.set(address, address.length === 4 ? at + 4 : at + 8);
}
