/**
 * The few functions that the protocol is built from, as its paper names them (section 5.4). Node's own where it has them;
 * keyed BLAKE2s and XChaCha20 from the noble libraries. For the control thread: they allocate.
 */
import { createCipheriv, createDecipheriv, hash as digest } from 'node:crypto';
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import { blake2s } from '@noble/hashes/blake2.js';

export const HASH_BYTES = 32;
export const MAC_BYTES = 16;
/** The authentication tag at the end of everything encrypted. */
export const TAG_BYTES = 16;

const CHACHA = 'chacha20-poly1305';

/** The same bytes, but no Buffer: whose `slice` would be no copy, so that zeroing one would zero the other. */
function plain(buffer: Buffer): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

const BLAKE2S = 'blake2s256';
/** What one compression of BLAKE2s takes: the length of HMAC's two pads. */
const BLAKE2S_BLOCK = 64;

/**
 * Where parts are put together: one call of Node's `hash` costs half of what an object for each text does, and a handshake
 * takes some forty. Nothing stays behind in it.
 */
const scratch = new Uint8Array(512);

/** BLAKE2s of what lies in the scratch, which is zero afterwards. */
function digestScratch(length: number): Uint8Array {
  const text = scratch.subarray(0, length);
  const result = digest(BLAKE2S, text, 'buffer');
  text.fill(0);
  return plain(result);
}

function putParts(at: number, parts: readonly Uint8Array[]): number {
  let end = at;
  for (const part of parts) {
    scratch.set(part, end);
    end += part.length;
  }
  return end;
}

/** BLAKE2s of the concatenated parts, 512 bytes at most. */
export function hash(...parts: readonly Uint8Array[]): Uint8Array {
  return digestScratch(putParts(0, parts));
}

/** Keyed BLAKE2s with 16 bytes of output. */
export function mac(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  const state = blake2s.create({ key, dkLen: MAC_BYTES });
  for (const part of parts) state.update(part);
  return state.digest();
}

/** HMAC (RFC 2104) over BLAKE2s. @param key of 32 bytes */
function hmac(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  putPad(key, 0x36);
  const inner = digestScratch(putParts(BLAKE2S_BLOCK, parts));
  putPad(key, 0x5c);
  scratch.set(inner, BLAKE2S_BLOCK);
  inner.fill(0);
  return digestScratch(BLAKE2S_BLOCK + HASH_BYTES);
}

function putPad(key: Uint8Array, pad: number): void {
  for (let i = 0; i < BLAKE2S_BLOCK; i++) scratch[i] = (key[i] ?? 0) ^ pad;
}

/** HKDF over HMAC-BLAKE2s: so many outputs of 32 bytes. */
export function kdf(count: 1 | 2 | 3, key: Uint8Array, input: Uint8Array): Uint8Array[] {
  const secret = hmac(key, input);
  const outputs: Uint8Array[] = [];
  for (let i = 1; i <= count; i++) outputs.push(hmac(secret, outputs.at(-1) ?? new Uint8Array(), Uint8Array.of(i)));
  secret.fill(0);
  return outputs;
}

/** The 12 bytes of a nonce: four zeros, then the counter, little-endian. */
function nonceOf(counter: number): Uint8Array {
  const nonce = new Uint8Array(12);
  const view = new DataView(nonce.buffer);
  view.setUint32(4, counter % 2 ** 32, true);
  view.setUint32(8, Math.floor(counter / 2 ** 32), true);
  return nonce;
}

/** ChaCha20-Poly1305 (RFC 8439). @returns ciphertext and tag */
export function aead(key: Uint8Array, counter: number, text: Uint8Array, additional: Uint8Array): Uint8Array {
  const cipher = createCipheriv(CHACHA, key, nonceOf(counter), { authTagLength: TAG_BYTES });
  cipher.setAAD(additional, { plaintextLength: text.length });
  return plain(Buffer.concat([cipher.update(text), cipher.final(), cipher.getAuthTag()]));
}

/** Opens what `aead` sealed. @returns the plaintext, or undefined when the tag is wrong */
export function openAead(
  key: Uint8Array,
  counter: number,
  sealed: Uint8Array,
  additional: Uint8Array,
): Uint8Array | undefined {
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

/** XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha). @param nonce 24 bytes */
export function xaead(key: Uint8Array, nonce: Uint8Array, text: Uint8Array, additional: Uint8Array): Uint8Array {
  return xchacha20poly1305(key, nonce, additional).encrypt(text);
}

export function openXaead(
  key: Uint8Array,
  nonce: Uint8Array,
  sealed: Uint8Array,
  additional: Uint8Array,
): Uint8Array | undefined {
  try {
    return xchacha20poly1305(key, nonce, additional).decrypt(sealed);
  } catch {
    return undefined;
  }
}
