/**
 * X25519 (RFC 7748), through the OpenSSL that every node binary carries: `openssl.ts` tells how.
 *
 * node:crypto has it too, but takes keys as DER or as text only. Parsing DER costs ten times the computation itself, which
 * matters to whoever answers handshakes by the hundred a second; and text is a string, which nobody can make zero.
 * So it is the way out for a node binary that was linked otherwise.
 */
import { createPrivateKey, createPublicKey, diffieHellman } from 'node:crypto';
import koffi from 'koffi';

export const X25519_BYTES = 32;

/** Keys are 32 bytes each, and remain their owner's. */
export interface X25519 {
  readonly engine: 'openssl' | 'node';
  publicKeyOf(privateKey: Uint8Array): Uint8Array;
  /** @returns what both ends compute; undefined where it would be zero (RFC 7748, section 6.1) */
  agree(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined;
}

/** openssl/obj_mac.h: EVP_PKEY_X25519 */
const NID_X25519 = 1034;

function throughOpenssl(): X25519 {
  const library = koffi.load(null);
  // handles are numbers; 0 is NULL
  const newPrivate = library.func(
    'uintptr_t EVP_PKEY_new_raw_private_key(int type, uintptr_t engine, const void *key, size_t length)',
  );
  const newPublic = library.func(
    'uintptr_t EVP_PKEY_new_raw_public_key(int type, uintptr_t engine, const void *key, size_t length)',
  );
  const rawPublic = library.func(
    'int EVP_PKEY_get_raw_public_key(uintptr_t key, _Out_ uint8_t *to, _Inout_ size_t *length)',
  );
  const freeKey = library.func('void EVP_PKEY_free(uintptr_t key)');
  const newContext = library.func('uintptr_t EVP_PKEY_CTX_new(uintptr_t key, uintptr_t engine)');
  const freeContext = library.func('void EVP_PKEY_CTX_free(uintptr_t context)');
  const deriveInit = library.func('int EVP_PKEY_derive_init(uintptr_t context)');
  const setPeer = library.func('int EVP_PKEY_derive_set_peer(uintptr_t context, uintptr_t peer)');
  const derive = library.func('int EVP_PKEY_derive(uintptr_t context, _Out_ uint8_t *to, _Inout_ size_t *length)');
  const clearError = library.func('void ERR_clear_error()');
  const keyOf = (make: typeof newPrivate, bytes: Uint8Array): number => {
    const key = Number(make(NID_X25519, 0, bytes, X25519_BYTES));
    if (key === 0) throw new Error('OpenSSL makes no X25519 key');
    return key;
  };
  return {
    engine: 'openssl',
    publicKeyOf(privateKey) {
      const key = keyOf(newPrivate, privateKey);
      const to = new Uint8Array(X25519_BYTES);
      rawPublic(key, to, [X25519_BYTES]);
      freeKey(key);
      return to;
    },
    agree(privateKey, publicKey) {
      const own = keyOf(newPrivate, privateKey);
      const theirs = keyOf(newPublic, publicKey);
      const context = Number(newContext(own, 0));
      const to = new Uint8Array(X25519_BYTES);
      const agreed =
        deriveInit(context) === 1 && setPeer(context, theirs) === 1 && derive(context, to, [X25519_BYTES]) === 1;
      // a failure stays in this thread's queue, and node:crypto would take it for its own
      if (!agreed) clearError();
      freeContext(context);
      freeKey(theirs);
      freeKey(own);
      return agreed ? to : undefined;
    },
  };
}

/** What stands before the 32 bytes of a private key in PKCS #8, and of a public one in SPKI (RFC 8410). */
const PKCS8_X25519 = Buffer.from('302e020100300506032b656e04220420', 'hex');
const SPKI_X25519 = Buffer.from('302a300506032b656e032100', 'hex');

function throughNode(): X25519 {
  const privateOf = (bytes: Uint8Array) => {
    const der = Buffer.concat([PKCS8_X25519, bytes]);
    const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    der.fill(0);
    return key;
  };
  return {
    engine: 'node',
    publicKeyOf(privateKey) {
      const spki = createPublicKey(privateOf(privateKey)).export({ format: 'der', type: 'spki' });
      return new Uint8Array(spki.subarray(SPKI_X25519.length));
    },
    agree(privateKey, publicKey) {
      try {
        const key = createPublicKey({ key: Buffer.concat([SPKI_X25519, publicKey]), format: 'der', type: 'spki' });
        return new Uint8Array(diffieHellman({ privateKey: privateOf(privateKey), publicKey: key }));
      } catch {
        return undefined;
      }
    },
  };
}

/** @param engine for tests: which of the two it shall be; else OpenSSL's functions where they can be had */
export function createX25519(engine?: X25519['engine']): X25519 {
  if (engine === 'node') return throughNode();
  try {
    return throughOpenssl();
  } catch (error) {
    if (engine === 'openssl') throw error;
    return throughNode();
  }
}
