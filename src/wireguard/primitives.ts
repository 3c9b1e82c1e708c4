/**
 * The few functions that the protocol is built from, as its paper names them (section 5.4). OpenSSL's where it has them;
 * XChaCha20 from the noble library. For the control thread: they allocate.
 */
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import { type Aead, createAead } from '../linux/aead.js';
import { type Blake2s, createBlake2s } from '../linux/blake2s.js';

export const MAC_BYTES = 16;
/** The authentication tag at the end of everything encrypted. */
export const TAG_BYTES = 16;

const NOTHING = new Uint8Array();

/** Made when they are first used, since not every process has handshakes. */
let blake2s: Blake2s | undefined;
let cipher: Aead | undefined;

/** BLAKE2s of the concatenated parts, 1,024 bytes at most. */
export function hash(...parts: readonly Uint8Array[]): Uint8Array {
  blake2s ??= createBlake2s();
  return blake2s.hash(...parts);
}

/** Keyed BLAKE2s with 16 bytes of output, of 1,024 bytes at most. */
export function mac(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  blake2s ??= createBlake2s();
  return blake2s.keyed(MAC_BYTES, key, ...parts);
}

/** HKDF over HMAC-BLAKE2s: so many outputs of 32 bytes. */
export function kdf(count: 1 | 2 | 3, key: Uint8Array, input: Uint8Array): Uint8Array[] {
  blake2s ??= createBlake2s();
  const secret = blake2s.hmac(key, input);
  const outputs: Uint8Array[] = [];
  for (let i = 1; i <= count; i++) outputs.push(blake2s.hmac(secret, outputs.at(-1) ?? NOTHING, Uint8Array.of(i)));
  secret.fill(0);
  return outputs;
}

/** ChaCha20-Poly1305 (RFC 8439). @returns ciphertext and tag */
export function aead(key: Uint8Array, counter: number, text: Uint8Array, additional: Uint8Array): Uint8Array {
  cipher ??= createAead();
  return cipher.seal(key, counter, text, additional);
}

/** Opens what `aead` sealed. @returns the plaintext, or undefined when the tag is wrong */
export function openAead(
  key: Uint8Array,
  counter: number,
  sealed: Uint8Array,
  additional: Uint8Array,
): Uint8Array | undefined {
  cipher ??= createAead();
  return cipher.open(key, counter, sealed, additional);
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
