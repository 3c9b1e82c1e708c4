/**
 * The peers in shared memory: where their datagrams go and what was exchanged with them.
 *
 * A peer is one lease: a subnet of one family or of both, and where its host is. The control thread writes the records and
 * the tables that lead to them: the prefix tables `subnets` and `subnetsV6` (inner destination → peer), `senders` and the
 * `SenderSet` (the underlay addresses of all peers). Forwarders read them and bump the counters; they hold a peer's number
 * until the end of their turn at most.
 *
 * Datagrams go to a peer by IPv4 where both hosts have it, else by IPv6. They are taken from both of its addresses: the two
 * sides learn of a change at different times, and in between each goes on by what it knows.
 */

import { type Address, type AnyPrefix, familyOf, formatAnyPrefix } from '../../base/address.js';
import type { Prefix } from '../../base/ipv4.js';
import type { Ipv6Prefix } from '../../base/ipv6.js';
import { AF_INET, AF_INET6 } from '../../linux/constants.js';
import type { SharedMemory } from '../../linux/memory.js';
import { putIpv6, putSockaddrIn, putSockaddrIn6, SOCKADDR_ADDRESS, toNetworkOrder } from '../../linux/structs.js';
import type { ControlBlock } from './control-block.js';
import type { Layout, OverlayNetworks } from './layout.js';
import { NumberPool } from './number-pool.js';
import {
  ENDPOINT_V6_BYTES,
  PEER_BYTES,
  PEER_ENDPOINT_V6,
  PEER_IPV6,
  PEER_LAST_RECEIVED,
  PEER_RX_BYTES,
  PEER_RX_PACKETS,
  PEER_SOCKADDR,
  PEER_TX_BYTES,
  PEER_TX_PACKETS,
} from './peer-record.js';
import { ANYWHERE, ANYWHERE_V6, PrefixTable } from './prefix-table.js';
import { SenderSet } from './sender-set.js';

/** One lease of another host; it has a subnet of at least one family. */
export interface Peer {
  readonly subnet: Prefix | null;
  readonly subnetV6?: Ipv6Prefix | null;
  /** Host order; 0 for a host without IPv4. */
  readonly publicIp: number;
  readonly publicIpv6?: bigint | null;
  /** UDP port; the table's own where it is left out. */
  readonly port?: number;
}

/** A peer that there is no room for, or no way to, and why, in words. */
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

/** A peer that is in the table, and the number of its record. */
export interface PeerEntry extends PeerCounters, Required<Omit<Peer, 'port'>> {
  readonly number: number;
}

/** What this host has sockets of. */
export interface UnderlayFamilies {
  readonly ipv4: boolean;
  readonly ipv6: boolean;
}
export const IPV4_UNDERLAY: UnderlayFamilies = { ipv4: true, ipv6: false };

export interface ForwardingTableOptions {
  /** All zeros where the table lies. */
  readonly memory: SharedMemory;
  readonly layout: Layout;
  readonly control: Pick<ControlBlock, 'beat'>;
  /** All subnets lie inside them. */
  readonly networks: OverlayNetworks;
  readonly underlay?: UnderlayFamilies;
  /** Of every peer: flannel knows only one for the whole network. */
  readonly port: number;
}

/** A peer as it is in the table. */
interface Known {
  readonly number: number;
  subnet: Prefix | null;
  subnetV6: Ipv6Prefix | null;
  publicIp: number;
  publicIpv6: bigint | null;
  port: number;
}

/** The writing side. Owned by the control thread. */
export class ForwardingTable {
  readonly subnets: PrefixTable;
  readonly subnetsV6: PrefixTable;
  readonly senders: PrefixTable;
  readonly #sendersV6: SenderSet;
  readonly #memory: SharedMemory;
  readonly #records: number;
  readonly #endpoints: number;
  readonly #capacity: number;
  readonly #underlay: UnderlayFamilies;
  readonly #port: number;
  readonly #numbers: NumberPool;
  readonly #endpointNumbers: NumberPool;
  readonly #peers = new Map<string, Known>();
  /** How many peers live at an IPv4 address, and which at an IPv6 one: several leases may name the same host. */
  readonly #leases = new Map<number, number>();
  readonly #leasesV6 = new Map<bigint, Set<number>>();
  /** Whose an IPv6 subnet is: a peer that has another one of IPv4 may claim it too. */
  readonly #ownersV6 = new Map<string, number>();
  /** Those of the latest `replaceAll` that there was no room for. */
  refused: readonly PeerWithoutRoom[] = [];

  constructor({ memory, layout, control, networks, underlay = IPV4_UNDERLAY, port }: ForwardingTableOptions) {
    const { peers, subnetNodes, senderNodes } = layout.capacity;
    const { i32 } = memory;
    this.#memory = memory;
    this.#records = layout.peers;
    this.#endpoints = layout.endpointsV6;
    this.#capacity = peers;
    this.#underlay = underlay;
    this.#port = port;
    this.#numbers = new NumberPool(0, peers, control);
    this.#endpointNumbers = new NumberPool(0, layout.endpointCountV6, control);
    const table = (at: number, nodes: number, network: AnyPrefix) =>
      new PrefixTable(i32, at >>> 2, nodes, network, control);
    this.subnets = table(layout.subnets, subnetNodes, networks.ipv4 ?? ANYWHERE);
    this.subnetsV6 = table(layout.subnetsV6, subnetNodes, networks.ipv6 ?? ANYWHERE_V6);
    this.senders = table(layout.senders, senderNodes, ANYWHERE);
    this.#sendersV6 = new SenderSet(i32, layout.sendersV6 >>> 2, layout.senderEntriesV6, layout.peers);
  }

  /**
   * These are the peers, all of them. Those that were there before stay as they are, at every moment, and their counters
   * go on; a known one with another public address is moved by one store. Peers without room are left out and tried again
   * by the next call.
   *
   * @param peers no subnet twice
   */
  replaceAll(peers: readonly Peer[]): void {
    const wanted = new Map(peers.map((peer) => [peerName(peer), peer]));
    // first, because it makes room
    for (const [key, known] of this.#peers) {
      const peer = wanted.get(key);
      if (peer === undefined || this.#wayTo(peer) === null) this.#remove(key);
      else if (!samePrefixes(known.subnetV6, peer.subnetV6 ?? null)) this.#removeSubnetV6(known);
    }
    const refused: PeerWithoutRoom[] = [];
    for (const peer of peers) {
      const reason = this.#put(peer);
      if (reason !== '') refused.push({ ...peer, reason });
    }
    this.refused = refused;
  }

  /** Adds a peer, or changes a known one. @returns what cannot be had and why; empty when all of it is there */
  #put(peer: Peer): string {
    const key = peerName(peer);
    const { publicIp, publicIpv6 = null, port = this.#port } = peer;
    const way = this.#wayTo(peer);
    if (way === null) return 'it has no public address of a family that this host has, too';
    const known = this.#peers.get(key);
    const moved = known?.publicIp !== publicIp || known.port !== port || known.publicIpv6 !== publicIpv6;
    if (moved) {
      const reason = known === undefined ? this.#add(key, peer, way) : this.#move(known, peer, way);
      if (reason !== '') return reason;
    }
    return this.#putSubnetV6(this.#peers.get(key) as Known, peer.subnetV6 ?? null);
  }

  /** IPv4 where both have it: it is the way that a flannel-like host has, too, and adds twenty bytes less. */
  #wayTo({ publicIp, publicIpv6 = null }: Peer): Address | null {
    if (this.#underlay.ipv4 && publicIp !== 0) return publicIp;
    return this.#underlay.ipv6 ? publicIpv6 : null;
  }

  /** @returns why not, with nothing changed; empty when it is there */
  #add(key: string, { subnet, publicIp, publicIpv6 = null, port = this.#port }: Peer, way: Address): string {
    if (!this.#addSender(publicIp)) return NO_ROOM_FOR_ADDRESS;
    const [number] = this.#numbers.take(1) ?? [];
    if (number === undefined) {
      this.#removeSender(publicIp);
      return `no room for more than ${this.#capacity} peers`;
    }
    const { u8 } = this.#memory;
    const record = this.#records + number * PEER_BYTES;
    u8.fill(0, record, record + PEER_BYTES);
    if (publicIp !== 0) putSockaddrIn(u8, record + PEER_SOCKADDR, publicIp, port, AF_INET);
    const reason = !this.moveTo(number, way, port)
      ? NO_ROOM_FOR_ADDRESS
      : subnet !== null && !this.subnets.set(subnet, number)
        ? NO_ROOM_FOR_SUBNET
        : '';
    if (reason !== '') {
      this.#freeEndpoint(number);
      this.#numbers.giveBack(number);
      this.#removeSender(publicIp);
      return reason;
    }
    this.#setSenderV6(number, null, publicIpv6);
    this.#peers.set(key, { number, subnet, subnetV6: null, publicIp, publicIpv6, port });
    return '';
  }

  /** @returns why not, with nothing changed; empty when it is there */
  #move(known: Known, { publicIp, publicIpv6 = null, port = this.#port }: Peer, way: Address): string {
    const { number } = known;
    if (!this.#addSender(publicIp)) return NO_ROOM_FOR_ADDRESS;
    if (!this.moveTo(number, way, port)) {
      this.#removeSender(publicIp);
      return NO_ROOM_FOR_ADDRESS;
    }
    // what comes from its IPv4 address is taken, too, where datagrams for it go by IPv6
    if (familyOf(way) === 6) this.#putSockaddr(number, publicIp, publicIp === 0 ? 0 : port);
    this.#setSenderV6(number, known.publicIpv6, publicIpv6);
    this.#removeSender(known.publicIp);
    known.publicIp = publicIp;
    known.publicIpv6 = publicIpv6;
    known.port = port;
    return '';
  }

  #putSubnetV6(known: Known, subnet: Ipv6Prefix | null): string {
    if (subnet === null || known.subnetV6 !== null) return '';
    const name = formatAnyPrefix(subnet);
    if (this.#ownersV6.has(name)) return `its subnet ${name} is another peer’s`;
    if (!this.subnetsV6.set(subnet, known.number)) return NO_ROOM_FOR_SUBNET;
    this.#ownersV6.set(name, known.number);
    known.subnetV6 = subnet;
    return '';
  }

  #removeSubnetV6(known: Known): void {
    if (known.subnetV6 === null) return;
    this.subnetsV6.delete(known.subnetV6);
    this.#ownersV6.delete(formatAnyPrefix(known.subnetV6));
    known.subnetV6 = null;
  }

  #remove(key: string): void {
    const known = this.#peers.get(key);
    if (known === undefined) return;
    this.#peers.delete(key);
    if (known.subnet !== null) this.subnets.delete(known.subnet);
    this.#removeSubnetV6(known);
    this.#removeSender(known.publicIp);
    this.#setSenderV6(known.number, known.publicIpv6, null);
    this.#freeEndpoint(known.number);
    this.#numbers.giveBack(known.number);
  }

  get size(): number {
    return this.#peers.size;
  }

  *entries(): Iterable<PeerEntry> {
    const { f64 } = this.#memory;
    for (const { number, subnet, subnetV6, publicIp, publicIpv6 } of this.#peers.values()) {
      const record = this.#records + number * PEER_BYTES;
      yield {
        number,
        subnet,
        subnetV6,
        publicIp,
        publicIpv6,
        txPackets: f64[(record + PEER_TX_PACKETS) >>> 3],
        txBytes: f64[(record + PEER_TX_BYTES) >>> 3],
        rxPackets: f64[(record + PEER_RX_PACKETS) >>> 3],
        rxBytes: f64[(record + PEER_RX_BYTES) >>> 3],
        lastReceived: f64[(record + PEER_LAST_RECEIVED) >>> 3] || null,
      };
    }
  }

  /** The number of the record of a peer by the subnet that it is called by: of IPv4 where it has one. */
  numberOf(subnet: AnyPrefix): number | undefined {
    return this.#peers.get(formatAnyPrefix(subnet))?.number;
  }

  /**
   * From now on datagrams for the peer go there, until another address or port of it comes by `replaceAll`. From one IPv4
   * address to another it is one store, so that no datagram goes to a half-written one; the port is one more, only where it
   * changes. An IPv6 address is written where nobody reads yet, and one store leads to it.
   *
   * @returns false when there is no room, with nothing changed: forwarders have not let go yet of what was left
   */
  moveTo(number: number, address: Address, port: number): boolean {
    const { u8, i32 } = this.#memory;
    const at = (this.#records + number * PEER_BYTES + PEER_ENDPOINT_V6) >>> 2;
    if (typeof address === 'number') {
      this.#putSockaddr(number, address, port);
      this.#freeEndpoint(number);
      return true;
    }
    const [taken] = this.#endpointNumbers.take(1) ?? [];
    if (taken === undefined) return false;
    const endpoint = this.#endpoints + taken * ENDPOINT_V6_BYTES;
    putSockaddrIn6(u8, endpoint, address, port, AF_INET6);
    const former = i32[at];
    Atomics.store(i32, at, endpoint);
    this.#giveBackEndpoint(former);
    return true;
  }

  /** Datagrams for the peer go by IPv4 again. */
  #freeEndpoint(number: number): void {
    const { i32 } = this.#memory;
    const at = (this.#records + number * PEER_BYTES + PEER_ENDPOINT_V6) >>> 2;
    const former = i32[at];
    if (former === 0) return;
    Atomics.store(i32, at, 0);
    this.#giveBackEndpoint(former);
  }

  #giveBackEndpoint(endpoint: number): void {
    if (endpoint !== 0) this.#endpointNumbers.giveBack((endpoint - this.#endpoints) / ENDPOINT_V6_BYTES);
  }

  #putSockaddr(number: number, address: number, port: number): void {
    const { i32 } = this.#memory;
    const at = this.#records + number * PEER_BYTES + PEER_SOCKADDR;
    Atomics.store(i32, (at + SOCKADDR_ADDRESS) >>> 2, toNetworkOrder(address));
    const word = ((port & 255) << 24) | ((port >>> 8) << 16) | AF_INET;
    if (i32[at >>> 2] !== word) Atomics.store(i32, at >>> 2, word);
  }

  /** @param publicIp 0 for none */
  #addSender(publicIp: number): boolean {
    if (publicIp === 0) return true;
    const leases = this.#leases.get(publicIp) ?? 0;
    if (leases === 0 && !this.senders.set({ address: publicIp, length: 32 }, 0)) return false;
    this.#leases.set(publicIp, leases + 1);
    return true;
  }

  #removeSender(publicIp: number): void {
    if (publicIp === 0) return;
    const leases = (this.#leases.get(publicIp) ?? 1) - 1;
    if (leases > 0) {
      this.#leases.set(publicIp, leases);
      return;
    }
    this.#leases.delete(publicIp);
    this.senders.delete({ address: publicIp, length: 32 });
  }

  /** Another IPv6 address that a peer's datagrams come from. */
  #setSenderV6(number: number, former: bigint | null, address: bigint | null): void {
    if (former === address) return;
    if (former !== null) {
      const others = this.#leasesV6.get(former);
      others?.delete(number);
      const [heir] = others ?? [];
      this.#sendersV6.remove(number, heir);
      if (heir === undefined) this.#leasesV6.delete(former);
    }
    putIpv6(this.#memory.u8, this.#records + number * PEER_BYTES + PEER_IPV6, address ?? 0n);
    if (address === null) return;
    const others = this.#leasesV6.get(address);
    if (others !== undefined) return void others.add(number);
    this.#leasesV6.set(address, new Set([number]));
    this.#sendersV6.add(number);
  }
}

const NO_ROOM_FOR_ADDRESS = 'no room for its public address: the hosts lie in too many networks';
const NO_ROOM_FOR_SUBNET = 'no room for its subnet: the subnets lie in too many networks';

/** What a peer is known by. Its IPv6 subnet may come and go while IPv4 is carried. */
export function peerName({ subnet, subnetV6 }: Pick<Peer, 'subnet' | 'subnetV6'>): string {
  const name = subnet ?? subnetV6 ?? null;
  return name === null ? '' : formatAnyPrefix(name);
}

function samePrefixes(one: Ipv6Prefix | null, other: Ipv6Prefix | null): boolean {
  return one?.address === other?.address && one?.length === other?.length;
}
