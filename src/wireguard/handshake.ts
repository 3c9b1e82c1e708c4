/**
 * The handshake, Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, as functions of its inputs (paper, sections 5.4.2 to 5.4.5).
 *
 * Theory of operation. Both ends mix everything that they send and receive into a hash, and every Diffie–Hellman result
 * into a chaining key; what one encrypts under the one with the other as additional data only opens where both agree.
 * The initiator sends an ephemeral key, its own identity and a timestamp; the responder answers with an ephemeral key and
 * an empty text; the last chaining key gives the two transport keys. The messages leave here with both macs zero, which
 * `cookies.ts` fills in.
 *
 * Nothing here draws random numbers, looks at a clock or knows who may talk to us: the caller brings it.
 */
import { type PrivateKey, Secret } from './keys.js';
import {
  INITIATION,
  INITIATION_BYTES,
  INITIATION_EPHEMERAL,
  INITIATION_SENDER,
  INITIATION_STATIC,
  INITIATION_TIMESTAMP,
  putWord,
  RESPONSE,
  RESPONSE_BYTES,
  RESPONSE_EMPTY,
  RESPONSE_EPHEMERAL,
  RESPONSE_RECEIVER,
  RESPONSE_SENDER,
  word,
} from './messages.js';
import { aead, hash, kdf, openAead, TAG_BYTES } from './primitives.js';
import { TAI64N_BYTES } from './tai64n.js';

const CONSTRUCTION = Buffer.from('Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s');
const IDENTIFIER = Buffer.from('WireGuard v1 zx2c4 Jason@zx2c4.com');
const NOTHING = new Uint8Array();

/** Chaining key and hash of every handshake at its beginning. Made when the first begins, since not every process has any. */
let initial: { readonly chain: Uint8Array; readonly hash: Uint8Array } | undefined;

function makeInitial() {
  const chain = hash(CONSTRUCTION);
  return { chain, hash: hash(chain, IDENTIFIER) };
}

/** What the two ends of a handshake must have agreed on before. */
export interface RemoteIdentity {
  readonly publicKey: Uint8Array;
  /** The Diffie–Hellman result of the two long-lived keys; the same in every handshake. */
  readonly staticSecret: Secret;
  readonly presharedKey: Secret;
}

/** The keys of a session, each for one direction. */
export interface TransportKeys {
  readonly send: Secret;
  readonly receive: Secret;
}

/** Chaining key and hash: what both ends have computed so far. */
export class Transcript {
  #chain: Uint8Array;
  #hash: Uint8Array;

  private constructor(chain: Uint8Array, hashed: Uint8Array) {
    this.#chain = chain;
    this.#hash = hashed;
  }

  static begin(responderKey: Uint8Array): Transcript {
    initial ??= makeInitial();
    return new Transcript(initial.chain.slice(), hash(initial.hash, responderKey));
  }

  /** Takes over a secret: it goes into the chaining key. */
  #advance(chain: Uint8Array): void {
    this.#chain.fill(0);
    this.#chain = chain;
  }

  mixHash(bytes: Uint8Array): void {
    this.#hash = hash(this.#hash, bytes);
  }

  mixEphemeral(publicKey: Uint8Array): void {
    this.mixHash(publicKey);
    this.#advance(kdf(1, this.#chain, publicKey)[0]);
  }

  /** Mixes a Diffie–Hellman result in where nothing is encrypted before the next one. */
  mixSecretAlone(secret: Uint8Array): void {
    this.#advance(kdf(1, this.#chain, secret)[0]);
  }

  /** Mixes a Diffie–Hellman result in. @returns a key to encrypt with, which the caller zeroes */
  mixSecret(secret: Uint8Array): Uint8Array {
    const [chain, key] = kdf(2, this.#chain, secret);
    this.#advance(chain);
    return key;
  }

  mixPresharedKey(presharedKey: Uint8Array): Uint8Array {
    const [chain, temporary, key] = kdf(3, this.#chain, presharedKey);
    this.#advance(chain);
    this.mixHash(temporary);
    temporary.fill(0);
    return key;
  }

  seal(key: Uint8Array, plain: Uint8Array): Uint8Array {
    const sealed = aead(key, 0, plain, this.#hash);
    key.fill(0);
    this.mixHash(sealed);
    return sealed;
  }

  open(key: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
    const plain = openAead(key, 0, sealed, this.#hash);
    key.fill(0);
    if (plain !== undefined) this.mixHash(sealed);
    return plain;
  }

  /** The two transport keys, the initiator's first. The transcript is of no use afterwards. */
  split(): [initiators: Uint8Array, responders: Uint8Array] {
    const [first, second] = kdf(2, this.#chain, NOTHING);
    this.zero();
    return [first, second];
  }

  zero(): void {
    this.#chain.fill(0);
    this.#hash.fill(0);
  }

  /** A copy to go on with where the original may be needed again. */
  clone(): Transcript {
    return new Transcript(this.#chain.slice(), this.#hash.slice());
  }
}

/** An initiation that was sent and is waiting for its response. */
export interface PendingInitiation {
  readonly senderIndex: number;
  readonly ephemeral: PrivateKey;
  readonly transcript: Transcript;
}

export function zeroInitiation(pending: PendingInitiation): void {
  pending.ephemeral.zero();
  pending.transcript.zero();
}

/** An initiation that was received and is to be answered at once. */
export interface ReceivedInitiation<P extends RemoteIdentity> {
  readonly peer: P;
  readonly timestamp: Uint8Array;
  readonly remoteIndex: number;
  readonly remoteEphemeral: Uint8Array;
  readonly transcript: Transcript;
}

/** Mixes both agreements of the second message in. @returns false when one of the other end's keys leads to no secret */
function mixAgreements(transcript: Transcript, first: Secret | undefined, second: Secret | undefined): boolean {
  if (first !== undefined && second !== undefined) {
    transcript.mixSecretAlone(first.bytes);
    transcript.mixSecretAlone(second.bytes);
  }
  first?.zero();
  second?.zero();
  return first !== undefined && second !== undefined;
}

/** Mixes an agreement in; undefined when the other end's key is one that leads to no secret. */
function mixAgreement(transcript: Transcript, own: PrivateKey, theirs: Uint8Array): Uint8Array | undefined {
  const secret = own.agree(theirs);
  if (secret === undefined) return undefined;
  const key = transcript.mixSecret(secret.bytes);
  secret.zero();
  return key;
}

/**
 * The first message. @param ephemeral made for this handshake alone, taken over
 *
 * @returns undefined when the peer's public key is one that leads to no secret
 */
export function createInitiation(
  own: PrivateKey,
  peer: RemoteIdentity,
  ephemeral: PrivateKey,
  senderIndex: number,
  timestamp: Uint8Array,
): { readonly message: Uint8Array; readonly pending: PendingInitiation } | undefined {
  const message = new Uint8Array(INITIATION_BYTES);
  message[0] = INITIATION;
  putWord(message, INITIATION_SENDER, senderIndex);
  message.set(ephemeral.publicKey, INITIATION_EPHEMERAL);
  const transcript = Transcript.begin(peer.publicKey);
  transcript.mixEphemeral(ephemeral.publicKey);
  const key = mixAgreement(transcript, ephemeral, peer.publicKey);
  if (key === undefined) return undefined;
  message.set(transcript.seal(key, own.publicKey), INITIATION_STATIC);
  message.set(transcript.seal(transcript.mixSecret(peer.staticSecret.bytes), timestamp), INITIATION_TIMESTAMP);
  return { message, pending: { senderIndex, ephemeral, transcript } };
}

/** Why an initiation is not accepted: a wrong key or tag, or a stranger. */
export type InitiationFault = 'bad_initiation' | 'unknown_peer';

/**
 * Reads the first message. The macs were checked before.
 *
 * @param find the peer of a public key, if it is one of ours
 * @returns what to answer, or the fault. Whether the timestamp is new is for the caller to see
 */
export function consumeInitiation<P extends RemoteIdentity>(
  own: PrivateKey,
  message: Uint8Array,
  find: (publicKey: Uint8Array) => P | undefined,
): ReceivedInitiation<P> | InitiationFault {
  const transcript = Transcript.begin(own.publicKey);
  const remoteEphemeral = message.slice(INITIATION_EPHEMERAL, INITIATION_STATIC);
  transcript.mixEphemeral(remoteEphemeral);
  const refuse = <R>(reason: R): R => {
    transcript.zero();
    return reason;
  };
  const key = mixAgreement(transcript, own, remoteEphemeral);
  if (key === undefined) return refuse('bad_initiation');
  const publicKey = transcript.open(key, message.subarray(INITIATION_STATIC, INITIATION_TIMESTAMP));
  if (publicKey === undefined) return refuse('bad_initiation');
  const peer = find(publicKey);
  if (peer === undefined) return refuse('unknown_peer');
  const timestamp = transcript.open(
    transcript.mixSecret(peer.staticSecret.bytes),
    message.subarray(INITIATION_TIMESTAMP, INITIATION_TIMESTAMP + TAI64N_BYTES + TAG_BYTES),
  );
  if (timestamp === undefined) return refuse('bad_initiation');
  return { peer, timestamp, remoteIndex: word(message, INITIATION_SENDER), remoteEphemeral, transcript };
}

/**
 * Answers an initiation. @param ephemeral made for this handshake alone, taken over and zeroed
 *
 * @returns undefined when the initiator's ephemeral key is one that leads to no secret
 */
export function createResponse(
  received: ReceivedInitiation<RemoteIdentity>,
  ephemeral: PrivateKey,
  senderIndex: number,
): { readonly message: Uint8Array; readonly keys: TransportKeys } | undefined {
  const { transcript, peer } = received;
  const message = new Uint8Array(RESPONSE_BYTES);
  message[0] = RESPONSE;
  putWord(message, RESPONSE_SENDER, senderIndex);
  putWord(message, RESPONSE_RECEIVER, received.remoteIndex);
  message.set(ephemeral.publicKey, RESPONSE_EPHEMERAL);
  transcript.mixEphemeral(ephemeral.publicKey);
  const agreed = mixAgreements(transcript, ephemeral.agree(received.remoteEphemeral), ephemeral.agree(peer.publicKey));
  ephemeral.zero();
  if (!agreed) {
    transcript.zero();
    return undefined;
  }
  const key = transcript.mixPresharedKey(peer.presharedKey.bytes);
  message.set(transcript.seal(key, NOTHING), RESPONSE_EMPTY);
  const [receive, send] = transcript.split();
  return { message, keys: { send: new Secret(send), receive: new Secret(receive) } };
}

/**
 * Reads the second message. A wrong one leaves `pending` as it was, so that the right one is still accepted; after the
 * right one it is zero.
 */
export function consumeResponse(
  own: PrivateKey,
  peer: RemoteIdentity,
  pending: PendingInitiation,
  message: Uint8Array,
): { readonly remoteIndex: number; readonly keys: TransportKeys } | undefined {
  const transcript = pending.transcript.clone();
  const remoteEphemeral = message.slice(RESPONSE_EPHEMERAL, RESPONSE_EMPTY);
  transcript.mixEphemeral(remoteEphemeral);
  const agreed = mixAgreements(transcript, pending.ephemeral.agree(remoteEphemeral), own.agree(remoteEphemeral));
  const empty = agreed
    ? transcript.open(
        transcript.mixPresharedKey(peer.presharedKey.bytes),
        message.subarray(RESPONSE_EMPTY, RESPONSE_EMPTY + TAG_BYTES),
      )
    : undefined;
  if (empty === undefined) {
    transcript.zero();
    return undefined;
  }
  const [send, receive] = transcript.split();
  zeroInitiation(pending);
  return {
    remoteIndex: word(message, RESPONSE_SENDER),
    keys: { send: new Secret(send), receive: new Secret(receive) },
  };
}
