/**
 * Packets that wait for a handshake, on the thread that sends: a few for each peer and not many in all, so that the first
 * packet of a conversation is not lost. Where there is no room the oldest of the same peer makes it, else the newcomer is
 * dropped; both are counted.
 *
 * Nothing is allocated after construction.
 */
import type { Copy } from '../linux/copy.js';
import type { RegionAllocator } from '../linux/memory.js';

/** Packets that wait, for all peers together and for one: as many as the Linux kernel's WireGuard keeps. */
const MOST = 512;
const PER_PEER = 128;
/** Of their buffers. Where packets are long, fewer wait. */
const MOST_BYTES = 2 << 20;

export class StagedPackets {
  readonly #copy: Copy;
  readonly #buffers: number;
  readonly #stride: number;
  readonly #capacity: number;
  /** Buffer numbers: first those that wait, by age, then the free ones. */
  readonly #order = Int32Array.from({ length: MOST }, (_, i) => i);
  readonly #peers = new Int32Array(MOST);
  readonly #lengths = new Int32Array(MOST);
  readonly #stamps = new Int32Array(MOST);
  #count = 0;

  /** Packets that were dropped because others were waiting, or because their peer did not answer. */
  dropped = 0;

  /** @param mtu length of the longest packet; longer ones are dropped */
  constructor(regions: RegionAllocator, copy: Copy, mtu: number) {
    this.#copy = copy;
    this.#stride = Math.ceil(mtu / 64) * 64;
    this.#capacity = Math.min(MOST, Math.floor(MOST_BYTES / this.#stride));
    this.#buffers = regions.take(this.#capacity * this.#stride, 4096);
  }

  get count(): number {
    return this.#count;
  }

  /** Keeps a copy of the packet in two pieces. @param stamp what `discard` asks for */
  add(
    peer: number,
    stamp: number,
    headers: number,
    headerLength: number,
    payload: number,
    payloadLength: number,
  ): void {
    const length = headerLength + payloadLength;
    if (length > this.#stride) return this.#drop();
    let own = 0;
    let oldest = -1;
    for (let i = this.#count - 1; i >= 0; i--) {
      if (this.#peers[this.#order[i]] !== peer) continue;
      own++;
      oldest = i;
    }
    if (own >= PER_PEER || (this.#count === this.#capacity && own > 0)) {
      this.#remove(oldest);
      this.#drop();
    } else if (this.#count === this.#capacity) return this.#drop();
    const buffer = this.#order[this.#count++];
    const at = this.#buffers + buffer * this.#stride;
    this.#copy(at, headers, headerLength);
    if (payloadLength > 0) this.#copy(at + headerLength, payload, payloadLength);
    this.#peers[buffer] = peer;
    this.#lengths[buffer] = length;
    this.#stamps[buffer] = stamp;
  }

  /**
   * Takes out the packets of the peers that are ready, in the order they came.
   *
   * @param send gets each one; the bytes stay until it returns
   */
  release(ready: (peer: number) => boolean, send: (peer: number, at: number, length: number) => void): void {
    for (let i = 0; i < this.#count; ) {
      const buffer = this.#order[i];
      if (!ready(this.#peers[buffer])) {
        i++;
        continue;
      }
      this.#remove(i);
      send(this.#peers[buffer], this.#buffers + buffer * this.#stride, this.#lengths[buffer]);
    }
  }

  /** Drops the packets whose peer did not answer, or is gone: those that were given another stamp than it has now. */
  discard(stampOf: (peer: number) => number): void {
    for (let i = this.#count - 1; i >= 0; i--) {
      const buffer = this.#order[i];
      if (this.#stamps[buffer] === stampOf(this.#peers[buffer])) continue;
      this.#remove(i);
      this.#drop();
    }
  }

  #remove(position: number): void {
    const buffer = this.#order[position];
    this.#order.copyWithin(position, position + 1, this.#count);
    this.#order[--this.#count] = buffer;
  }

  #drop(): void {
    this.dropped++;
  }
}
