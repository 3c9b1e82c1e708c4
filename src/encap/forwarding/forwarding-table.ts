/**
 * The peers in shared memory: where their datagrams go and what was exchanged with them.
 *
 * A peer is one leased subnet. The control thread writes the records and the two prefix tables that lead to them:
 * `subnets` (inner destination → peer) and `senders` (underlay address → how many peers live there). Forwarders read
 * them and bump the counters; they hold a peer's number for one batch at most.
 */

import { TweedError } from '../../base/errors.js';
import type { Prefix } from '../../base/ipv4.js';
import { AF_INET } from '../../linux/constants.js';
import type { SharedMemory } from '../../linux/memory.js';
import { putSockaddrIn, SOCKADDR_ADDRESS, toNetworkOrder } from '../../linux/structs.js';
import type { PrefixTable } from './prefix-table.js';

/** One record: two cache lines, the first written by the TUN → UDP forwarder, the second by the other one. */
export const PEER_BYTES = 128;
export const PEER_SOCKADDR = 0;
export const PEER_TX_PACKETS = 16;
export const PEER_TX_BYTES = 24;
export const PEER_RX_PACKETS = 64;
export const PEER_RX_BYTES = 72;
/** Milliseconds since the epoch when something last came from it; 0 for never. */
export const PEER_LAST_RECEIVED = 80;

export class PeersFullError extends TweedError {
  constructor(capacity: number) {
    super('PEERS_FULL', `more than ${capacity} peers; split the network`);
  }
}

export interface PeerCounters {
  readonly txPackets: number;
  readonly txBytes: number;
  readonly rxPackets: number;
  readonly rxBytes: number;
  readonly lastReceived: number | null;
}

/** The writing side. Owned by the control thread. */
export class PeerTable {
  /** Numbers given back, oldest first: a number rests as long as possible before another peer gets it. */
  readonly #resting: number[] = [];
  readonly #bySubnet = new Map<string, { index: number; subnet: Prefix; publicIp: number }>();
  readonly #senders = new Map<number, number>();
  #fresh = 0;

  /**
   * @param records offset of `capacity` records
   * @param port of every peer: flannel knows only one for the whole network
   */
  constructor(
    readonly memory: SharedMemory,
    readonly records: number,
    readonly capacity: number,
    readonly port: number,
    readonly subnets: PrefixTable,
    readonly senders: PrefixTable,
  ) {}

  /** Adds a peer, or moves a known one to another public address; its counters go on. Takes effect at once. */
  set(subnet: Prefix, publicIp: number): void {
    const key = `${subnet.address}/${subnet.length}`;
    const known = this.#bySubnet.get(key);
    if (known?.publicIp === publicIp) return;
    this.#addSender(publicIp);
    if (known !== undefined) {
      this.#moveTo(known.index, publicIp);
      this.#removeSender(known.publicIp);
      known.publicIp = publicIp;
      return;
    }
    const index = this.#fresh < this.capacity ? this.#fresh++ : this.#resting.shift();
    if (index === undefined) {
      this.#removeSender(publicIp);
      throw new PeersFullError(this.capacity);
    }
    const record = this.records + index * PEER_BYTES;
    this.memory.u8.fill(0, record, record + PEER_BYTES);
    putSockaddrIn(this.memory.u8, record + PEER_SOCKADDR, publicIp, this.port, AF_INET);
    try {
      this.subnets.set(subnet, index);
    } catch (error) {
      this.#resting.push(index);
      this.#removeSender(publicIp);
      throw error;
    }
    this.#bySubnet.set(key, { index, subnet, publicIp });
  }

  delete(subnet: Prefix): void {
    const key = `${subnet.address}/${subnet.length}`;
    const known = this.#bySubnet.get(key);
    if (known === undefined) return;
    this.#bySubnet.delete(key);
    this.subnets.delete(subnet);
    this.#removeSender(known.publicIp);
    this.#resting.push(known.index);
  }

  get size(): number {
    return this.#bySubnet.size;
  }

  *entries(): Iterable<PeerCounters & { readonly subnet: Prefix; readonly publicIp: number }> {
    const { f64 } = this.memory;
    for (const { index, subnet, publicIp } of this.#bySubnet.values()) {
      const record = this.records + index * PEER_BYTES;
      yield {
        subnet,
        publicIp,
        txPackets: f64[(record + PEER_TX_PACKETS) >>> 3],
        txBytes: f64[(record + PEER_TX_BYTES) >>> 3],
        rxPackets: f64[(record + PEER_RX_PACKETS) >>> 3],
        rxBytes: f64[(record + PEER_RX_BYTES) >>> 3],
        lastReceived: f64[(record + PEER_LAST_RECEIVED) >>> 3] || null,
      };
    }
  }

  /** One store, so that no datagram goes to a half-written address. */
  #moveTo(index: number, publicIp: number): void {
    const word = (this.records + index * PEER_BYTES + PEER_SOCKADDR + SOCKADDR_ADDRESS) >>> 2;
    Atomics.store(this.memory.i32, word, toNetworkOrder(publicIp));
  }

  /** Several leases may name the same host, so its address leaves only with the last of them. */
  #addSender(publicIp: number): void {
    const leases = (this.#senders.get(publicIp) ?? 0) + 1;
    this.senders.set({ address: publicIp, length: 32 }, 0);
    this.#senders.set(publicIp, leases);
  }

  #removeSender(publicIp: number): void {
    const leases = (this.#senders.get(publicIp) ?? 1) - 1;
    if (leases > 0) {
      this.#senders.set(publicIp, leases);
      return;
    }
    this.#senders.delete(publicIp);
    this.senders.delete({ address: publicIp, length: 32 });
  }
}
