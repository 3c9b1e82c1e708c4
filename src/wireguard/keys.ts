/**
 * Keys as objects that do not show themselves: no log line, error or JSON text gets at their bytes by accident.
 *
 * Whoever owns a key calls `zero` when it is done with it. A private key lives inside OpenSSL, which clears it when the
 * object is collected; the only bytes of it that we hold are those that the user API has to tell.
 */
import { createPrivateKey, createPublicKey, diffieHellman, type KeyObject } from 'node:crypto';
import { inspect } from 'node:util';
import { TweedError } from '../base/errors.js';

export const KEY_BYTES = 32;

/** What stands before the 32 bytes of a private key in PKCS #8, and of a public one in SPKI (RFC 8410). */
const PKCS8_X25519 = Buffer.from('302e020100300506032b656e04220420', 'hex');
const SPKI_X25519 = Buffer.from('302a300506032b656e032100', 'hex');

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

/** A Curve25519 private key: a host's own, or one made for a single handshake. */
export class PrivateKey {
  readonly publicKey: Uint8Array;
  readonly #secret: Secret;
  #key: KeyObject | undefined;

  /** @param bytes 32 random bytes, taken over; they are clamped as RFC 7748 says */
  constructor(bytes: Uint8Array) {
    if (bytes.length !== KEY_BYTES) throw new BadKeyError('private key');
    bytes[0] &= 248;
    bytes[31] = (bytes[31] & 127) | 64;
    this.#secret = new Secret(bytes);
    const der = Buffer.concat([PKCS8_X25519, bytes]);
    this.#key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    der.fill(0);
    const spki = createPublicKey(this.#key).export({ format: 'der', type: 'spki' });
    this.publicKey = new Uint8Array(spki.subarray(SPKI_X25519.length));
  }

  /** The secret that both ends compute; undefined for a public key that would make it zero (RFC 7748, section 6.1). */
  agree(publicKey: Uint8Array): Secret | undefined {
    if (this.#key === undefined) return undefined;
    try {
      const key = createPublicKey({ key: Buffer.concat([SPKI_X25519, publicKey]), format: 'der', type: 'spki' });
      return new Secret(diffieHellman({ privateKey: this.#key, publicKey: key }));
    } catch {
      return undefined;
    }
  }

  /** For the key file and the user API alone. */
  get secret(): Secret {
    return this.#secret;
  }

  /** Makes the key unusable. */
  zero(): void {
    this.#key = undefined;
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
