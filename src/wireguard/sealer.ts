/**
 * Inner packets to transport messages, on a forwarder's thread.
 *
 * Theory of operation. A packet is copied into the cipher's arena, 16 bytes before which the message's header goes, padded,
 * encrypted in place, and stays there until `reset`: the sender points its iovec at the message. Copying is cheaper than
 * encrypting from where the packet lies, since that would take a call for each piece and leave the cipher with ends of
 * blocks. Packets of one length make messages of one length, so runs stay runs.
 *
 * Nothing is allocated after construction; what cannot be sealed is counted.
 */

import { BEHIND_TEXT, BLOCK_BYTES, type Cipher, TAG_BYTES } from '../linux/cipher.js';
import type { Copy } from '../linux/copy.js';
import type { SharedMemory } from '../linux/memory.js';
import { PADDING_MULTIPLE, REJECT_AFTER_MESSAGES } from './constants.js';
import { HeldKey, SLOT_BYTES, SLOT_REMOTE_INDEX, SLOT_SEND_KEY, SLOT_SENT } from './key-slots.js';
import { TRANSPORT, TRANSPORT_COUNTER, TRANSPORT_HEADER, TRANSPORT_RECEIVER } from './messages.js';
import {
  PEER_DATA_SENT,
  PEER_FAILED_ATTEMPTS,
  PEER_KEY_WANTED,
  PEER_RECORD_BYTES,
  PEER_SENDING,
  PEER_SENT_BYTES,
} from './peer-records.js';
import { SealDrop } from './transport-drops.js';
import { ATTENTION_PEERS, type TransportLayout } from './transport-layout.js';

/** Bytes that a message has more than its padded packet. */
export const MESSAGE_OVERHEAD = TRANSPORT_HEADER + TAG_BYTES;

/** Blocks that a sealer's arena should have: a run of 64 KiB in pieces, each at a block of its own. */
export const SEALER_BLOCKS = 2048;

/** Length of the plaintext of a packet: padded, but not past the device's MTU. */
export function paddedLength(length: number, mtu: number): number {
  const padded = (length + PADDING_MULTIPLE - 1) & -PADDING_MULTIPLE;
  return padded <= mtu ? padded : Math.max(length, mtu);
}

/** Owned by one thread. */
export class Sealer {
  readonly #memory: SharedMemory;
  readonly #cipher: Cipher;
  readonly #copy: Copy;
  readonly #layout: TransportLayout;
  readonly #mtu: number;
  readonly #call: () => void;
  readonly #key: HeldKey;
  #block = 1;

  /** Offset of the message that `seal` made last. */
  at = 0;

  /**
   * @param mtu the device's: no plaintext is padded past it
   * @param call calls the control thread; from any thread, seldom, and once for as long as it has not come
   */
  constructor(
    memory: SharedMemory,
    cipher: Cipher,
    copy: Copy,
    layout: TransportLayout,
    mtu: number,
    call: () => void,
  ) {
    this.#memory = memory;
    this.#cipher = cipher;
    this.#copy = copy;
    this.#layout = layout;
    this.#mtu = mtu;
    this.#call = call;
    this.#key = new HeldKey(memory, cipher.key, SLOT_SEND_KEY);
  }

  /** Length of the message that a packet of `length` bytes makes. */
  messageLength(length: number): number {
    return paddedLength(length, this.#mtu) + MESSAGE_OVERHEAD;
  }

  /** Is there room in the arena for a packet of `length` bytes? */
  fits(length: number): boolean {
    return (this.#cipher.blocks - this.#block) * BLOCK_BYTES >= paddedLength(length, this.#mtu) + BEHIND_TEXT;
  }

  /** Nobody reads the messages any more that were made so far. */
  reset(): void {
    this.#block = 1;
  }

  /** Is there a session to send to the peer under? */
  ready(peer: number): boolean {
    return Atomics.load(this.#memory.i32, (this.#record(peer) + PEER_SENDING) >>> 2) !== 0;
  }

  /** Another number whenever the peer has been given up, or its record became another peer's. */
  failedAttempts(peer: number): number {
    return Atomics.load(this.#memory.i32, (this.#record(peer) + PEER_FAILED_ATTEMPTS) >>> 2);
  }

  /**
   * Seals the packet whose headers and payload lie at two places; `payloadLength` may be 0. The caller has seen to it that
   * it fits.
   *
   * @returns the length of the message, which lies at `at`; 0 when there is none: counted, and with no key, asked for
   */
  seal(peer: number, headers: number, headerLength: number, payload: number, payloadLength: number): number {
    const { i32, u8 } = this.#memory;
    const record = this.#record(peer);
    const slot = Atomics.load(i32, (record + PEER_SENDING) >>> 2) - 1;
    if (slot < 0) return this.#noKey(record);
    const at = this.#layout.keys.slots + slot * SLOT_BYTES;
    if (!this.#key.hold(at)) return this.#noKey(record);
    const sentWord = (at + SLOT_SENT) >>> 2;
    if (Atomics.load(i32, sentWord) >>> 0 >= REJECT_AFTER_MESSAGES) return this.#exhausted(record);
    const counter = Atomics.add(i32, sentWord, 1);
    const remoteIndex = Atomics.load(i32, (at + SLOT_REMOTE_INDEX) >>> 2);
    // only now is it certain that the counter and the index are those of the key that is held
    if (!this.#key.holds()) return this.#noKey(record);

    const length = headerLength + payloadLength;
    const padded = paddedLength(length, this.#mtu);
    const block = this.#block;
    const text = this.#cipher.arena + block * BLOCK_BYTES;
    const message = text - TRANSPORT_HEADER;
    this.#copy(text, headers, headerLength);
    if (payloadLength > 0) this.#copy(text + headerLength, payload, payloadLength);
    for (let i = length; i < padded; i++) u8[text + i] = 0;
    const nonce = this.#cipher.nonce >>> 2;
    i32[nonce] = 0;
    i32[nonce + 1] = counter;
    i32[nonce + 2] = 0;
    if (!this.#cipher.seal(block, padded)) {
      this.#drop(SealDrop.cipher_failed);
      return 0;
    }
    // not before: the bytes around the text were the cipher's
    i32[message >>> 2] = TRANSPORT;
    i32[(message + TRANSPORT_RECEIVER) >>> 2] = remoteIndex;
    i32[(message + TRANSPORT_COUNTER) >>> 2] = counter;
    i32[(message + TRANSPORT_COUNTER + 4) >>> 2] = 0;
    this.#copy(text + padded, this.#cipher.tag, TAG_BYTES);

    this.#block = block + Math.ceil((padded + TAG_BYTES) / BLOCK_BYTES) + 1;
    if (length > 0) i32[(record + PEER_DATA_SENT) >>> 2]++;
    this.#memory.f64[(record + PEER_SENT_BYTES) >>> 3] += padded + MESSAGE_OVERHEAD;
    this.at = message;
    return padded + MESSAGE_OVERHEAD;
  }

  /** Forgets the key that was used last. */
  forget(): void {
    this.#key.forget();
    this.#cipher.forget();
  }

  #record(peer: number): number {
    return this.#layout.peers.records + peer * PEER_RECORD_BYTES;
  }

  #noKey(record: number): number {
    this.#drop(SealDrop.no_key);
    this.#want(record);
    return 0;
  }

  #exhausted(record: number): number {
    this.#drop(SealDrop.key_exhausted);
    this.#want(record);
    return 0;
  }

  #drop(reason: number): void {
    this.#memory.f64[(this.#layout.sealDrops >>> 3) + reason]++;
  }

  #want(record: number): void {
    const { i32 } = this.#memory;
    i32[(record + PEER_KEY_WANTED) >>> 2]++;
    if (Atomics.or(i32, this.#layout.attention >>> 2, ATTENTION_PEERS) === 0) this.#call();
  }
}
