/**
 * Datagrams to inner packets, on the thread that receives.
 *
 * Theory of operation. A transport message names its session; the ciphertext is copied to where the cipher takes it from,
 * decrypted into the cipher's arena, and only then is its counter looked up in the window: nothing of a message counts before it proved
 * authentic. The plaintext stays until `reset`. Handshake messages go to the control thread's mailbox as they are.
 *
 * Nothing is allocated after construction; what is not accepted is counted under one reason.
 */

import { BLOCK_BYTES, type Cipher, TAG_BYTES } from '../linux/cipher.js';
import type { Copy } from '../linux/copy.js';
import type { SharedMemory } from '../linux/memory.js';
import { MAX_RECEIVED_COUNTER } from './constants.js';
import {
  HeldKey,
  SLOT_BYTES,
  SLOT_CONFIRMED,
  SLOT_LOCAL_INDEX,
  SLOT_PEER,
  SLOT_RECEIVE_KEY,
  SLOT_WINDOW,
  slotOf,
} from './key-slots.js';
import type { Mailbox } from './mailbox.js';
import {
  COOKIE_REPLY,
  COOKIE_REPLY_BYTES,
  INITIATION,
  INITIATION_BYTES,
  RESPONSE,
  RESPONSE_BYTES,
  TRANSPORT,
  TRANSPORT_COUNTER,
  TRANSPORT_HEADER,
  TRANSPORT_RECEIVER,
} from './messages.js';
import {
  PEER_DATA_RECEIVED,
  PEER_EPOCH,
  PEER_KEEPALIVES_RECEIVED,
  PEER_RECEIVED_BYTES,
  PEER_RECORD_BYTES,
  PEER_SEEN_EPOCH,
  PEER_SEEN_SOCKADDR,
  PEER_SEEN_VERSION,
  SOCKADDR_BYTES,
} from './peer-records.js';
import { acceptCounter } from './replay-window.js';
import { OpenDrop } from './transport-drops.js';
import { ATTENTION_MESSAGES, ATTENTION_PEERS, type TransportLayout } from './transport-layout.js';

const IPV4_HEADER = 20;
const IPV6_HEADER = 40;
const MIN_MESSAGE = TRANSPORT_HEADER + TAG_BYTES;

/** Blocks that an opener's arena should have: half a megabyte of plaintext, which still fits a cache. */
export const OPENER_BLOCKS = 8192;

/** Owned by one thread, and the only one for its layout. */
export class Opener {
  readonly #memory: SharedMemory;
  readonly #cipher: Cipher;
  readonly #copy: Copy;
  readonly #layout: TransportLayout;
  readonly #mailbox: Mailbox;
  readonly #call: () => void;
  readonly #key: HeldKey;
  #block = 1;

  /** Offset of the packet that `open` brought last, and the number of the peer that it came from. */
  at = 0;
  peer = 0;

  /** @param call as the sealer's */
  constructor(
    memory: SharedMemory,
    cipher: Cipher,
    copy: Copy,
    layout: TransportLayout,
    mailbox: Mailbox,
    call: () => void,
  ) {
    this.#memory = memory;
    this.#cipher = cipher;
    this.#copy = copy;
    this.#layout = layout;
    this.#mailbox = mailbox;
    this.#call = call;
    this.#key = new HeldKey(memory, cipher.key, SLOT_RECEIVE_KEY);
  }

  /** Is there room in the arena for what a datagram of `length` bytes holds? */
  fits(length: number): boolean {
    return (this.#cipher.blocks - this.#block) * BLOCK_BYTES >= length;
  }

  /** Nobody reads the packets any more that were brought so far. */
  reset(): void {
    this.#block = 1;
  }

  /**
   * Takes a datagram in. The caller has seen to it that it fits. @param name offset of the sender's socket address, with
   * SOCKADDR_BYTES to read; zero behind an IPv4 one
   *
   * @returns the length of the inner packet, which lies at `at`, without its padding; 0 where there is none to deliver.
   *   Its source is yet to be checked against the networks of `peer`
   */
  open(datagram: number, length: number, name: number): number {
    const { u8, view, i32 } = this.#memory;
    if (length < 4) return this.#drop(OpenDrop.not_wireguard);
    const type = view.getUint32(datagram, true);
    if (type !== TRANSPORT) return this.#handshake(type, datagram, length, name);
    if (length < MIN_MESSAGE) return this.#drop(OpenDrop.not_wireguard);

    const index = view.getInt32(datagram + TRANSPORT_RECEIVER, true);
    const slot = this.#layout.keys.slots + slotOf(index, this.#layout.keys) * SLOT_BYTES;
    if (index === 0 || Atomics.load(i32, (slot + SLOT_LOCAL_INDEX) >>> 2) !== index || !this.#key.hold(slot)) {
      return this.#drop(OpenDrop.unknown_session);
    }
    const peer = Atomics.load(i32, (slot + SLOT_PEER) >>> 2);
    // the index may have become another's between the first look and the key
    if (Atomics.load(i32, (slot + SLOT_LOCAL_INDEX) >>> 2) !== index || !this.#key.holds()) {
      return this.#drop(OpenDrop.unknown_session);
    }
    const low = view.getUint32(datagram + TRANSPORT_COUNTER, true);
    const high = view.getUint32(datagram + TRANSPORT_COUNTER + 4, true);
    const counter = high * 4_294_967_296 + low;
    if (counter > MAX_RECEIVED_COUNTER) return this.#drop(OpenDrop.counter_exhausted);

    const textLength = length - MIN_MESSAGE;
    const block = this.#block;
    const text = this.#cipher.arena + block * BLOCK_BYTES;
    this.#copy(this.#cipher.sealed, datagram + TRANSPORT_HEADER, textLength);
    this.#copy(this.#cipher.tag, datagram + TRANSPORT_HEADER + textLength, TAG_BYTES);
    const nonce = this.#cipher.nonce >>> 2;
    i32[nonce] = 0;
    i32[nonce + 1] = low;
    i32[nonce + 2] = high;
    if (!this.#cipher.open(block, textLength)) return this.#drop(OpenDrop.not_authentic);
    if (!this.#key.holds()) return this.#drop(OpenDrop.unknown_session);
    if (!acceptCounter(i32, this.#memory.f64, slot + SLOT_WINDOW, counter)) return this.#drop(OpenDrop.replayed);

    this.#authentic(slot, peer, length, textLength, name);
    if (textLength === 0) return 0;
    const packetLength = innerLength(u8, text, textLength);
    if (packetLength === 0) return this.#drop(OpenDrop.not_ip);
    this.#block = block + Math.ceil(textLength / BLOCK_BYTES) + 1;
    this.at = text;
    this.peer = peer;
    return packetLength;
  }

  /** Forgets the key that was used last. */
  forget(): void {
    this.#key.forget();
    this.#cipher.forget();
  }

  #handshake(type: number, datagram: number, length: number, name: number): number {
    const wanted =
      type === INITIATION
        ? INITIATION_BYTES
        : type === RESPONSE
          ? RESPONSE_BYTES
          : type === COOKIE_REPLY
            ? COOKIE_REPLY_BYTES
            : 0;
    if (length !== wanted) return this.#drop(OpenDrop.not_wireguard);
    if (!this.#mailbox.put(datagram, length, name)) return this.#drop(OpenDrop.handshakes_full);
    this.#callControl(ATTENTION_MESSAGES);
    return 0;
  }

  /** Notes what the control thread wants to know of an authentic message. */
  #authentic(slot: number, peer: number, length: number, textLength: number, name: number): void {
    const { i32, f64 } = this.#memory;
    const record = this.#layout.peers.records + peer * PEER_RECORD_BYTES;
    i32[(record + (textLength > 0 ? PEER_DATA_RECEIVED : PEER_KEEPALIVES_RECEIVED)) >>> 2]++;
    f64[(record + PEER_RECEIVED_BYTES) >>> 3] += length;
    if (i32[(slot + SLOT_CONFIRMED) >>> 2] === 0) {
      Atomics.store(i32, (slot + SLOT_CONFIRMED) >>> 2, 1);
      this.#callControl(ATTENTION_PEERS);
    }
    const epoch = Atomics.load(i32, (record + PEER_EPOCH) >>> 2);
    let same = epoch === i32[(record + PEER_SEEN_EPOCH) >>> 2];
    const seen = (record + PEER_SEEN_SOCKADDR) >>> 2;
    for (let word = 0; same && word < SOCKADDR_BYTES >>> 2; word++)
      same = i32[seen + word] === i32[(name >>> 2) + word];
    if (!same) this.#moved(record, epoch, name);
  }

  /** The peer speaks from another address than before. */
  #moved(record: number, epoch: number, name: number): void {
    const { i32 } = this.#memory;
    const version = (record + PEER_SEEN_VERSION) >>> 2;
    Atomics.add(i32, version, 1);
    Atomics.store(i32, (record + PEER_SEEN_EPOCH) >>> 2, epoch);
    const seen = (record + PEER_SEEN_SOCKADDR) >>> 2;
    for (let word = 0; word < SOCKADDR_BYTES >>> 2; word++) {
      Atomics.store(i32, seen + word, i32[(name >>> 2) + word]);
    }
    Atomics.add(i32, version, 1);
    this.#callControl(ATTENTION_PEERS);
  }

  #callControl(what: number): void {
    if (Atomics.or(this.#memory.i32, this.#layout.attention >>> 2, what) === 0) this.#call();
  }

  #drop(reason: number): number {
    this.#memory.f64[(this.#layout.openDrops >>> 3) + reason]++;
    return 0;
  }
}

/** The length that an IP packet says it has; 0 when it is none, or is longer than what came. */
function innerLength(u8: Uint8Array, at: number, available: number): number {
  const version = u8[at] >>> 4;
  let length = 0;
  if (version === 4 && available >= IPV4_HEADER) length = (u8[at + 2] << 8) | u8[at + 3];
  else if (version === 6 && available >= IPV6_HEADER) length = IPV6_HEADER + ((u8[at + 4] << 8) | u8[at + 5]);
  if (length < IPV4_HEADER || length > available) return 0;
  return length;
}
