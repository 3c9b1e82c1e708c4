/**
 * BLAKE2s (RFC 7693) of short texts, plain, keyed and in HMAC (RFC 2104), through the OpenSSL that every node binary
 * carries.
 *
 * There are two ways, the second the fallback of the first. OpenSSL's functions themselves take a context whose place we know:
 * one that was begun is kept, and copied for each text. node:crypto makes objects for each, in which most of the time goes
 * (a handshake takes some fifty texts), and has no keyed BLAKE2s: that is then @noble/hashes'.
 *
 * The functions are OpenSSL's own, not for its users: so they are used only after they gave the right answers to a few
 * questions.
 */
import { hash as digest } from 'node:crypto';
import { blake2s as noble } from '@noble/hashes/blake2.js';
import koffi from 'koffi';
import { addressOf } from './libc.js';

export const BLAKE2S_BYTES = 32;
/** All parts of a text together. */
export const BLAKE2S_MAX_TEXT = 1024;
/** What one compression takes: the length of HMAC's two pads. */
const BLOCK = 64;

/** Parts are put together, and remain their owners'. Of keys and texts nothing stays behind. */
export interface Blake2s {
  readonly engine: 'openssl' | 'node';
  hash(...parts: readonly Uint8Array[]): Uint8Array;
  /** @param key of 1 to 32 bytes @param length of the result, 32 at most */
  keyed(length: number, key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array;
  /** @param key of 64 bytes at most */
  hmac(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array;
}

/** Puts parts one behind the other. @returns where they end */
function put(to: Uint8Array, at: number, parts: readonly Uint8Array[]): number {
  let end = at;
  for (const part of parts) {
    to.set(part, end);
    end += part.length;
  }
  return end;
}

/** Puts HMAC's key with one of its two pads. */
function putPad(to: Uint8Array, at: number, key: Uint8Array, pad: number): void {
  const { length } = key;
  for (let i = 0; i < length; i++) to[at + i] = key[i] ^ pad;
  to.fill(pad, at + length, at + BLOCK);
}

const INNER_PAD = 0x36;
const OUTER_PAD = 0x5c;

/** prov/blake2.h: BLAKE2S_CTX has 128 bytes, and BLAKE2S_PARAM 32, of which the first four are not zero here. */
const CONTEXT_BYTES = 256;
const PARAMETERS = { bytes: 32, resultLength: 0, keyLength: 1, fanout: 2, depth: 3 } as const;

/** Where things lie in our memory. */
const BEGUN = 0;
const CONTEXT = BEGUN + CONTEXT_BYTES;
const PARAMETERS_AT = CONTEXT + CONTEXT_BYTES;
const KEY = PARAMETERS_AT + 64;
const RESULT = KEY + 64;
const TEXT = RESULT + 64;
const ALL_BYTES = TEXT + BLOCK + BLAKE2S_MAX_TEXT;

/** A byte that nothing here writes. */
const UNTOUCHED = 0xa5;

/** @throws Error where the functions are not exported, or are not what they were */
function throughOpenssl(): Blake2s {
  const library = koffi.load(null);
  const init = library.func('int ossl_blake2s_init(uintptr_t context, uintptr_t parameters)');
  const initKey = library.func('int ossl_blake2s_init_key(uintptr_t context, uintptr_t parameters, uintptr_t key)');
  const update = library.func('int ossl_blake2s_update(uintptr_t context, uintptr_t text, size_t length)');
  const final = library.func('int ossl_blake2s_final(uintptr_t to, uintptr_t context)');
  const bytes = new Uint8Array(new ArrayBuffer(ALL_BYTES));
  const base = addressOf(bytes);
  const context = base + CONTEXT;
  const parameters = base + PARAMETERS_AT;
  const keyAt = base + KEY;
  const result = base + RESULT;
  const text = base + TEXT;
  const behindPad = text + BLOCK;

  const setParameters = (resultLength: number, keyLength: number) => {
    bytes[PARAMETERS_AT + PARAMETERS.resultLength] = resultLength;
    bytes[PARAMETERS_AT + PARAMETERS.keyLength] = keyLength;
    bytes[PARAMETERS_AT + PARAMETERS.fanout] = 1;
    bytes[PARAMETERS_AT + PARAMETERS.depth] = 1;
  };
  bytes.fill(UNTOUCHED, BEGUN, PARAMETERS_AT);
  setParameters(BLAKE2S_BYTES, 0);
  init(base + BEGUN, parameters);
  /** A context for a text without a key. `final` makes zero what is left in it. */
  const begin = () => bytes.copyWithin(CONTEXT, BEGUN, BEGUN + CONTEXT_BYTES);
  const take = (length: number, textEnd: number) => {
    const taken = bytes.slice(RESULT, RESULT + length);
    bytes.fill(0, RESULT, textEnd);
    return taken;
  };

  const blake2s: Blake2s = {
    engine: 'openssl',
    hash(...parts) {
      const end = put(bytes, TEXT, parts);
      begin();
      update(context, text, end - TEXT);
      final(result, context);
      return take(BLAKE2S_BYTES, end);
    },
    keyed(length, key, ...parts) {
      const end = put(bytes, TEXT, parts);
      bytes.set(key, KEY);
      setParameters(length, key.length);
      initKey(context, parameters, keyAt);
      update(context, text, end - TEXT);
      final(result, context);
      bytes.fill(0, KEY, RESULT);
      return take(length, end);
    },
    hmac(key, ...parts) {
      putPad(bytes, TEXT, key, INNER_PAD);
      const end = put(bytes, TEXT + BLOCK, parts);
      begin();
      update(context, text, end - TEXT);
      final(behindPad, context);
      putPad(bytes, TEXT, key, OUTER_PAD);
      begin();
      update(context, text, BLOCK + BLAKE2S_BYTES);
      final(result, context);
      return take(BLAKE2S_BYTES, Math.max(end, TEXT + BLOCK + BLAKE2S_BYTES));
    },
  };
  const isUntouched = bytes.subarray(BEGUN + (3 * CONTEXT_BYTES) / 4, CONTEXT).every((byte) => byte === UNTOUCHED);
  if (!isUntouched || !isRight(blake2s)) throw new Error("OpenSSL's BLAKE2s is not what it was");
  return blake2s;
}

/** Texts of nothing, of one block and a little more, and of several. */
const QUESTIONS = [0, 32, 64, 65, 96, 300];

function isRight(blake2s: Blake2s): boolean {
  const other = throughNode();
  const key = Uint8Array.from({ length: BLAKE2S_BYTES }, (_, i) => 7 * i + 1);
  const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;
  return QUESTIONS.every((length) => {
    const [one, two] = [new Uint8Array(length).fill(0x5a), Uint8Array.of(1, 2, 3)];
    return (
      same(blake2s.hash(one, two), other.hash(one, two)) &&
      same(blake2s.hmac(key, one, two), other.hmac(key, one, two)) &&
      same(blake2s.keyed(16, key, one), other.keyed(16, key, one)) &&
      same(blake2s.keyed(16, key.subarray(0, 16), two), other.keyed(16, key.subarray(0, 16), two))
    );
  });
}

function throughNode(): Blake2s {
  const scratch = new Uint8Array(BLOCK + BLAKE2S_MAX_TEXT);
  /** Of what lies in the scratch, which is zero afterwards. */
  const take = (length: number): Uint8Array => {
    const text = scratch.subarray(0, length);
    const buffer = digest('blake2s256', text, 'buffer');
    text.fill(0);
    // no Buffer: whose `slice` would be no copy, so that zeroing one would zero the other
    return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  };
  return {
    engine: 'node',
    hash: (...parts) => take(put(scratch, 0, parts)),
    keyed(length, key, ...parts) {
      const state = noble.create({ key, dkLen: length });
      for (const part of parts) state.update(part);
      return state.digest();
    },
    hmac(key, ...parts) {
      putPad(scratch, 0, key, INNER_PAD);
      const inner = take(put(scratch, BLOCK, parts));
      putPad(scratch, 0, key, OUTER_PAD);
      scratch.set(inner, BLOCK);
      inner.fill(0);
      return take(BLOCK + BLAKE2S_BYTES);
    },
  };
}

/** @param engine for tests: which of the two it shall be; else the first that can be had */
export function createBlake2s(engine?: Blake2s['engine']): Blake2s {
  if (engine === 'node') return throughNode();
  try {
    return throughOpenssl();
  } catch (error) {
    if (engine !== undefined) throw error;
    return throughNode();
  }
}
