/**
 * A batch whose datagrams are sealed on their way in: what a `DatagramBatch` carries then are WireGuard messages.
 *
 * Theory of operation. A packet is sealed into the sealer's arena as soon as it is added, and the message is handed to the
 * plain batch under it, which makes runs of equal lengths as ever: packets of one length make messages of one length. The
 * arena is used anew whenever nothing waits in the batch. The packets themselves stay where they are until their messages
 * have left, for the one case in which they are looked at again: a datagram that is too long for its path is answered with
 * the headers of the packet, not of the message.
 *
 * A packet whose peer has no session yet is staged until the control thread says, by the thread's eventfd, that there is
 * one or that there will be none.
 */
import { createCopy } from '../../linux/copy.js';
import type { RegionAllocator } from '../../linux/memory.js';
import { PADDING_MULTIPLE } from '../../wireguard/constants.js';
import { MESSAGE_OVERHEAD, type Sealer } from '../../wireguard/sealer.js';
import { StagedPackets } from '../../wireguard/staged-packets.js';
import { SealDrop } from '../../wireguard/transport-drops.js';
import { outerEcn } from '../wire/ecn.js';
import type { ForwarderContext } from './context.js';
import { DatagramBatch, MAX_SEGMENTS, type TooLong } from './datagram-batch.js';
import type { SealingOptions } from './options.js';
import type { Outlet } from './outlet.js';
import { createSealer } from './sealing.js';

/** Where the packets of a turn go. The contracts are those of `DatagramBatch`, which is the plain one. */
export interface OutgoingBatch extends Pick<DatagramBatch, 'begin' | 'reserve' | 'addPacket' | 'addSegment' | 'flush'> {
  readonly empty: boolean;
  /** The thread was woken: the control thread has news of sessions. */
  woken?(): void;
}

export function createBatch(
  context: ForwarderContext,
  regions: RegionAllocator,
  outlet: Outlet,
  tooLong: TooLong,
): OutgoingBatch {
  const { sealing } = context.options;
  return sealing === undefined
    ? new DatagramBatch(context, regions, outlet, tooLong)
    : new SealedBatch(context, regions, outlet, tooLong, sealing);
}

/** Owned by one thread. Nothing is allocated after construction. */
export class SealedBatch implements OutgoingBatch {
  readonly #sealer: Sealer;
  readonly #staged: StagedPackets;
  readonly #batch: DatagramBatch;
  readonly #drops: Float64Array;
  readonly #u8: Uint8Array;
  /** For each message of the run: where it is, and the packet, or its headers, and their length. */
  readonly #messages = new Int32Array(MAX_SEGMENTS);
  readonly #packets = new Int32Array(MAX_SEGMENTS);
  readonly #lengths = new Int32Array(MAX_SEGMENTS);
  #count = 0;
  #peer = 0;
  readonly #isReady = (peer: number) => this.#sealer.ready(peer);
  readonly #attempt = (peer: number) => this.#sealer.failedAttempts(peer);
  readonly #sendStaged = (peer: number, at: number, length: number) => {
    this.reserve(peer, length, outerEcn(this.#u8, at));
    this.addPacket(at, length);
    // its buffer is free again as soon as this returns
    this.flush();
  };

  constructor(
    context: ForwarderContext,
    regions: RegionAllocator,
    outlet: Outlet,
    tooLong: TooLong,
    sealing: SealingOptions,
  ) {
    const { memory } = context;
    this.#sealer = createSealer(context, regions, sealing);
    this.#staged = new StagedPackets(regions, createCopy(memory), sealing.mtu);
    this.#u8 = memory.u8;
    this.#drops = memory.f64.subarray(sealing.layout.sealDrops >>> 3);
    this.#batch = new DatagramBatch(context, regions, outlet, (message, _available, room) => {
      for (let i = 0; i < this.#count; i++) {
        if (this.#messages[i] !== message) continue;
        // what a message adds, and padding that fits as well: to the packet it is as if the path were that much smaller
        const inner = (room - MESSAGE_OVERHEAD) & -PADDING_MULTIPLE;
        tooLong(this.#packets[i], this.#lengths[i], Math.max(0, inner));
      }
    });
  }

  get empty(): boolean {
    return this.#batch.empty;
  }

  begin(): void {
    this.#batch.begin();
  }

  reserve(peer: number, length: number, ecn: number): number {
    this.#peer = peer;
    const headers = this.#batch.reserve(peer, this.#sealer.messageLength(length), ecn);
    if (this.#batch.empty) this.#startRun();
    if (this.#sealer.fits(length)) return headers;
    this.#batch.flush();
    this.#startRun();
    return this.#batch.reserve(peer, this.#sealer.messageLength(length), ecn);
  }

  #startRun(): void {
    this.#count = 0;
    this.#sealer.reset();
  }

  addPacket(at: number, length: number): void {
    this.#add(at, length, 0, 0);
  }

  addSegment(headers: number, headerLength: number, payload: number, payloadLength: number): void {
    this.#add(headers, headerLength, payload, payloadLength);
  }

  flush(): void {
    this.#batch.flush();
  }

  #add(headers: number, headerLength: number, payload: number, payloadLength: number): void {
    const sealer = this.#sealer;
    const peer = this.#peer;
    let length = sealer.seal(peer, headers, headerLength, payload, payloadLength);
    if (length === 0) {
      if (!sealer.ready(peer)) return this.#stage(headers, headerLength, payload, payloadLength);
      // a session may have come, or another taken its place, at this very moment
      length = sealer.seal(peer, headers, headerLength, payload, payloadLength);
      if (length === 0) {
        this.#drops[SealDrop.unsealed]++;
        return;
      }
    }
    this.#messages[this.#count] = sealer.at;
    this.#packets[this.#count] = headers;
    this.#lengths[this.#count] = headerLength;
    this.#count++;
    this.#batch.addPacket(sealer.at, length);
  }

  #stage(headers: number, headerLength: number, payload: number, payloadLength: number): void {
    const peer = this.#peer;
    this.#staged.add(peer, this.#attempt(peer), headers, headerLength, payload, payloadLength);
    this.#drops[SealDrop.handshake_queue] = this.#staged.dropped;
  }

  /** Sends what waited for a session that is there now, and lets go of the key of one that may have ended. */
  woken(): void {
    this.#sealer.forget();
    if (this.#staged.count === 0) return;
    this.#batch.begin();
    // first, since a record may have become another peer's
    this.#staged.discard(this.#attempt);
    this.#staged.release(this.#isReady, this.#sendStaged);
    this.#drops[SealDrop.handshake_queue] = this.#staged.dropped;
  }
}
