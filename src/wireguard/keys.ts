/**
 * Keys as objects that do not show themselves: no log line, error or JSON text gets at their bytes by accident.
 *
 * Whoever owns a key calls `zero` when it is done with it.
 */
import { inspect } from 'node:util';
import { TweedError } from '../base/errors.js';
import { createX25519, type X25519 } from '../linux/x25519.js';

export const KEY_BYTES = 32;

/** A text that is no key. It says which, never what was in it. */
export class BadKeyError extends TweedError {
  constructor(what: string) {
    super('WIREGUARD_BAD_KEY', `the ${what} is not a key; give 32 bytes in base64, as "wg genkey" prints them`);
  }
}

/** Secret bytes that can be forgotten. */
export class Secret {
  readonly #bytes: Uint8Array;

  /** @param bytes taken over: nobody else keeps or changes them */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** 32 zero bytes: the preshared key where none is set. */
  static none(): Secret {
    return new Secret(new Uint8Array(KEY_BYTES));
  }

  /** The bytes themselves. Not to be kept: they are zero after `zero`. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  zero(): void {
    this.#bytes.fill(0);
  }

  toJSON(): string {
    return '(secret)';
  }

  [inspect.custom](): string {
    return '(secret)';
  }
}

/** Made with the first key, since not every process has one. */
let x25519: X25519 | undefined;

/** A Curve25519 private key: a host's own, or one made for a single handshake. */
export class PrivateKey {
  readonly publicKey: Uint8Array;
  readonly #x25519: X25519;
  readonly #secret: Secret;
  #usable = true;

  /** @param bytes 32 random bytes, taken over; they are clamped as RFC 7748 says */
  constructor(bytes: Uint8Array) {
    if (bytes.length !== KEY_BYTES) throw new BadKeyError('private key');
    x25519 ??= createX25519();
    this.#x25519 = x25519;
    bytes[0] &= 248;
    bytes[31] = (bytes[31] & 127) | 64;
    this.#secret = new Secret(bytes);
    this.publicKey = this.#x25519.publicKeyOf(bytes);
  }

  /** The secret that both ends compute; undefined for a public key that would make it zero (RFC 7748, section 6.1). */
  agree(publicKey: Uint8Array): Secret | undefined {
    const secret = this.#usable ? this.#x25519.agree(this.#secret.bytes, publicKey) : undefined;
    return secret === undefined ? undefined : new Secret(secret);
  }

  /** For the key file and the user API alone. */
  get secret(): Secret {
    return this.#secret;
  }

  /** Makes the key unusable. */
  zero(): void {
    this.#usable = false;
    this.#secret.zero();
  }
}

/** Reads a key as `wg` writes it: 32 bytes in base64. @param what names it in the error @throws BadKeyError */
export function parseKey(text: string, what: string): Uint8Array {
  if (!/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/.test(text)) throw new BadKeyError(what);
  const buffer = Buffer.from(text, 'base64');
  const bytes = new Uint8Array(buffer);
  buffer.fill(0);
  return bytes;
}

export function formatKey(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('base64');
}
