/**
 * Handshake messages on their way from the thread that receives them to the control thread: a ring in shared memory.
 *
 * One thread puts, one takes. What does not fit is dropped, and counted by whoever puts: a flood costs no more memory than
 * the ring, and no more of the control thread's time than it gives to the ring.
 */
import type { Copy } from '../linux/copy.js';
import type { SharedMemory } from '../linux/memory.js';
import type { Endpoint } from './endpoint.js';
import { INITIATION_BYTES } from './messages.js';
import { readSockaddr, SOCKADDR_BYTES } from './peer-records.js';

const PUT = 0;
const TAKEN = 64;
const ENTRIES = 128;
const ENTRY_LENGTH = 0;
const ENTRY_NAME = 4;
const ENTRY_MESSAGE = 32;
const ENTRY_BYTES = 192;
export const MAILBOX_ENTRIES = 256;
export const MAILBOX_BYTES = ENTRIES + MAILBOX_ENTRIES * ENTRY_BYTES;

export class Mailbox {
  readonly #memory: SharedMemory;
  readonly #at: number;
  readonly #copy: Copy;

  /** @param at offset of MAILBOX_BYTES, all zero at the start */
  constructor(memory: SharedMemory, at: number, copy: Copy) {
    this.#memory = memory;
    this.#at = at;
    this.#copy = copy;
  }

  /**
   * Puts a message of at most INITIATION_BYTES in. @param name offset of the sender's socket address
   *
   * @returns false when there is no room
   */
  put(message: number, length: number, name: number): boolean {
    const { i32 } = this.#memory;
    const put = i32[(this.#at + PUT) >>> 2];
    const taken = Atomics.load(i32, (this.#at + TAKEN) >>> 2);
    if (((put - taken) | 0) >= MAILBOX_ENTRIES || length > INITIATION_BYTES) return false;
    const entry = this.#entry(put);
    i32[(entry + ENTRY_LENGTH) >>> 2] = length;
    this.#copy(entry + ENTRY_NAME, name, SOCKADDR_BYTES);
    this.#copy(entry + ENTRY_MESSAGE, message, length);
    Atomics.store(i32, (this.#at + PUT) >>> 2, (put + 1) | 0);
    return true;
  }

  /** The oldest message, copied out; undefined when there is none, or none left whose sender has an address. */
  take(): { readonly message: Uint8Array; readonly from: Endpoint } | undefined {
    const { i32, u8 } = this.#memory;
    const word = (this.#at + TAKEN) >>> 2;
    while (i32[word] !== Atomics.load(i32, (this.#at + PUT) >>> 2)) {
      const entry = this.#entry(i32[word]);
      const length = Math.min(i32[(entry + ENTRY_LENGTH) >>> 2], INITIATION_BYTES);
      const message = u8.slice(entry + ENTRY_MESSAGE, entry + ENTRY_MESSAGE + length);
      const from = readSockaddr(u8, entry + ENTRY_NAME);
      Atomics.store(i32, word, (i32[word] + 1) | 0);
      if (from !== undefined) return { message, from };
    }
    return undefined;
  }

  /** Messages that wait. */
  get waiting(): number {
    const { i32 } = this.#memory;
    return (Atomics.load(i32, (this.#at + PUT) >>> 2) - Atomics.load(i32, (this.#at + TAKEN) >>> 2)) | 0;
  }

  #entry(number: number): number {
    return this.#at + ENTRIES + (number & (MAILBOX_ENTRIES - 1)) * ENTRY_BYTES;
  }
}
