/**
 * The macs at the end of both handshake messages, and the cookies of a responder under load (paper, sections 5.3, 5.4.4
 * and 5.4.7).
 *
 * mac1 shows that the sender knows our public key, at the price of one hash. Under load that is not enough: the sender
 * gets a cookie, which only arrives at the address that the message claimed to come from, and has to repeat the message
 * with mac2, made with the cookie.
 */
import { COOKIE_SECRET_LATENCY, COOKIE_SECRET_MAX_AGE } from './constants.js';
import { type Endpoint, endpointBytes } from './endpoint.js';
import {
  COOKIE_REPLY,
  COOKIE_REPLY_BYTES,
  COOKIE_REPLY_COOKIE,
  COOKIE_REPLY_NONCE,
  COOKIE_REPLY_RECEIVER,
  INITIATION_SENDER,
  macsAt,
  putWord,
  word,
} from './messages.js';
import { hash, MAC_BYTES, mac, openXaead, xaead } from './primitives.js';

const LABEL_MAC1 = Buffer.from('mac1----');
const LABEL_COOKIE = Buffer.from('cookie--');
const NO_MAC = new Uint8Array(MAC_BYTES);

/** Draws so many random bytes. */
export type Random = (bytes: number) => Uint8Array;

/** Compares without telling by the time it takes how much is equal. */
function equalMacs(a: Uint8Array, b: Uint8Array): boolean {
  let difference = 0;
  for (let i = 0; i < MAC_BYTES; i++) difference |= a[i] ^ b[i];
  return difference === 0;
}

/** The receiver's side: checks the macs of what arrives, and hands out cookies. One for each device. */
export class CookieChecker {
  readonly #mac1Key: Uint8Array;
  readonly #cookieKey: Uint8Array;
  readonly #random: Random;
  #secret: Uint8Array = NO_MAC;
  #secretMadeAt = Number.NEGATIVE_INFINITY;

  constructor(publicKey: Uint8Array, random: Random) {
    this.#mac1Key = hash(LABEL_MAC1, publicKey);
    this.#cookieKey = hash(LABEL_COOKIE, publicKey);
    this.#random = random;
  }

  hasMac1(message: Uint8Array): boolean {
    const at = macsAt(message);
    const expected = mac(this.#mac1Key, message.subarray(0, at));
    return equalMacs(expected, message.subarray(at, at + MAC_BYTES));
  }

  /** Was the message made with a cookie that we sent to this very address? @param now monotonic milliseconds */
  hasMac2(message: Uint8Array, from: Endpoint, now: number): boolean {
    if (now - this.#secretMadeAt >= COOKIE_SECRET_MAX_AGE) return false;
    const at = macsAt(message) + MAC_BYTES;
    return equalMacs(mac(this.#cookie(from), message.subarray(0, at)), message.subarray(at, at + MAC_BYTES));
  }

  /** The answer to a message that has mac1 but not mac2. */
  reply(message: Uint8Array, from: Endpoint, now: number): Uint8Array {
    if (now - this.#secretMadeAt >= COOKIE_SECRET_MAX_AGE) {
      this.#secret = this.#random(32);
      this.#secretMadeAt = now;
    }
    const reply = new Uint8Array(COOKIE_REPLY_BYTES);
    reply[0] = COOKIE_REPLY;
    // both handshake messages have their sender's index at the same place
    putWord(reply, COOKIE_REPLY_RECEIVER, word(message, INITIATION_SENDER));
    const nonce = this.#random(24);
    const mac1 = message.subarray(macsAt(message), macsAt(message) + MAC_BYTES);
    reply.set(nonce, COOKIE_REPLY_NONCE);
    reply.set(xaead(this.#cookieKey, nonce, this.#cookie(from), mac1), COOKIE_REPLY_COOKIE);
    return reply;
  }

  #cookie(from: Endpoint): Uint8Array {
    return mac(this.#secret, endpointBytes(from));
  }
}

/** The sender's side: puts the macs onto what leaves, and keeps the cookie that came back. One for each peer. */
export class CookieKeeper {
  readonly #mac1Key: Uint8Array;
  readonly #cookieKey: Uint8Array;
  #cookie: Uint8Array | undefined;
  #cookieCameAt = 0;
  /** Of the last message that left; gone once it was answered with a cookie. */
  #lastMac1: Uint8Array | undefined;

  constructor(peersPublicKey: Uint8Array) {
    this.#mac1Key = hash(LABEL_MAC1, peersPublicKey);
    this.#cookieKey = hash(LABEL_COOKIE, peersPublicKey);
  }

  /** Fills both macs of an initiation or a response in. @param now monotonic milliseconds */
  addMacs(message: Uint8Array, now: number): void {
    const at = macsAt(message);
    this.#lastMac1 = mac(this.#mac1Key, message.subarray(0, at));
    message.set(this.#lastMac1, at);
    const fresh = now - this.#cookieCameAt < COOKIE_SECRET_MAX_AGE - COOKIE_SECRET_LATENCY;
    message.set(
      this.#cookie !== undefined && fresh ? mac(this.#cookie, message.subarray(0, at + MAC_BYTES)) : NO_MAC,
      at + MAC_BYTES,
    );
  }

  /** Takes a cookie reply in. @returns false for one that does not answer our last message, or is none */
  consumeReply(reply: Uint8Array, now: number): boolean {
    if (this.#lastMac1 === undefined) return false;
    const nonce = reply.subarray(COOKIE_REPLY_NONCE, COOKIE_REPLY_COOKIE);
    const cookie = openXaead(this.#cookieKey, nonce, reply.subarray(COOKIE_REPLY_COOKIE), this.#lastMac1);
    if (cookie === undefined) return false;
    this.#cookie = cookie;
    this.#cookieCameAt = now;
    this.#lastMac1 = undefined;
    return true;
  }
}
