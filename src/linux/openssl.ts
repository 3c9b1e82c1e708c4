/**
 * ChaCha20-Poly1305 on shared memory, through the OpenSSL that every node binary carries.
 *
 * Theory of operation. Node links OpenSSL statically and exports its functions, so koffi finds them in the process
 * itself. There are three ways, each the fallback of the one before: OpenSSL's ChaCha20 and Poly1305 themselves
 * (`chacha20-poly1305.ts`), its documented EVP interface, and node:crypto. Through EVP a packet takes four calls to seal and
 * three to open, which cost as much as encrypting a whole packet does: each call some 50 ns, and what EVP does in them.
 *
 * An address is a 64-bit number, which V8 keeps as an object of its own: passing a fresh one to a call allocates it. So
 * texts lie in an arena of the cipher's own, at the starts of 64-byte blocks whose addresses are all made in advance; what is
 * to be opened, key, nonce and tag have fixed places. Copying a packet there costs 16 ns.
 */
import koffi from 'koffi';
import { createPrimitives } from './chacha20-poly1305.js';
import {
  BLOCK_BYTES,
  blockAddresses,
  type Cipher,
  type CipherPlaces,
  KEY_BYTES,
  NONCE_BYTES,
  PlacedCipher,
  TAG_BYTES,
  takePlaces,
} from './cipher.js';
import type { RegionAllocator, SharedMemory } from './memory.js';

/** The OpenSSL functions; addresses are numbers, 0 is NULL. All return 1 for success. */
interface Evp {
  encryptInit(context: number, type: number, key: number, nonce: number, parameters: number): number;
  encryptUpdate(context: number, to: number, lengthAt: number, from: number, length: number): number;
  encryptFinal(context: number, to: number, lengthAt: number): number;
  decryptInit(context: number, type: number, key: number, nonce: number, parameters: number): number;
  decryptUpdate(context: number, to: number, lengthAt: number, from: number, length: number): number;
  decryptFinal(context: number, to: number, lengthAt: number): number;
  control(context: number, what: number, argument: number, pointer: number): number;
  newContext(): number;
  freeContext(context: number): void;
  chacha20Poly1305(): number;
}

/** openssl/evp.h */
const EVP_CTRL_AEAD_GET_TAG = 0x10;
/** openssl/params.h: `struct ossl_param_st` and the type of a string of bytes; core_names.h: the name of the tag. */
const OSSL_PARAM_BYTES = 40;
const OSSL_PARAM_OCTET_STRING = 5;
const TAG_PARAMETER = Buffer.from('tag\0');

let functions: Evp | string | undefined;

/** @returns the functions, or why they cannot be had */
function load(): Evp | string {
  try {
    const library = koffi.load(null);
    const init = (name: string) =>
      library.func(`int ${name}(uintptr_t c, uintptr_t type, uintptr_t key, uintptr_t nonce, uintptr_t parameters)`);
    const update = (name: string) =>
      library.func(`int ${name}(uintptr_t c, uintptr_t to, uintptr_t length_at, uintptr_t from, int length)`);
    const final = (name: string) => library.func(`int ${name}(uintptr_t c, uintptr_t to, uintptr_t length_at)`);
    return {
      encryptInit: init('EVP_EncryptInit_ex2'),
      encryptUpdate: update('EVP_EncryptUpdate'),
      encryptFinal: final('EVP_EncryptFinal_ex'),
      decryptInit: init('EVP_DecryptInit_ex2'),
      decryptUpdate: update('EVP_DecryptUpdate'),
      decryptFinal: final('EVP_DecryptFinal_ex'),
      control: library.func('int EVP_CIPHER_CTX_ctrl(uintptr_t c, int what, int argument, uintptr_t pointer)'),
      newContext: library.func('uintptr_t EVP_CIPHER_CTX_new()'),
      freeContext: library.func('void EVP_CIPHER_CTX_free(uintptr_t c)'),
      chacha20Poly1305: library.func('uintptr_t EVP_chacha20_poly1305()'),
    };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Why `createCipher` falls back to node:crypto; null when it does not. */
export function opensslMissing(): string | null {
  functions ??= load();
  return typeof functions === 'string' ? `this node binary does not export OpenSSL's functions: ${functions}` : null;
}

/**
 * A cipher for the calling thread, with an arena of so many blocks. Without OpenSSL's functions it is node:crypto's, which
 * takes five times as long and allocates.
 *
 * @param engine for tests: which of the three it shall be
 */
export function createCipher(
  memory: SharedMemory,
  regions: RegionAllocator,
  blocks: number,
  engine?: Cipher['engine'],
): Cipher {
  const places = takePlaces(regions, blocks);
  if (engine === undefined || engine === 'openssl') {
    const cipher = createPrimitives(memory, regions, places);
    if (cipher !== null) return cipher;
  }
  functions ??= load();
  return engine !== 'node' && typeof functions !== 'string'
    ? new EvpCipher(memory, regions, places, functions)
    : new NodeCipher(memory, places);
}

class EvpCipher extends PlacedCipher implements Cipher {
  readonly engine = 'evp';
  readonly #memory: SharedMemory;
  readonly #evp: Evp;
  readonly #addresses: readonly (number | null)[];
  readonly #encryption: number;
  readonly #decryption: number;
  readonly #sealedAddress: number;
  readonly #keyAddress: number;
  readonly #nonceAddress: number;
  readonly #tagAddress: number;
  readonly #lengthAddress: number;
  readonly #parameters: number;

  constructor(memory: SharedMemory, regions: RegionAllocator, places: CipherPlaces, evp: Evp) {
    super(places);
    this.#memory = memory;
    this.#evp = evp;
    const length = regions.take(4);
    const name = regions.take(TAG_PARAMETER.length);
    const parameters = regions.take(2 * OSSL_PARAM_BYTES);
    const { base, u8, u32 } = memory;
    this.#addresses = blockAddresses(memory, places);
    this.#sealedAddress = base + this.sealed;
    this.#keyAddress = base + this.key;
    this.#nonceAddress = base + this.nonce;
    this.#tagAddress = base + this.tag;
    this.#lengthAddress = base + length;
    this.#parameters = base + parameters;
    // { const char *key; unsigned int data_type; void *data; size_t data_size; size_t return_size }, then an empty one
    u8.set(TAG_PARAMETER, name);
    u8.fill(0, parameters, parameters + 2 * OSSL_PARAM_BYTES);
    memory.setPointer(parameters, name);
    u32[(parameters + 8) >>> 2] = OSSL_PARAM_OCTET_STRING;
    memory.setPointer(parameters + 16, this.tag);
    u32[(parameters + 24) >>> 2] = TAG_BYTES;

    this.#encryption = evp.newContext();
    this.#decryption = evp.newContext();
    const type = evp.chacha20Poly1305();
    evp.encryptInit(this.#encryption, type, this.#keyAddress, this.#nonceAddress, 0);
    evp.decryptInit(this.#decryption, type, this.#keyAddress, this.#nonceAddress, 0);
  }

  seal(block: number, length: number): boolean {
    const evp = this.#evp;
    const context = this.#encryption;
    const at = this.#addresses[block] as number;
    let done = evp.encryptInit(context, 0, this.#keyAddress, this.#nonceAddress, 0);
    if (length > 0) done &= evp.encryptUpdate(context, at, this.#lengthAddress, at, length);
    done &= evp.encryptFinal(context, this.#tagAddress, this.#lengthAddress);
    return (done & evp.control(context, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, this.#tagAddress)) === 1;
  }

  open(block: number, length: number): boolean {
    const evp = this.#evp;
    const context = this.#decryption;
    const at = this.#addresses[block] as number;
    let done = evp.decryptInit(context, 0, this.#keyAddress, this.#nonceAddress, this.#parameters);
    if (length > 0) done &= evp.decryptUpdate(context, at, this.#lengthAddress, this.#sealedAddress, length);
    return (done & evp.decryptFinal(context, this.#tagAddress, this.#lengthAddress)) === 1;
  }

  forget(): void {
    const { u8 } = this.#memory;
    u8.fill(0, this.key, this.key + KEY_BYTES);
    this.#evp.encryptInit(this.#encryption, 0, this.#keyAddress, this.#nonceAddress, 0);
    this.#evp.decryptInit(this.#decryption, 0, this.#keyAddress, this.#nonceAddress, 0);
  }

  close(): void {
    this.forget();
    this.#evp.freeContext(this.#encryption);
    this.#evp.freeContext(this.#decryption);
  }
}

/** The same by way of node:crypto, for a node binary that was linked otherwise. */
class NodeCipher extends PlacedCipher implements Cipher {
  readonly engine = 'node';
  /** Loaded when there is a use for it: it takes a thread milliseconds. */
  readonly #crypto = process.getBuiltinModule('node:crypto');
  readonly #u8: Uint8Array;

  constructor(memory: SharedMemory, places: CipherPlaces) {
    super(places);
    this.#u8 = memory.u8;
  }

  seal(block: number, length: number): boolean {
    const at = this.arena + block * BLOCK_BYTES;
    const cipher = this.#crypto.createCipheriv(
      'chacha20-poly1305',
      this.#bytes(this.key, KEY_BYTES),
      this.#nonceBytes(),
      {
        authTagLength: TAG_BYTES,
      },
    );
    this.#u8.set(cipher.update(this.#bytes(at, length)), at);
    cipher.final();
    this.#u8.set(cipher.getAuthTag(), this.tag);
    return true;
  }

  open(block: number, length: number): boolean {
    const at = this.arena + block * BLOCK_BYTES;
    const decipher = this.#crypto.createDecipheriv(
      'chacha20-poly1305',
      this.#bytes(this.key, KEY_BYTES),
      this.#nonceBytes(),
      {
        authTagLength: TAG_BYTES,
      },
    );
    decipher.setAuthTag(this.#bytes(this.tag, TAG_BYTES));
    this.#u8.set(decipher.update(this.#bytes(this.sealed, length)), at);
    try {
      decipher.final();
      return true;
    } catch {
      return false;
    }
  }

  forget(): void {
    this.#u8.fill(0, this.key, this.key + KEY_BYTES);
  }

  close(): void {
    this.forget();
  }

  #nonceBytes(): Uint8Array {
    return this.#bytes(this.nonce, NONCE_BYTES);
  }

  /** A copy: node:crypto does not take every view of shared memory. */
  #bytes(at: number, length: number): Uint8Array {
    return this.#u8.slice(at, at + length);
  }
}
