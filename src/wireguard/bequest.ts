/**
 * The sessions of a device as one process leaves them to the next, as bytes.
 *
 * Theory of operation. A process that ends has counted every message that it sent and received; nobody sends any more when
 * that is read. So whoever comes next can go on with the same keys, above the last counter and with the same windows of
 * counters that were seen. Handshakes that wait for an answer are not left: they are begun anew. Times are durations, since
 * each process counts its own from its beginning; `at` is of the system's monotonic clock.
 *
 * The bytes hold keys: whoever is done with them makes them zero. A form of another version is not understood.
 */
import { TweedError } from '../base/errors.js';
import type { Endpoint } from './endpoint.js';
import { SLOT_BYTES } from './key-slots.js';
import { KEY_BYTES } from './keys.js';
import { readSockaddr, SOCKADDR_BYTES, writeSockaddr } from './peer-records.js';
import { TAI64N_BYTES } from './tai64n.js';

/** Is another number whenever anything here, or in a slot, has changed. */
const FORM = 0x7477_0001;

/** What a key pair is to its peer. */
export type KeypairRole = 'current' | 'next' | 'retired';
const ROLES: readonly KeypairRole[] = ['current', 'next', 'retired'];

export interface KeypairBequest {
  readonly role: KeypairRole;
  readonly index: number;
  readonly initiator: boolean;
  /** Milliseconds since it was made, and until its initiator asks for another. */
  readonly age: number;
  readonly renewIn: number;
  /** As it lies in the shared memory. */
  readonly slot: Uint8Array;
}

/** How long until each timer of a peer is due, in milliseconds; infinity for one that does not run. */
export interface TimersBequest {
  readonly keepalive: number;
  readonly newHandshake: number;
  readonly zero: number;
}

export interface PeerBequest {
  readonly publicKey: Uint8Array;
  /** Tells whether the preshared key is the same. */
  readonly presharedHash: Uint8Array;
  /** Where it is by its settings, and where it is by what it sent. */
  readonly settled: Endpoint | undefined;
  readonly endpoint: Endpoint | undefined;
  readonly greatestTimestamp: Uint8Array;
  /** Milliseconds since the epoch. */
  readonly lastHandshake: number;
  readonly timers: TimersBequest;
  readonly needsAnotherKeepalive: boolean;
  readonly sentLastMinuteHandshake: boolean;
  /** Was it being asked for a session? */
  readonly asked: boolean;
  readonly keypairs: readonly KeypairBequest[];
}

export interface Bequest {
  /** The device's own. */
  readonly publicKey: Uint8Array;
  /** How many slots there are: their number is part of every index. */
  readonly slots: number;
  /** Milliseconds of the system's monotonic clock. */
  readonly at: number;
  readonly peers: readonly PeerBequest[];
}

/** What was left cannot be used; nothing of it was. */
export class BequestError extends TweedError {
  constructor(problem: string) {
    super(
      'SESSIONS_NOT_TAKEN',
      `the sessions of the former daemon are not gone on with: ${problem}; they are made anew`,
    );
  }
}

const SOCKADDR_FIELD = 32;
const TIMESTAMP_FIELD = 16;
const HEADER_BYTES = 4 * 4 + 8 + KEY_BYTES;
const PEER_BYTES = 2 * KEY_BYTES + 2 * SOCKADDR_FIELD + TIMESTAMP_FIELD + 4 * 8 + 2 * 4;
const KEYPAIR_BYTES = 2 * 4 + 2 * 8 + SLOT_BYTES;

const NEEDS_ANOTHER_KEEPALIVE = 1;
const SENT_LAST_MINUTE_HANDSHAKE = 2;
const ASKED = 4;
const INITIATOR = 0x100;

/** Goes through bytes, front to back. */
class Cursor {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  /** The next so many bytes themselves. @throws BequestError */
  take(length: number): Uint8Array {
    if (length > this.left) throw new BequestError('something is missing');
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  put(bytes: Uint8Array): void {
    this.take(bytes.length).set(bytes);
  }

  putWords(...words: readonly number[]): void {
    for (const word of words) this.#view.setUint32(this.#skip(4), word, true);
  }

  word(): number {
    return this.#view.getUint32(this.#skip(4), true);
  }

  putNumbers(...numbers: readonly number[]): void {
    for (const number of numbers) this.#view.setFloat64(this.#skip(8), number, true);
  }

  number(): number {
    return this.#view.getFloat64(this.#skip(8), true);
  }

  putEndpoint(endpoint: Endpoint | undefined): void {
    const field = this.take(SOCKADDR_FIELD);
    if (endpoint !== undefined) writeSockaddr(field, 0, endpoint);
  }

  endpoint(): Endpoint | undefined {
    return readSockaddr(this.take(SOCKADDR_FIELD).subarray(0, SOCKADDR_BYTES), 0);
  }

  #skip(length: number): number {
    this.take(length);
    return this.#at - length;
  }
}

export function encodeBequest({ publicKey, slots, at, peers }: Bequest): Uint8Array {
  const keypairs = peers.reduce((sum, peer) => sum + peer.keypairs.length, 0);
  const bytes = new Uint8Array(HEADER_BYTES + peers.length * PEER_BYTES + keypairs * KEYPAIR_BYTES);
  const cursor = new Cursor(bytes);
  cursor.putWords(FORM, SLOT_BYTES, slots, peers.length);
  cursor.putNumbers(at);
  cursor.put(publicKey);
  for (const peer of peers) {
    const { timers } = peer;
    cursor.put(peer.publicKey);
    cursor.put(peer.presharedHash);
    cursor.putEndpoint(peer.settled);
    cursor.putEndpoint(peer.endpoint);
    cursor.take(TIMESTAMP_FIELD).set(peer.greatestTimestamp);
    cursor.putNumbers(peer.lastHandshake, timers.keepalive, timers.newHandshake, timers.zero);
    const flags =
      (peer.needsAnotherKeepalive ? NEEDS_ANOTHER_KEEPALIVE : 0) |
      (peer.sentLastMinuteHandshake ? SENT_LAST_MINUTE_HANDSHAKE : 0) |
      (peer.asked ? ASKED : 0);
    cursor.putWords(flags, peer.keypairs.length);
    for (const { role, index, initiator, age, renewIn, slot } of peer.keypairs) {
      cursor.putWords(ROLES.indexOf(role) | (initiator ? INITIATOR : 0), index);
      cursor.putNumbers(age, renewIn);
      cursor.put(slot);
    }
  }
  return bytes;
}

/** Everything in it that is bytes lies in `bytes`. @throws BequestError */
export function decodeBequest(bytes: Uint8Array): Bequest {
  const cursor = new Cursor(bytes);
  const [form, slotBytes, slots, count] = [cursor.word(), cursor.word(), cursor.word(), cursor.word()];
  if (form !== FORM || slotBytes !== SLOT_BYTES) throw new BequestError('it is another version of tweed');
  const at = cursor.number();
  const publicKey = cursor.take(KEY_BYTES);
  const peers: PeerBequest[] = [];
  for (let i = 0; i < count; i++) peers.push(decodePeer(cursor));
  if (cursor.left > 0) throw new BequestError('there is more than there should be');
  return { publicKey, slots, at, peers };
}

function decodePeer(cursor: Cursor): PeerBequest {
  const publicKey = cursor.take(KEY_BYTES);
  const presharedHash = cursor.take(KEY_BYTES);
  const [settled, endpoint] = [cursor.endpoint(), cursor.endpoint()];
  const greatestTimestamp = cursor.take(TIMESTAMP_FIELD).slice(0, TAI64N_BYTES);
  const lastHandshake = cursor.number();
  const timers = { keepalive: cursor.number(), newHandshake: cursor.number(), zero: cursor.number() };
  const flags = cursor.word();
  const count = cursor.word();
  const keypairs: KeypairBequest[] = [];
  for (let i = 0; i < count; i++) keypairs.push(decodeKeypair(cursor));
  return {
    ...{ publicKey, presharedHash, settled, endpoint, greatestTimestamp, lastHandshake, timers, keypairs },
    needsAnotherKeepalive: (flags & NEEDS_ANOTHER_KEEPALIVE) !== 0,
    sentLastMinuteHandshake: (flags & SENT_LAST_MINUTE_HANDSHAKE) !== 0,
    asked: (flags & ASKED) !== 0,
  };
}

function decodeKeypair(cursor: Cursor): KeypairBequest {
  const what = cursor.word();
  const role = ROLES[what & (INITIATOR - 1)];
  if (role === undefined) throw new BequestError('a key pair is of no kind that is known');
  const index = cursor.word();
  const [age, renewIn] = [cursor.number(), cursor.number()];
  return { role, initiator: (what & INITIATOR) !== 0, index, age, renewIn, slot: cursor.take(SLOT_BYTES) };
}
