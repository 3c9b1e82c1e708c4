/**
 * A WireGuard device without sockets, clock or randomness of its own: messages, the time and random bytes come in,
 * messages and news go out through `DeviceOutput`. Owned by the control thread.
 *
 * Who talks to it: the control thread hands handshake messages from the mailbox to `receive`, and calls `poll` when it
 * was called for ATTENTION_PEERS (`Sealer`, `Opener`), at the time that the last `poll` named, and at least every
 * POLL_INTERVAL, since only a poll sees what the forwarders did. Nothing that `receive` does is due sooner than that.
 * Transport messages never come here.
 */
import { TweedError } from '../base/errors.js';
import type { SharedMemory } from '../linux/memory.js';
import { type Bequest, BequestError } from './bequest.js';
import { INITIATION_INTERVAL, UNDER_LOAD_MESSAGES_PER_SECOND, UNDER_LOAD_TIME } from './constants.js';
import { CookieChecker, type Random } from './cookies.js';
import { DEVICE_DROPS, type DeviceContext, type DeviceDrop, type DeviceOutput, type Now } from './device-context.js';
import type { Endpoint } from './endpoint.js';
import { consumeInitiation } from './handshake.js';
import { KeySlots } from './key-slots.js';
import { type PrivateKey, Secret } from './keys.js';
import {
  COOKIE_REPLY,
  COOKIE_REPLY_RECEIVER,
  INITIATION,
  messageType,
  RESPONSE,
  RESPONSE_RECEIVER,
  word,
} from './messages.js';
import { Peer, type PeerSettings } from './peer.js';
import { PEER_RECEIVED_BYTES, PEER_SENT_BYTES, PeerRecords } from './peer-records.js';
import { AddressLimit } from './rate-limit.js';
import type { Sealer } from './sealer.js';
import { isLater } from './tai64n.js';
import type { TransportLayout } from './transport-layout.js';

/** `poll` is due at least this often, in milliseconds. */
export const POLL_INTERVAL = 250;

export interface DeviceOptions {
  readonly privateKey: PrivateKey;
  readonly memory: SharedMemory;
  readonly layout: TransportLayout;
  /** The control thread's own, for keepalives. */
  readonly sealer: Sealer;
  readonly random: Random;
  readonly output: DeviceOutput;
}

export interface PeerOptions extends PeerSettings {
  /** Of its record, which no other peer has; left out, the device finds one. Only for a peer that is new. */
  readonly number?: number;
  readonly publicKey: Uint8Array;
  /** Copied. */
  readonly presharedKey: Uint8Array | undefined;
}

/** A peer as people see it. */
export interface PeerStatus {
  readonly number: number;
  readonly publicKey: Uint8Array;
  readonly presharedKey: Secret;
  readonly endpoint: Endpoint | undefined;
  /** Milliseconds since the epoch; 0 for never. */
  readonly lastHandshake: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** Milliseconds; 0 for none. */
  readonly persistentKeepalive: number;
  readonly hasSession: boolean;
}

/** A peer that cannot be had. */
export class PeerRefusedError extends TweedError {
  constructor(code: string, message: string) {
    super(code, message);
  }
}

export class Device {
  readonly drops: Record<DeviceDrop, number>;
  readonly #context: DeviceContext;
  readonly #memory: SharedMemory;
  readonly #sealer: Sealer;
  readonly #checker: CookieChecker;
  readonly #limit = new AddressLimit();
  readonly #peers = new Map<number, Peer>();
  readonly #byKey = new Map<string, Peer>();
  readonly #indices = new Map<number, number>();
  /** Numbers given back, oldest first. */
  readonly #resting: number[] = [];
  #fresh = 0;
  #endings = 0;
  #secondBegan = Number.NEGATIVE_INFINITY;
  #messagesInSecond = 0;
  #loadedUntil = Number.NEGATIVE_INFINITY;

  constructor({ privateKey, memory, layout, sealer, random, output }: DeviceOptions) {
    this.drops = Object.fromEntries(DEVICE_DROPS.map((reason) => [reason, 0])) as Record<DeviceDrop, number>;
    this.#memory = memory;
    this.#sealer = sealer;
    this.#checker = new CookieChecker(privateKey.publicKey, random);
    const slots = new KeySlots(memory, layout.keys, random);
    this.#context = {
      privateKey,
      slots,
      records: new PeerRecords(memory, layout.peers),
      bind: (index, peer) => this.#indices.set(index, peer),
      unbind: (index) => {
        this.#indices.delete(index);
        this.#endings++;
      },
      random,
      output,
      sealKeepalive: (peer) => this.#sealKeepalive(peer),
      drop: (reason) => {
        this.drops[reason]++;
      },
    };
  }

  /** How many sessions and handshakes have ended: whenever it grows, forwarders are to forget what keys they hold. */
  get endings(): number {
    return this.#endings;
  }

  get publicKey(): Uint8Array {
    return this.#context.privateKey.publicKey;
  }

  get privateKey(): Secret {
    return this.#context.privateKey.secret;
  }

  /** Is a cookie asked for before a handshake message is looked at any closer? */
  underLoad(now: Now): boolean {
    return now.monotonic < this.#loadedUntil;
  }

  // ---------------------------------------------------------------- peers

  /**
   * Adds a peer, or changes the settings of a known one, whose sessions go on unless its preshared key is another.
   *
   * @returns its number: that of its record, under which the forwarders know it
   * @throws PeerRefusedError
   */
  setPeer(options: PeerOptions, now: Now): number {
    const name = nameOf(options.publicKey);
    const known = this.#byKey.get(name);
    if (known !== undefined) {
      const presharedKey = options.presharedKey ?? Secret.none().bytes;
      if (Buffer.compare(known.presharedKey.bytes, presharedKey) !== 0) {
        known.presharedKey.bytes.set(presharedKey);
        known.forget(now);
      }
      known.change(options, now);
      return known.number;
    }
    const staticSecret = this.#context.privateKey.agree(options.publicKey);
    if (staticSecret === undefined) {
      throw new PeerRefusedError(
        'WIREGUARD_BAD_PEER',
        'a peer has a public key that nobody can have; correct its lease',
      );
    }
    const number = options.number ?? this.#freeNumber();
    if (number === undefined) {
      staticSecret.zero();
      const { capacity } = this.#context.records;
      throw new PeerRefusedError('WIREGUARD_PEERS_FULL', `more than ${capacity} peers; split the network`);
    }
    this.#context.records.clear(number);
    const presharedKey =
      options.presharedKey === undefined ? Secret.none() : new Secret(new Uint8Array(options.presharedKey));
    const peer = new Peer(
      this.#context,
      number,
      new Uint8Array(options.publicKey),
      staticSecret,
      presharedKey,
      options,
      now,
    );
    this.#peers.set(number, peer);
    this.#byKey.set(name, peer);
    return number;
  }

  /** Makes a session with a peer that has none. Unknown numbers are ignored. */
  connect(number: number, now: Now): void {
    this.#peers.get(number)?.connect(now);
  }

  #freeNumber(): number | undefined {
    return this.#fresh < this.#context.records.capacity ? this.#fresh++ : this.#resting.shift();
  }

  /** Takes a peer away with all its keys. Unknown numbers are ignored. */
  removePeer(number: number, now: Now): void {
    const peer = this.#peers.get(number);
    if (peer === undefined) return;
    peer.forget(now);
    peer.staticSecret.zero();
    peer.presharedKey.zero();
    this.#context.records.giveUp(number);
    this.#peers.delete(number);
    this.#byKey.delete(nameOf(peer.publicKey));
    this.#resting.push(number);
  }

  /** What another process can go on with. The forwarders have ended, and `poll` has seen all that they did; `close` is next. */
  bequeath(now: Now): Bequest {
    const peers = [...this.#peers.values()].map((peer) => peer.bequeath(now));
    return { publicKey: this.publicKey, slots: this.#context.slots.count, at: systemTime(), peers };
  }

  /**
   * Goes on with what another process left, for the peers that are known. To be called before anybody sends or receives.
   *
   * @returns the numbers of those that have a session
   * @throws BequestError
   */
  adopt(left: Bequest, now: Now): readonly number[] {
    const { privateKey, slots } = this.#context;
    if (Buffer.compare(left.publicKey, privateKey.publicKey) !== 0) throw new BequestError('this host has another key');
    if (left.slots !== slots.count) throw new BequestError('it had room for another number of them');
    const elapsed = Math.max(0, systemTime() - left.at);
    const adopted: number[] = [];
    for (const each of left.peers) {
      const peer = this.#byKey.get(nameOf(each.publicKey));
      if (peer?.adopt(each, elapsed, now) && peer.hasSession) adopted.push(peer.number);
    }
    return adopted;
  }

  /** Takes every peer away and makes the device's own key unusable. */
  close(now: Now): void {
    for (const number of [...this.#peers.keys()]) this.removePeer(number, now);
    this.#context.privateKey.zero();
    this.#sealer.forget();
  }

  *peers(): Iterable<PeerStatus> {
    const { records } = this.#context;
    for (const peer of this.#peers.values()) {
      yield {
        number: peer.number,
        publicKey: peer.publicKey,
        presharedKey: peer.presharedKey,
        endpoint: peer.endpoint,
        lastHandshake: peer.lastHandshake,
        sentBytes: records.bytes(peer.number, PEER_SENT_BYTES) + peer.handshakeBytesSent,
        receivedBytes: records.bytes(peer.number, PEER_RECEIVED_BYTES) + peer.handshakeBytesReceived,
        persistentKeepalive: peer.persistentKeepalive,
        hasSession: peer.hasSession,
      };
    }
  }

  // ---------------------------------------------------------------- time and messages

  /** Brings every peer up to date. @returns when to come again at the latest, in monotonic milliseconds */
  poll(now: Now): number {
    let next = now.monotonic + POLL_INTERVAL;
    for (const peer of this.#peers.values()) next = Math.min(next, peer.poll(now));
    return next;
  }

  /** Takes in a message of types 1 to 3. What is not accepted is counted in `drops`. */
  receive(message: Uint8Array, from: Endpoint, now: Now): void {
    const reason = this.#receive(message, from, now);
    if (reason !== undefined) this.drops[reason]++;
  }

  #receive(message: Uint8Array, from: Endpoint, now: Now): DeviceDrop | undefined {
    switch (messageType(message)) {
      case INITIATION:
        return this.#refuseEarly(message, from, now) ?? this.#initiation(message, from, now);
      case RESPONSE:
        return this.#refuseEarly(message, from, now) ?? this.#response(message, from, now);
      case COOKIE_REPLY:
        return this.#cookieReply(message, now);
      default:
        return 'not_handshake';
    }
  }

  /** What can be said of a message before it costs a Diffie–Hellman computation. */
  #refuseEarly(message: Uint8Array, from: Endpoint, now: Now): DeviceDrop | undefined {
    if (!this.#checker.hasMac1(message)) return 'bad_mac1';
    this.#measureLoad(now);
    if (!this.underLoad(now)) return undefined;
    if (!this.#checker.hasMac2(message, from, now.monotonic)) {
      this.#context.output.send(this.#checker.reply(message, from, now.monotonic), from);
      return 'cookie_required';
    }
    // whoever has one IPv6 address has the 2⁶⁴ beside it
    const address = from.address.subarray(0, from.address.length === 4 ? 4 : 8).join();
    return this.#limit.take(address, now.monotonic) ? undefined : 'rate_limited';
  }

  #measureLoad(now: Now): void {
    if (now.monotonic - this.#secondBegan >= 1_000) {
      this.#secondBegan = now.monotonic;
      this.#messagesInSecond = 0;
    }
    if (++this.#messagesInSecond > UNDER_LOAD_MESSAGES_PER_SECOND) this.#loadedUntil = now.monotonic + UNDER_LOAD_TIME;
  }

  #initiation(message: Uint8Array, from: Endpoint, now: Now): DeviceDrop | undefined {
    const received = consumeInitiation(this.#context.privateKey, message, (key) => this.#byKey.get(nameOf(key)));
    if (typeof received === 'string') return received;
    const { peer, timestamp } = received;
    const reason = !isLater(timestamp, peer.greatestTimestamp)
      ? 'replayed_initiation'
      : now.monotonic - peer.lastInitiationAt < INITIATION_INTERVAL
        ? 'initiations_too_fast'
        : undefined;
    if (reason !== undefined) {
      received.transcript.zero();
      return reason;
    }
    peer.greatestTimestamp = timestamp;
    peer.lastInitiationAt = now.monotonic;
    peer.handshakeBytesReceived += message.length;
    return peer.respond(received, from, now);
  }

  #response(message: Uint8Array, from: Endpoint, now: Now): DeviceDrop | undefined {
    const index = word(message, RESPONSE_RECEIVER);
    const peer = this.#peerOf(index);
    if (peer === undefined || !peer.isPending(index)) return 'unexpected_response';
    const reason = peer.complete(message, from, now);
    if (reason === undefined) peer.handshakeBytesReceived += message.length;
    return reason;
  }

  #cookieReply(message: Uint8Array, now: Now): DeviceDrop | undefined {
    const peer = this.#peerOf(word(message, COOKIE_REPLY_RECEIVER));
    if (peer === undefined) return 'unexpected_cookie';
    if (!peer.cookies.consumeReply(message, now.monotonic)) return 'bad_cookie';
    peer.handshakeBytesReceived += message.length;
    return undefined;
  }

  #peerOf(index: number): Peer | undefined {
    const number = this.#indices.get(index);
    return number === undefined ? undefined : this.#peers.get(number);
  }

  #sealKeepalive(peer: number): Uint8Array | undefined {
    this.#sealer.reset();
    const length = this.#sealer.seal(peer, 0, 0, 0, 0);
    return length === 0 ? undefined : this.#memory.u8.slice(this.#sealer.at, this.#sealer.at + length);
  }
}

/** Milliseconds of the clock that all processes have in common. */
function systemTime(): number {
  return Number(process.hrtime.bigint() / 1_000n) / 1_000;
}

function nameOf(publicKey: Uint8Array): string {
  return Buffer.from(publicKey.buffer, publicKey.byteOffset, publicKey.byteLength).toString('latin1');
}
