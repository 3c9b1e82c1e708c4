/**
 * One peer's part of the state machine: its handshakes, its key pairs and its timers.
 *
 * Theory of operation. Nothing here waits or looks at a clock: `receive…` takes a message in, `poll` says what time it is,
 * and both bring everything up to date. What the forwarders did since the last poll is seen in the peer's record; when a
 * poll finds both sent and received, sending is taken to have come first, as a question comes before its answer: at worst
 * that costs a keepalive that was not needed.
 *
 * An initiation of our own stays valid while we answer one of the peer's, so of two that cross at least one succeeds. When
 * both do, one end renews its session a little later, so that they do not cross for ever.
 */
import type { PeerBequest } from './bequest.js';
import {
  KEEPALIVE_TIMEOUT,
  REJECT_AFTER_TIME,
  REKEY_AFTER_MESSAGES,
  REKEY_ATTEMPT_TIME,
  REKEY_TIMEOUT,
  REKEY_TIMEOUT_JITTER,
  ZERO_KEYS_AFTER_TIME,
} from './constants.js';
import { CookieKeeper } from './cookies.js';
import type { DeviceContext, DeviceDrop, Now } from './device-context.js';
import { type Endpoint, sameEndpoint } from './endpoint.js';
import {
  consumeResponse,
  createInitiation,
  createResponse,
  type PendingInitiation,
  type ReceivedInitiation,
  type RemoteIdentity,
  zeroInitiation,
} from './handshake.js';
import { Keypairs } from './keypairs.js';
import { KEY_BYTES, PrivateKey, type Secret } from './keys.js';
import { PEER_DATA_RECEIVED, PEER_DATA_SENT, PEER_KEEPALIVES_RECEIVED, PEER_KEY_WANTED } from './peer-records.js';
import { hash } from './primitives.js';
import { TAI64N_BYTES, Timestamps } from './tai64n.js';

const NEVER = Number.POSITIVE_INFINITY;
const PRESHARED_LABEL = Buffer.from('tweed: preshared key');

/** What may be changed about a peer while it lives. */
export interface PeerSettings {
  readonly endpoint: Endpoint | undefined;
  /** Milliseconds; 0 for none. */
  readonly persistentKeepalive: number;
}

export class Peer implements RemoteIdentity {
  endpoint: Endpoint | undefined;
  /** By its settings. */
  #settled: Endpoint | undefined;
  persistentKeepalive: number;
  /** When the last handshake was completed, in milliseconds since the epoch; 0 for never. */
  lastHandshake = 0;
  /** Bytes of handshake messages, which the records do not count. */
  handshakeBytesSent = 0;
  handshakeBytesReceived = 0;

  readonly cookies: CookieKeeper;
  readonly #context: DeviceContext;
  readonly #timestamps = new Timestamps();
  greatestTimestamp: Uint8Array = new Uint8Array(TAI64N_BYTES);
  lastInitiationAt = Number.NEGATIVE_INFINITY;

  #pending: PendingInitiation | undefined;
  readonly #keypairs: Keypairs;

  #lastHandshakeSentAt = Number.NEGATIVE_INFINITY;
  #attemptBegan = 0;
  #needsAnotherKeepalive = false;
  #sentLastMinuteHandshake = false;

  #retransmitAt = NEVER;
  #keepaliveAt = NEVER;
  #newHandshakeAt = NEVER;
  #persistentAt = NEVER;
  #zeroAt = NEVER;

  #dataSent = 0;
  #dataReceived = 0;
  #keepalivesReceived = 0;
  #keyWanted = 0;
  #seenVersion = 0;

  constructor(
    context: DeviceContext,
    readonly number: number,
    readonly publicKey: Uint8Array,
    readonly staticSecret: Secret,
    readonly presharedKey: Secret,
    settings: PeerSettings,
    now: Now,
  ) {
    this.#context = context;
    this.#keypairs = new Keypairs(context, number);
    this.cookies = new CookieKeeper(publicKey);
    this.endpoint = settings.endpoint;
    this.#settled = settings.endpoint;
    this.persistentKeepalive = settings.persistentKeepalive;
    if (settings.persistentKeepalive > 0) this.#persistentAt = now.monotonic;
  }

  /** A new endpoint takes effect at once, and wins over one that the peer roamed to until it speaks from there again. */
  change(settings: PeerSettings, now: Now): void {
    if (settings.endpoint !== undefined) {
      this.endpoint = settings.endpoint;
      this.#settled = settings.endpoint;
      this.#context.records.askForEndpoint(this.number);
    }
    if (settings.persistentKeepalive !== this.persistentKeepalive) {
      this.persistentKeepalive = settings.persistentKeepalive;
      this.#persistentAt = settings.persistentKeepalive > 0 ? now.monotonic : NEVER;
    }
  }

  /** Makes a session now, though there is nothing to send yet. */
  connect(now: Now): void {
    if (!this.hasSession) this.#startHandshake(false, now);
  }

  /** Does the index stand for the initiation that is waiting for its response? */
  isPending(index: number): boolean {
    return this.#pending?.senderIndex === index;
  }

  get hasSession(): boolean {
    return this.#keypairs.current !== undefined;
  }

  // ---------------------------------------------------------------- handshakes

  /** Answers an initiation that was found good and new. */
  respond(received: ReceivedInitiation<Peer>, from: Endpoint, now: Now): DeviceDrop | undefined {
    const context = this.#context;
    const index = this.#keypairs.reserve(now);
    if (index === undefined) {
      received.transcript.zero();
      return 'no_slots';
    }
    const ephemeral = new PrivateKey(context.random(KEY_BYTES));
    const response = createResponse(received, ephemeral, index);
    if (response === undefined) {
      this.#keypairs.giveBack(index, now);
      return 'bad_initiation';
    }
    this.#keypairs.answered(index, received.remoteIndex, response.keys, now);
    this.#zeroAt = now.monotonic + ZERO_KEYS_AFTER_TIME;
    this.#moveTo(from);
    this.#anythingReceived(now);
    this.#anythingSent(now);
    this.#send(response.message, now);
    return undefined;
  }

  /** Completes our handshake, if the response belongs to it. */
  complete(message: Uint8Array, from: Endpoint, now: Now): DeviceDrop | undefined {
    const pending = this.#pending;
    if (pending === undefined) return 'unexpected_response';
    const session = consumeResponse(this.#context.privateKey, this, pending, message);
    if (session === undefined) return 'bad_response';
    this.#pending = undefined;
    const crossed =
      this.#keypairs.next !== undefined && Buffer.compare(this.#context.privateKey.publicKey, this.publicKey) > 0;
    const patience = crossed ? REKEY_TIMEOUT : 0;
    this.#keypairs.initiated(pending.senderIndex, session.remoteIndex, session.keys, now, patience);
    this.#zeroAt = now.monotonic + ZERO_KEYS_AFTER_TIME;
    this.#moveTo(from);
    this.#anythingReceived(now);
    this.#established(now);
    // the responder may not send before something came under the new key
    this.#sendKeepalive(now);
    return undefined;
  }

  /** Sends an initiation, but not sooner than REKEY_TIMEOUT after the last message of a handshake. */
  #startHandshake(retry: boolean, now: Now): void {
    if (!retry) this.#attemptBegan = now.monotonic;
    if (now.monotonic - this.#lastHandshakeSentAt < REKEY_TIMEOUT) {
      const soonest = this.#lastHandshakeSentAt + REKEY_TIMEOUT;
      if (this.#retransmitAt === NEVER || this.#retransmitAt < soonest) this.#retransmitAt = soonest;
      return;
    }
    this.#retransmitAt = now.monotonic + REKEY_TIMEOUT + this.#jitter();
    this.#dropPending(now);
    if (this.endpoint === undefined) return this.#context.drop('no_endpoint');
    const context = this.#context;
    const index = this.#keypairs.reserve(now);
    if (index === undefined) return context.drop('no_slots');
    const ephemeral = new PrivateKey(context.random(KEY_BYTES));
    const timestamp = this.#timestamps.next(now.wall);
    const initiation = createInitiation(context.privateKey, this, ephemeral, index, timestamp);
    if (initiation === undefined) return this.#keypairs.giveBack(index, now);
    this.#pending = initiation.pending;
    this.#anythingSent(now);
    this.#send(initiation.message, now);
  }

  #send(message: Uint8Array, now: Now): void {
    this.cookies.addMacs(message, now.monotonic);
    this.#lastHandshakeSentAt = now.monotonic;
    this.handshakeBytesSent += message.length;
    if (this.endpoint !== undefined) this.#context.output.send(message, this.endpoint);
  }

  /** A handshake is complete: packets leave under its keys. */
  #established(now: Now): void {
    this.#retransmitAt = NEVER;
    this.#sentLastMinuteHandshake = false;
    this.lastHandshake = now.wall;
    this.#context.output.ready(this.number);
  }

  #dropPending(now: Now): void {
    if (this.#pending === undefined) return;
    zeroInitiation(this.#pending);
    this.#keypairs.giveBack(this.#pending.senderIndex, now);
    this.#pending = undefined;
  }

  /** Forgets every key. The peer may start anew afterwards. */
  forget(now: Now): void {
    this.#dropPending(now);
    this.#keypairs.forget(now);
    this.#zeroAt = NEVER;
  }

  // ---------------------------------------------------------------- from process to process

  /** What another process can go on with. The last poll has seen all that the forwarders did. */
  bequeath(now: Now): PeerBequest {
    const inTime = (at: number) => at - now.monotonic;
    return {
      publicKey: this.publicKey,
      presharedHash: this.#presharedHash(),
      settled: this.#settled,
      endpoint: this.endpoint,
      greatestTimestamp: this.greatestTimestamp,
      lastHandshake: this.lastHandshake,
      timers: {
        keepalive: inTime(this.#keepaliveAt),
        newHandshake: inTime(this.#newHandshakeAt),
        zero: inTime(this.#zeroAt),
      },
      needsAnotherKeepalive: this.#needsAnotherKeepalive,
      sentLastMinuteHandshake: this.#sentLastMinuteHandshake,
      asked: this.#retransmitAt !== NEVER,
      keypairs: this.#keypairs.bequeath(now),
    };
  }

  /**
   * Goes on with what another process left, that long ago. To be called on one that is new.
   *
   * @returns false when it was left by one that had another preshared key
   */
  adopt(left: PeerBequest, elapsed: number, now: Now): boolean {
    if (Buffer.compare(left.presharedHash, this.#presharedHash()) !== 0) return false;
    const at = (inTime: number) => now.monotonic + inTime - elapsed;
    this.#keypairs.adopt(left.keypairs, elapsed, now);
    this.greatestTimestamp = left.greatestTimestamp;
    this.lastHandshake = left.lastHandshake;
    this.#keepaliveAt = at(left.timers.keepalive);
    this.#newHandshakeAt = at(left.timers.newHandshake);
    this.#zeroAt = at(left.timers.zero);
    this.#needsAnotherKeepalive = left.needsAnotherKeepalive;
    this.#sentLastMinuteHandshake = left.sentLastMinuteHandshake;
    // where its settings are others by now, they win
    if (left.endpoint !== undefined && sameEndpoint(left.settled, this.#settled)) this.#moveTo(left.endpoint);
    // the answer to what the other process asked would be no answer to us
    if (left.asked) this.#attemptBegan = this.#retransmitAt = now.monotonic;
    return true;
  }

  #presharedHash(): Uint8Array {
    return hash(PRESHARED_LABEL, this.presharedKey.bytes);
  }

  // ---------------------------------------------------------------- timers

  /** Brings everything up to date. @returns when to come again at the latest, in monotonic milliseconds */
  poll(now: Now): number {
    if (this.#keypairs.confirm(now)) {
      this.#dropPending(now);
      this.#established(now);
    }
    this.#keypairs.expire(now);
    this.#seePackets(now);
    this.#runTimers(now);
    const timers = [this.#retransmitAt, this.#keepaliveAt, this.#newHandshakeAt, this.#persistentAt, this.#zeroAt];
    return Math.min(this.#keypairs.expiry, ...timers);
  }

  /** What the forwarders did since the last poll. */
  #seePackets(now: Now): void {
    const { records } = this.#context;
    const seen = records.seenSince(this.number, this.#seenVersion);
    if (seen !== undefined) {
      this.#seenVersion = seen.version;
      this.#moveTo(seen.endpoint);
    }
    const sent = records.count(this.number, PEER_DATA_SENT);
    const received = records.count(this.number, PEER_DATA_RECEIVED);
    const keepalives = records.count(this.number, PEER_KEEPALIVES_RECEIVED);
    const wanted = records.count(this.number, PEER_KEY_WANTED);
    if (sent !== this.#dataSent) this.#sawSent(now);
    if (received !== this.#dataReceived) this.#sawReceived(now);
    else if (keepalives !== this.#keepalivesReceived) this.#anythingReceived(now);
    if (wanted !== this.#keyWanted) this.#startHandshake(false, now);
    this.#dataSent = sent;
    this.#dataReceived = received;
    this.#keepalivesReceived = keepalives;
    this.#keyWanted = wanted;
  }

  #sawSent(now: Now): void {
    this.#anythingSent(now);
    if (this.#newHandshakeAt === NEVER) {
      this.#newHandshakeAt = now.monotonic + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + this.#jitter();
    }
    this.#refreshAfterSending(now);
  }

  #sawReceived(now: Now): void {
    this.#anythingReceived(now);
    if (this.#keepaliveAt === NEVER) this.#keepaliveAt = now.monotonic + KEEPALIVE_TIMEOUT;
    else this.#needsAnotherKeepalive = true;
    const { current } = this.#keypairs;
    const lastMinute = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT;
    if (this.#sentLastMinuteHandshake || current === undefined || !current.initiator) return;
    if (now.monotonic - current.createdAt < lastMinute) return;
    this.#sentLastMinuteHandshake = true;
    this.#startHandshake(false, now);
  }

  #refreshAfterSending(now: Now): void {
    const { current } = this.#keypairs;
    if (current === undefined || this.#retransmitAt !== NEVER) return;
    const old = current.initiator && now.monotonic >= current.renewAt;
    if (old || this.#context.slots.sent(current.index) >= REKEY_AFTER_MESSAGES) this.#startHandshake(false, now);
  }

  #anythingSent(now: Now): void {
    this.#keepaliveAt = NEVER;
    this.#needsAnotherKeepalive = false;
    this.#anythingPassed(now);
  }

  #anythingReceived(now: Now): void {
    this.#newHandshakeAt = NEVER;
    this.#anythingPassed(now);
  }

  #anythingPassed(now: Now): void {
    if (this.persistentKeepalive > 0) this.#persistentAt = now.monotonic + this.persistentKeepalive;
  }

  #runTimers(now: Now): void {
    const time = now.monotonic;
    if (time >= this.#retransmitAt) this.#retransmit(now);
    if (time >= this.#newHandshakeAt) {
      this.#newHandshakeAt = NEVER;
      this.#startHandshake(false, now);
    }
    if (time >= this.#keepaliveAt) {
      this.#keepaliveAt = NEVER;
      const another = this.#needsAnotherKeepalive;
      this.#sendKeepalive(now);
      if (another) this.#keepaliveAt = time + KEEPALIVE_TIMEOUT;
    }
    if (time >= this.#persistentAt) {
      this.#persistentAt = time + this.persistentKeepalive;
      this.#sendKeepalive(now);
    }
    if (time >= this.#zeroAt) this.forget(now);
  }

  #retransmit(now: Now): void {
    if (now.monotonic - this.#attemptBegan < REKEY_ATTEMPT_TIME) return this.#startHandshake(true, now);
    this.#retransmitAt = NEVER;
    this.#keepaliveAt = NEVER;
    this.#dropPending(now);
    this.#context.records.giveUp(this.number);
    this.#context.output.unreachable(this.number);
  }

  /** An empty message under the present key; without one, a handshake, after which one follows anyway. */
  #sendKeepalive(now: Now): void {
    const message = this.hasSession ? this.#context.sealKeepalive(this.number) : undefined;
    if (message === undefined) {
      if (this.#retransmitAt === NEVER) this.#startHandshake(false, now);
      return;
    }
    this.#anythingSent(now);
    if (this.endpoint !== undefined) this.#context.output.send(message, this.endpoint);
    this.#refreshAfterSending(now);
  }

  #moveTo(endpoint: Endpoint): void {
    if (sameEndpoint(endpoint, this.endpoint)) return;
    this.endpoint = endpoint;
    this.#context.output.moved(this.number, endpoint);
  }

  #jitter(): number {
    const [low, high] = this.#context.random(2);
    return ((low | (high << 8)) / 65_536) * REKEY_TIMEOUT_JITTER;
  }
}
