/**
 * ChaCha20-Poly1305 (RFC 8439) of short texts with additional data, as handshakes have them, for a thread that has no arena.
 *
 * There are two ways, the second the fallback of the first: OpenSSL's ChaCha20 and Poly1305 themselves, whose theory of
 * operation is in `chacha20-poly1305.ts`, and node:crypto, which makes an object for each text.
 *
 * One call of Poly1305 wants the additional data right before the ciphertext. There lies the key stream's first block, of
 * which nothing is needed any more once Poly1305 has its key: so the additional data are put over it.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { opensslPrimitives, POLY1305_BLOCK, type Primitives } from './chacha20-poly1305.js';
import { BLOCK_BYTES, KEY_BYTES, NONCE_BYTES, TAG_BYTES } from './cipher.js';
import { addressOf } from './libc.js';

/** Keys are 32 bytes; a nonce is four zero bytes and the counter, little-endian. Of keys and texts nothing stays behind. */
export interface Aead {
  readonly engine: 'openssl' | 'node';
  /** @returns ciphertext and tag */
  seal(key: Uint8Array, counter: number, text: Uint8Array, additional: Uint8Array): Uint8Array;
  /** Opens what `seal` made. @returns undefined when the tag does not fit */
  open(key: Uint8Array, counter: number, sealed: Uint8Array, additional: Uint8Array): Uint8Array | undefined;
}

/** Longer ones are node:crypto's. */
const MAX_TEXT = 256;

const padded = (length: number): number => (length + POLY1305_BLOCK - 1) & -POLY1305_BLOCK;

/** Where things lie in our memory. Before each of the two texts is a block for the key stream's first one. */
const KEY = 0;
const COUNTER = KEY + KEY_BYTES;
const TAG = COUNTER + 4 + NONCE_BYTES;
const TEXT = 3 * BLOCK_BYTES;
/** Behind a text are its padding and the lengths. */
const LENGTHS_BYTES = 16;
const OTHER_TEXT = TEXT + MAX_TEXT + 2 * BLOCK_BYTES;
const STATE = OTHER_TEXT + MAX_TEXT + BLOCK_BYTES;

class OpensslAead implements Aead {
  readonly engine = 'openssl';
  readonly #primitives: Primitives;
  readonly #fallback = new NodeAead();
  readonly #bytes: Uint8Array;
  readonly #words: Uint32Array;
  readonly #base: number;

  constructor(primitives: Primitives) {
    this.#primitives = primitives;
    this.#bytes = new Uint8Array(new ArrayBuffer(STATE + Math.ceil(primitives.stateBytes() / 8) * 8));
    this.#words = new Uint32Array(this.#bytes.buffer);
    this.#base = addressOf(this.#bytes);
  }

  seal(key: Uint8Array, counter: number, text: Uint8Array, additional: Uint8Array): Uint8Array {
    const { length } = text;
    if (length > MAX_TEXT || additional.length > BLOCK_BYTES) {
      return this.#fallback.seal(key, counter, text, additional);
    }
    const bytes = this.#bytes;
    bytes.set(text, TEXT);
    this.#cipher(key, counter, TEXT, TEXT, length);
    this.#authenticate(TEXT, TEXT, length, additional);
    const sealed = new Uint8Array(length + TAG_BYTES);
    sealed.set(bytes.subarray(TEXT, TEXT + length));
    sealed.set(bytes.subarray(TAG, TAG + TAG_BYTES), length);
    bytes.fill(0);
    return sealed;
  }

  open(key: Uint8Array, counter: number, sealed: Uint8Array, additional: Uint8Array): Uint8Array | undefined {
    const length = sealed.length - TAG_BYTES;
    if (length < 0) return undefined;
    if (length > MAX_TEXT || additional.length > BLOCK_BYTES) {
      return this.#fallback.open(key, counter, sealed, additional);
    }
    const bytes = this.#bytes;
    bytes.set(sealed.subarray(0, length), TEXT);
    this.#cipher(key, counter, OTHER_TEXT, TEXT, length);
    this.#authenticate(OTHER_TEXT, TEXT, length, additional);
    // without telling by the time it takes how much is equal
    let difference = 0;
    for (let i = 0; i < TAG_BYTES; i++) difference |= bytes[TAG + i] ^ sealed[length + i];
    const text = difference === 0 ? bytes.slice(OTHER_TEXT, OTHER_TEXT + length) : undefined;
    bytes.fill(0);
    return text;
  }

  /** Leaves the one-time key of Poly1305 a block before `to`. A block of zeros lies before `from`. */
  #cipher(key: Uint8Array, counter: number, to: number, from: number, length: number): void {
    const base = this.#base;
    this.#bytes.set(key, KEY);
    const words = this.#words;
    words[(COUNTER + 8) >>> 2] = counter % 2 ** 32;
    words[(COUNTER + 12) >>> 2] = Math.floor(counter / 2 ** 32);
    const { chacha20 } = this.#primitives;
    chacha20(base + to - BLOCK_BYTES, base + from - BLOCK_BYTES, BLOCK_BYTES + length, base + KEY, base + COUNTER);
  }

  /** Leaves the tag of what lies at `at`. @param key a block behind the one-time key */
  #authenticate(key: number, at: number, length: number, additional: Uint8Array): void {
    const { poly1305Init, poly1305Update, poly1305Final } = this.#primitives;
    const base = this.#base;
    const bytes = this.#bytes;
    const words = this.#words;
    const state = base + STATE;
    poly1305Init(state, base + key - BLOCK_BYTES);
    const start = at - padded(additional.length);
    bytes.fill(0, start, at);
    bytes.set(additional, start);
    const end = at + padded(length);
    bytes.fill(0, at + length, end);
    words[end >>> 2] = additional.length;
    words[(end >>> 2) + 1] = 0;
    words[(end >>> 2) + 2] = length;
    words[(end >>> 2) + 3] = 0;
    poly1305Update(state, base + start, end + LENGTHS_BYTES - start);
    poly1305Final(state, base + TAG);
  }
}

const CHACHA = 'chacha20-poly1305';

function nonceOf(counter: number): Uint8Array {
  const nonce = new Uint8Array(NONCE_BYTES);
  const view = new DataView(nonce.buffer);
  view.setUint32(4, counter % 2 ** 32, true);
  view.setUint32(8, Math.floor(counter / 2 ** 32), true);
  return nonce;
}

/** The same bytes, but no Buffer: whose `slice` would be no copy, so that zeroing one would zero the other. */
function plain(buffer: Buffer): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

class NodeAead implements Aead {
  readonly engine = 'node';

  seal(key: Uint8Array, counter: number, text: Uint8Array, additional: Uint8Array): Uint8Array {
    const cipher = createCipheriv(CHACHA, key, nonceOf(counter), { authTagLength: TAG_BYTES });
    cipher.setAAD(additional, { plaintextLength: text.length });
    return plain(Buffer.concat([cipher.update(text), cipher.final(), cipher.getAuthTag()]));
  }

  open(key: Uint8Array, counter: number, sealed: Uint8Array, additional: Uint8Array): Uint8Array | undefined {
    const length = sealed.length - TAG_BYTES;
    if (length < 0) return undefined;
    const decipher = createDecipheriv(CHACHA, key, nonceOf(counter), { authTagLength: TAG_BYTES });
    decipher.setAAD(additional, { plaintextLength: length });
    decipher.setAuthTag(sealed.subarray(length));
    const text = plain(decipher.update(sealed.subarray(0, length)));
    try {
      decipher.final();
      return text;
    } catch {
      text.fill(0);
      return undefined;
    }
  }
}

/** @param engine for tests: which of the two it shall be; else the first that can be had */
export function createAead(engine?: Aead['engine']): Aead {
  const primitives = engine === 'node' ? null : opensslPrimitives();
  return primitives === null ? new NodeAead() : new OpensslAead(primitives);
}
