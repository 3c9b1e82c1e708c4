/**
 * ChaCha20-Poly1305 (RFC 8439, without additional data) of OpenSSL's two functions for it, below its EVP interface.
 *
 * Theory of operation. What EVP does around them (a context, its parameters, a copy of key and nonce) takes as long as a
 * quarter of a full packet's encryption does, and four times that of a short one. So:
 *
 * - One call of ChaCha20 begins at counter 0, a block before the text: where that block was zero, the one-time key of
 *   Poly1305 is there then, and the text is encrypted from counter 1 on.
 * - Poly1305 wants the text's padding and the lengths behind it. They are put behind the text, so that one call takes all.
 *
 * To open, the ciphertext stays where it is for Poly1305 to read, and ChaCha20 writes the plaintext elsewhere.
 *
 * The functions are OpenSSL's own, not for its users: `ChaCha20_ctr32` and `Poly1305_*` have been what they are since 1.1.0
 * (2016), but nobody promised. So they are used only after they gave the right answers to a few questions, and where they
 * are not exported (a node that is linked to the system's OpenSSL) the caller has other ways.
 */
import koffi from 'koffi';
import {
  BLOCK_BYTES,
  blockAddresses,
  type Cipher,
  type CipherPlaces,
  KEY_BYTES,
  PlacedCipher,
  TAG_BYTES,
  takePlaces,
} from './cipher.js';
import { RegionAllocator, SharedMemory } from './memory.js';

/** Addresses are numbers. */
export interface Primitives {
  /** XORs `length` bytes with the key stream. @param counter of four words: the block's number and the nonce, little-endian */
  chacha20(to: number, from: number, length: number, key: number, counter: number): void;
  poly1305Init(state: number, key: number): void;
  poly1305Update(state: number, text: number, length: number): void;
  poly1305Final(state: number, tag: number): void;
  /** Bytes of a state. */
  stateBytes(): number;
}

/** Poly1305 reads whole blocks of so many bytes. */
export const POLY1305_BLOCK = 16;
/** A text with its padding and the two lengths. */
const authenticated = (length: number): number => ((length + POLY1305_BLOCK - 1) & -POLY1305_BLOCK) + POLY1305_BLOCK;

let primitives: Primitives | null | undefined;

function load(): Primitives | null {
  try {
    const library = koffi.load(null);
    const stateBytes = library.func('size_t Poly1305_ctx_size()');
    return {
      chacha20: library.func(
        'void ChaCha20_ctr32(uintptr_t to, uintptr_t from, size_t length, uintptr_t key, uintptr_t counter)',
      ),
      poly1305Init: library.func('void Poly1305_Init(uintptr_t state, uintptr_t key)'),
      poly1305Update: library.func('void Poly1305_Update(uintptr_t state, uintptr_t text, size_t length)'),
      poly1305Final: library.func('void Poly1305_Final(uintptr_t state, uintptr_t tag)'),
      stateBytes: () => Number(stateBytes()),
    };
  } catch {
    return null;
  }
}

/** @returns null where the functions cannot be had, or are not what they were */
export function opensslPrimitives(): Primitives | null {
  if (primitives === undefined) {
    const found = load();
    primitives = found !== null && isRight(found) ? found : null;
  }
  return primitives;
}

/** @returns null where there are no `opensslPrimitives` */
export function createPrimitives(
  memory: SharedMemory,
  regions: RegionAllocator,
  places: CipherPlaces,
): PrimitivesCipher | null {
  const found = opensslPrimitives();
  return found === null ? null : new PrimitivesCipher(memory, regions, places, found);
}

/** Lengths without a block, with less than one, with several, and with more than any implementation takes at once. */
const QUESTIONS = [0, 13, 64, 1021];

function isRight(found: Primitives): boolean {
  const memory = SharedMemory.create(3 * 65_536);
  const regions = new RegionAllocator();
  const places = takePlaces(regions, 32);
  const cipher = new PrimitivesCipher(memory, regions, places, found);
  const { u8 } = memory;
  const text = places.arena + BLOCK_BYTES;
  const { createCipheriv } = process.getBuiltinModule('node:crypto'); // most threads never come here
  return QUESTIONS.every((length) => {
    for (let i = 0; i < KEY_BYTES; i++) u8[places.key + i] = i + length;
    u8.fill(0x5a, text, text + length);
    const key = Uint8Array.from(u8.subarray(places.key, places.key + KEY_BYTES));
    const node = createCipheriv('chacha20-poly1305', key, new Uint8Array(12), { authTagLength: TAG_BYTES });
    const expected = Buffer.concat([node.update(Buffer.alloc(length, 0x5a)), node.final(), node.getAuthTag()]);
    cipher.seal(1, length);
    u8.copyWithin(text + length, places.tag, places.tag + TAG_BYTES);
    return expected.equals(u8.slice(text, text + length + TAG_BYTES));
  });
}

class PrimitivesCipher extends PlacedCipher implements Cipher {
  readonly engine = 'openssl';
  readonly #memory: SharedMemory;
  readonly #primitives: Primitives;
  readonly #addresses: readonly (number | null)[];
  readonly #counter: number;
  readonly #beforeSealed: number;
  readonly #state: number;
  readonly #computed: number;
  readonly #beforeSealedAddress: number;
  readonly #sealedAddress: number;
  readonly #keyAddress: number;
  readonly #counterAddress: number;
  readonly #stateAddress: number;
  readonly #tagAddress: number;
  readonly #computedAddress: number;

  constructor(memory: SharedMemory, regions: RegionAllocator, places: CipherPlaces, primitives: Primitives) {
    super(places);
    this.#memory = memory;
    this.#primitives = primitives;
    this.#counter = places.counter;
    this.#beforeSealed = places.beforeSealed;
    this.#state = regions.take(primitives.stateBytes(), BLOCK_BYTES);
    this.#computed = regions.take(TAG_BYTES);
    const { base } = memory;
    this.#addresses = blockAddresses(memory, places);
    this.#beforeSealedAddress = base + places.beforeSealed;
    this.#sealedAddress = base + places.sealed;
    this.#keyAddress = base + places.key;
    this.#counterAddress = base + places.counter;
    this.#stateAddress = base + this.#state;
    this.#tagAddress = base + places.tag;
    this.#computedAddress = base + this.#computed;
  }

  seal(block: number, length: number): boolean {
    const { chacha20 } = this.#primitives;
    const before = this.#addresses[block - 1] as number;
    const text = this.arena + block * BLOCK_BYTES;
    this.#clearKey(text - BLOCK_BYTES);
    chacha20(before, before, BLOCK_BYTES + length, this.#keyAddress, this.#counterAddress);
    this.#finish(text, length);
    this.#authenticate(before, this.#addresses[block] as number, length, this.#tagAddress);
    return true;
  }

  open(block: number, length: number): boolean {
    const { chacha20 } = this.#primitives;
    const { i32 } = this.#memory;
    const before = this.#addresses[block - 1] as number;
    this.#clearKey(this.#beforeSealed);
    chacha20(before, this.#beforeSealedAddress, BLOCK_BYTES + length, this.#keyAddress, this.#counterAddress);
    this.#finish(this.sealed, length);
    this.#authenticate(before, this.#sealedAddress, length, this.#computedAddress);
    const computed = this.#computed >>> 2;
    const tag = this.tag >>> 2;
    // without telling by the time it takes how much is equal
    const difference =
      (i32[computed] ^ i32[tag]) |
      (i32[computed + 1] ^ i32[tag + 1]) |
      (i32[computed + 2] ^ i32[tag + 2]) |
      (i32[computed + 3] ^ i32[tag + 3]);
    return difference === 0;
  }

  /** Makes the place zero where the one-time key will be, and has the counter begin there. */
  #clearKey(at: number): void {
    const { i32 } = this.#memory;
    const word = at >>> 2;
    for (let i = 0; i < KEY_BYTES >>> 2; i++) i32[word + i] = 0;
    i32[this.#counter >>> 2] = 0;
  }

  /** Puts the padding behind a ciphertext, and the lengths, of which that of the additional data is 0. */
  #finish(text: number, length: number): void {
    const { u8, i32 } = this.#memory;
    let at = text + length;
    while ((at & (POLY1305_BLOCK - 1)) !== 0) u8[at++] = 0;
    i32[at >>> 2] = 0;
    i32[(at >>> 2) + 1] = 0;
    i32[(at >>> 2) + 2] = length;
    i32[(at >>> 2) + 3] = 0;
  }

  #authenticate(key: number, text: number, length: number, tag: number): void {
    const { poly1305Init, poly1305Update, poly1305Final } = this.#primitives;
    poly1305Init(this.#stateAddress, key);
    poly1305Update(this.#stateAddress, text, authenticated(length));
    poly1305Final(this.#stateAddress, tag);
  }

  forget(): void {
    const { u8 } = this.#memory;
    u8.fill(0, this.key, this.key + KEY_BYTES);
  }

  close(): void {
    this.forget();
  }
}
