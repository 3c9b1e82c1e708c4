/**
 * X25519 (RFC 7748), through the OpenSSL that every node binary carries.
 *
 * There are three ways, each the fallback of the one before. OpenSSL's function itself is one scalar multiplication. Its
 * documented EVP interface makes a key of the private bytes first, and with it the public key, which is another, at every
 * use. node:crypto takes keys as DER or as text only: parsing DER costs ten times the computation itself, and text is a
 * string, which nobody can make zero. All of that matters to whoever answers handshakes by the hundred a second.
 *
 * The function is OpenSSL's own, not for its users: so it is used only after it gave the right answer to a question.
 */
import { createPrivateKey, createPublicKey, diffieHellman } from 'node:crypto';
import koffi from 'koffi';

export const X25519_BYTES = 32;

/** Keys are 32 bytes each, and remain their owner's. */
export interface X25519 {
  readonly engine: 'openssl' | 'evp' | 'node';
  publicKeyOf(privateKey: Uint8Array): Uint8Array;
  /** @returns what both ends compute; undefined where it would be zero (RFC 7748, section 6.1) */
  agree(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined;
}

/** openssl/obj_mac.h: EVP_PKEY_X25519 */
const NID_X25519 = 1034;

/** @throws Error where the functions are not exported, or are not what they were */
function throughOpenssl(): X25519 {
  const library = koffi.load(null);
  const multiply = library.func('int ossl_x25519(_Out_ uint8_t *to, const uint8_t *key, const uint8_t *point)');
  const multiplyBase = library.func('void ossl_x25519_public_from_private(_Out_ uint8_t *to, const uint8_t *key)');
  const x25519: X25519 = {
    engine: 'openssl',
    publicKeyOf(privateKey) {
      const to = new Uint8Array(X25519_BYTES);
      multiplyBase(to, privateKey);
      return to;
    },
    agree(privateKey, publicKey) {
      const to = new Uint8Array(X25519_BYTES);
      return multiply(to, privateKey, publicKey) === 1 ? to : undefined;
    },
  };
  const [one, two] = [new Uint8Array(X25519_BYTES).fill(0x48), new Uint8Array(X25519_BYTES).fill(0x50)];
  const other = throughNode();
  const theirs = other.publicKeyOf(two);
  const right =
    Buffer.compare(x25519.publicKeyOf(two), theirs) === 0 &&
    Buffer.compare(x25519.agree(one, theirs) ?? one, other.agree(one, theirs) ?? two) === 0 &&
    x25519.agree(one, new Uint8Array(X25519_BYTES)) === undefined;
  if (!right) throw new Error("OpenSSL's X25519 is not what it was");
  return x25519;
}

function throughEvp(): X25519 {
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
    engine: 'evp',
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

const ENGINES = { openssl: throughOpenssl, evp: throughEvp, node: throughNode } as const;

/** @param engine for tests: which of the three it shall be; else the first that can be had */
export function createX25519(engine?: X25519['engine']): X25519 {
  if (engine !== undefined) return ENGINES[engine]();
  for (const make of [throughOpenssl, throughEvp]) {
    try {
      return make();
    } catch {
      // the next one
    }
  }
  return throughNode();
}
