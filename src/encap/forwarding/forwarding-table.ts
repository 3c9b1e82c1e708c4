/**
 * The peers in shared memory: where their datagrams go and what was exchanged with them.
 *
 * A peer is one leased subnet. The control thread writes the records and the two prefix tables that lead to them:
 * `subnets` (inner destination → peer) and `senders` (the underlay addresses of all peers). Forwarders read them and bump
 * the counters; they hold a peer's number until the end of their turn at most.
 */

import type { Prefix } from '../../base/ipv4.js';
import { AF_INET } from '../../linux/constants.js';
import type { SharedMemory } from '../../linux/memory.js';
import { putSockaddrIn, SOCKADDR_ADDRESS, SOCKADDR_PORT, toNetworkOrder } from '../../linux/structs.js';
import type { ControlBlock } from './control-block.js';
import type { Layout } from './layout.js';
import { NumberPool } from './number-pool.js';
import {
  PEER_BYTES,
  PEER_LAST_RECEIVED,
  PEER_RX_BYTES,
  PEER_RX_PACKETS,
  PEER_SOCKADDR,
  PEER_TX_BYTES,
  PEER_TX_PACKETS,
} from './peer-record.js';
import { ANYWHERE, PrefixTable } from './prefix-table.js';

export interface Peer {
  readonly subnet: Prefix;
  /** Host order. */
  readonly publicIp: number;
  /** UDP port; the table's own where it is left out. */
  readonly port?: number;
}

/** A peer that there is no room for, and why, in words. */
export interface PeerWithoutRoom extends Peer {
  readonly reason: string;
}

export interface PeerCounters {
  readonly txPackets: number;
  readonly txBytes: number;
  readonly rxPackets: number;
  readonly rxBytes: number;
  readonly lastReceived: number | null;
}

export interface ForwardingTableOptions {
  /** All zeros where the table lies. */
  readonly memory: SharedMemory;
  readonly layout: Layout;
  readonly control: Pick<ControlBlock, 'beat'>;
  /** All subnets lie inside it. */
  readonly network: Prefix;
  /** Of every peer: flannel knows only one for the whole network. */
  readonly port: number;
}

/** The writing side. Owned by the control thread. */
export class ForwardingTable {
  readonly subnets: PrefixTable;
  readonly senders: PrefixTable;
  readonly #memory: SharedMemory;
  readonly #records: number;
  readonly #capacity: number;
  readonly #port: number;
  readonly #numbers: NumberPool;
  readonly #peers = new Map<
    string,
    { readonly number: number; readonly subnet: Prefix; publicIp: number; port: number }
  >();
  /** How many peers live at an address: several leases may name the same host. */
  readonly #leases = new Map<number, number>();
  /** Those of the latest `replaceAll` that there was no room for. */
  refused: readonly PeerWithoutRoom[] = [];

  constructor({ memory, layout, control, network, port }: ForwardingTableOptions) {
    const { peers, subnetNodes, senderNodes } = layout.capacity;
    this.#memory = memory;
    this.#records = layout.peers;
    this.#capacity = peers;
    this.#port = port;
    this.#numbers = new NumberPool(0, peers, control);
    this.subnets = new PrefixTable(memory.i32, layout.subnets >>> 2, subnetNodes, network, control);
    this.senders = new PrefixTable(memory.i32, layout.senders >>> 2, senderNodes, ANYWHERE, control);
  }

  /**
   * These are the peers, all of them. Those that were there before stay as they are, at every moment, and their counters
   * go on; a known one with another public address is moved by one store. Peers without room are left out and tried again
   * by the next call.
   *
   * @param peers no subnet twice
   */
  replaceAll(peers: readonly Peer[]): void {
    const wanted = new Set(peers.map(({ subnet }) => keyOf(subnet)));
    // first, because it makes room
    for (const key of this.#peers.keys()) if (!wanted.has(key)) this.#remove(key);
    const refused: PeerWithoutRoom[] = [];
    for (const peer of peers) {
      const reason = this.#put(peer);
      if (reason !== '') refused.push({ ...peer, reason });
    }
    this.refused = refused;
  }

  /** Adds a peer, or moves a known one. @returns why not, with nothing changed; empty when it is there */
  #put({ subnet, publicIp, port = this.#port }: Peer): string {
    const key = keyOf(subnet);
    const known = this.#peers.get(key);
    if (known?.publicIp === publicIp && known.port === port) return '';
    if (!this.#addSender(publicIp)) return 'no room for its public address: the hosts lie in too many networks';
    if (known !== undefined) {
      this.moveTo(known.number, publicIp, port);
      this.#removeSender(known.publicIp);
      known.publicIp = publicIp;
      known.port = port;
      return '';
    }
    const [number] = this.#numbers.take(1) ?? [];
    if (number === undefined) {
      this.#removeSender(publicIp);
      return `no room for more than ${this.#capacity} peers`;
    }
    const record = this.#records + number * PEER_BYTES;
    this.#memory.u8.fill(0, record, record + PEER_BYTES);
    putSockaddrIn(this.#memory.u8, record + PEER_SOCKADDR, publicIp, port, AF_INET);
    if (!this.subnets.set(subnet, number)) {
      this.#numbers.giveBack(number);
      this.#removeSender(publicIp);
      return 'no room for its subnet: the subnets lie in too many networks';
    }
    this.#peers.set(key, { number, subnet, publicIp, port });
    return '';
  }

  #remove(key: string): void {
    const known = this.#peers.get(key);
    if (known === undefined) return;
    this.#peers.delete(key);
    this.subnets.delete(known.subnet);
    this.#removeSender(known.publicIp);
    this.#numbers.giveBack(known.number);
  }

  get size(): number {
    return this.#peers.size;
  }

  *entries(): Iterable<PeerCounters & Peer> {
    const { f64 } = this.#memory;
    for (const { number, subnet, publicIp } of this.#peers.values()) {
      const record = this.#records + number * PEER_BYTES;
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

  /** The number of the record of a peer's subnet; undefined when it has none. */
  numberOf(subnet: Prefix): number | undefined {
    return this.#peers.get(keyOf(subnet))?.number;
  }

  /**
   * From now on datagrams for the peer go there, until another address or port of it comes by `replaceAll`. The address is
   * one store, so that no datagram goes to a half-written one; the port is one more, only where it changes.
   */
  moveTo(number: number, address: number, port: number): void {
    const { u8, i32 } = this.#memory;
    const at = this.#records + number * PEER_BYTES + PEER_SOCKADDR;
    Atomics.store(i32, (at + SOCKADDR_ADDRESS) >>> 2, toNetworkOrder(address));
    if (((u8[at + SOCKADDR_PORT] << 8) | u8[at + SOCKADDR_PORT + 1]) === port) return;
    const family = i32[at >>> 2] & 0xffff;
    Atomics.store(i32, at >>> 2, ((port & 255) << 24) | ((port >>> 8) << 16) | family | 0);
  }

  #addSender(publicIp: number): boolean {
    const leases = this.#leases.get(publicIp) ?? 0;
    if (leases === 0 && !this.senders.set({ address: publicIp, length: 32 }, 0)) return false;
    this.#leases.set(publicIp, leases + 1);
    return true;
  }

  #removeSender(publicIp: number): void {
    const leases = (this.#leases.get(publicIp) ?? 1) - 1;
    if (leases > 0) {
      this.#leases.set(publicIp, leases);
      return;
    }
    this.#leases.delete(publicIp);
    this.senders.delete({ address: publicIp, length: 32 });
  }
}

function keyOf({ address, length }: Prefix): string {
  return `${address}/${length}`;
}
