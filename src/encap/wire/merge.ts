/**
 * Merging the neighbours of a flow into super-packets before they are written to the TUN.
 *
 * Theory of operation. Everything that one receive brought is added in order of arrival. A packet either continues the
 * newest item of its flow or becomes an item of its own; items leave in the order in which they began. Only the newest
 * item of a flow ever grows, so nothing of a flow overtakes anything else of it, with one exception: a segment may join
 * the item before a pure acknowledgement. It joins only when it repeats that item's acknowledgement and window, so what
 * the pure one said before it is either the same or already outdated by what its sender said next.
 *
 * What may continue an item is what the kernel, splitting the super-packet again, would turn into the very bytes that
 * arrived: equal addresses, ports, TTL, TOS (ECN included), fragment bits, options, acknowledgement, window, urgent
 * pointer and flags; the next sequence number; ids that count up unless DF is set; all payloads of one length, save a
 * shorter last. TCP segments so short that the kernel would not cut them again travel alone. PSH closes an item and is carried over, since the kernel gives it to the last segment. SYN, FIN, RST,
 * URG and CWR travel alone and close what is open. What cannot be read (fragments, options in the IP header, odd
 * lengths) closes all flows: it might belong to any of them.
 *
 * Checksums are verified before the first merge of an item and of every packet that joins; a wrong one is never
 * repaired: such a packet travels alone, unchanged, and the receiver's kernel drops it.
 *
 * An item that never grew is written as the bytes that came. Payload is never copied: an item is a list of iovecs.
 */
import type { RegionAllocator, SharedMemory } from '../../linux/memory.js';
import { pseudoHeaderSum, type Sum } from './checksum.js';
import {
  get16,
  get32,
  IPV4_DESTINATION,
  IPV4_DONT_FRAGMENT,
  IPV4_FRAGMENT,
  IPV4_ID,
  IPV4_MIN_HEADER,
  IPV4_PROTOCOL,
  IPV4_SOURCE,
  IPV4_TOTAL_LENGTH,
  IPV4_TTL,
  IPV6_HEADER,
  IPV6_NEXT_HEADER,
  IPV6_PAYLOAD_LENGTH,
  IPV6_SOURCE,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_ACK,
  TCP_ACKNOWLEDGEMENT,
  TCP_DATA_OFFSET,
  TCP_ECE,
  TCP_FLAGS,
  TCP_MIN_HEADER,
  TCP_PSH,
  TCP_SEQUENCE,
  TCP_URGENT,
  UDP_CHECKSUM,
  UDP_HEADER,
  UDP_LENGTH,
} from './headers.js';

import { ItemList, MAX_ITEMS, MAX_MERGED } from './merge-items.js';

/** The longest IP packet, merged or not. */
const MAX_PACKET = 65_535;
/**
 * The shortest segment that others are merged with, in bytes of payload: TCP_MIN_GSO_SIZE of the kernel's include/net/tcp.h.
 * Into shorter ones some kernels (6.12.118 is one) do not cut: 64 segments of one byte come out as 8 of eight.
 */
const MIN_TCP_SEGMENT = 8;
const FLOW_SLOTS = 2 * MAX_ITEMS;

export interface MergeOptions {
  /** The TUN takes merged TCP (TSO) and merged UDP (USO). */
  tcp: boolean;
  udp: boolean;
}

/** Gathers the packets of one receive. Owned by one thread; nothing is allocated after construction. */
export class Merger {
  /** What was gathered; to be written, finished and restored by who added it, and only grown here. */
  readonly items: ItemList;
  /** May be changed between `reset` and the next `add`. */
  readonly options: MergeOptions;
  readonly #memory: SharedMemory;
  readonly #sum: Sum;

  /** Open addressing: item number plus one of the newest item of a flow, 0 for a free place. */
  readonly #flows = new Int32Array(FLOW_SLOTS);
  /** The places that are taken. */
  readonly #taken = new Int32Array(MAX_ITEMS);
  #takenCount = 0;
  /** The place found last: a run of one flow finds itself here without hashing. */
  #latestSlot = 0;
  /** The packet that is being added was found to have a wrong checksum. */
  #wrong = false;

  /** Packets found with a wrong inner checksum since the start. */
  badChecksums = 0;

  constructor(memory: SharedMemory, regions: RegionAllocator, sum: Sum, options: MergeOptions) {
    this.#memory = memory;
    this.#sum = sum;
    this.items = new ItemList(memory, regions);
    this.options = options;
  }

  /** False when nothing would ever be merged. */
  get enabled(): boolean {
    return this.options.tcp || this.options.udp;
  }

  /** Forgets everything. The memory of the packets is the caller's again. */
  reset(): void {
    this.items.count = 0;
    this.#closeAll();
  }

  #closeAll(): void {
    for (let i = 0; i < this.#takenCount; i++) this.#flows[this.#taken[i]] = 0;
    this.#takenCount = 0;
  }

  /**
   * Adds a whole IP packet, whose header has been checked and whose TTL taken down. It must stay unchanged until
   * `reset`. There must be room: see `items.full`.
   */
  add(packet: number, length: number): void {
    const { u8, view } = this.#memory;
    const version = u8[packet] >>> 4;
    let ipLength = IPV4_MIN_HEADER;
    let protocol = 0;
    let readable = false;
    this.#wrong = false;
    if (version === 4 && length >= IPV4_MIN_HEADER) {
      protocol = u8[packet + IPV4_PROTOCOL];
      readable =
        u8[packet] === 0x45 &&
        get16(view, packet + IPV4_TOTAL_LENGTH) === length &&
        (get16(view, packet + IPV4_FRAGMENT) & ~IPV4_DONT_FRAGMENT) === 0;
    } else if (version === 6 && length >= IPV6_HEADER) {
      ipLength = IPV6_HEADER;
      protocol = u8[packet + IPV6_NEXT_HEADER];
      // anything but TCP and UDP directly behind the header may be an extension header with either of them inside
      readable =
        get16(view, packet + IPV6_PAYLOAD_LENGTH) + IPV6_HEADER === length &&
        (protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP);
    }
    if (!readable) {
      this.#closeAll();
      this.items.seed(packet, length, protocol, ipLength, ipLength, true);
    } else if (protocol === PROTOCOL_TCP) this.#addTcp(packet, length, ipLength);
    else if (protocol === PROTOCOL_UDP) this.#addUdp(packet, length, ipLength);
    else this.items.seed(packet, length, protocol, ipLength, ipLength, true);
  }

  #addTcp(packet: number, length: number, ipLength: number): void {
    const { u8 } = this.#memory;
    const tcp = packet + ipLength;
    const tcpLength = length >= ipLength + TCP_MIN_HEADER ? (u8[tcp + TCP_DATA_OFFSET] >>> 4) * 4 : 0;
    const headerLength = ipLength + tcpLength;
    if (tcpLength < TCP_MIN_HEADER || headerLength > length) {
      this.#closeAll();
      this.items.seed(packet, length, PROTOCOL_TCP, ipLength, ipLength, true);
      return;
    }
    const flags = u8[tcp + TCP_FLAGS];
    const plain = (flags & ~(TCP_PSH | TCP_ECE)) === TCP_ACK;
    if (plain && headerLength === length) {
      // a pure acknowledgement leaves the flow open: a segment with another acknowledgement does not match anyway
      this.items.seed(packet, length, PROTOCOL_TCP, ipLength, headerLength, true);
      return;
    }
    const slot = this.#flowSlot(packet, PROTOCOL_TCP, ipLength);
    if (!plain || !this.options.tcp) {
      // SYN, FIN, RST, URG, CWR or no ACK: travels alone, and nothing after it may join what came before
      this.#register(slot, this.items.seed(packet, length, PROTOCOL_TCP, ipLength, headerLength, true));
      return;
    }
    const item = this.#flows[slot] - 1;
    if (item >= 0 && this.#tcpContinues(item, packet, length, ipLength, headerLength)) {
      this.items.append(item, packet, length, headerLength, (flags & TCP_PSH) !== 0);
      return;
    }
    const closed = (flags & TCP_PSH) !== 0 || this.#wrong || length - headerLength < MIN_TCP_SEGMENT;
    this.#register(slot, this.items.seed(packet, length, PROTOCOL_TCP, ipLength, headerLength, closed));
  }

  #tcpContinues(item: number, packet: number, length: number, ipLength: number, headerLength: number): boolean {
    const { view } = this.#memory;
    const { items } = this;
    if (!this.#continues(item, packet, length, ipLength, headerLength)) return false;
    const head = items.packets[item] + ipLength;
    const tcp = packet + ipLength;
    const expected = (get32(view, head + TCP_SEQUENCE) + items.totals[item] - headerLength) | 0;
    if (get32(view, tcp + TCP_SEQUENCE) !== expected) return false;
    if (get32(view, tcp + TCP_ACKNOWLEDGEMENT) !== get32(view, head + TCP_ACKNOWLEDGEMENT)) return false;
    // one word: the data offset with the bits beside it (one of them accurate ECN's), the flags, the window
    const differing = get32(view, tcp + TCP_DATA_OFFSET) ^ get32(view, head + TCP_DATA_OFFSET);
    if ((differing & ~(TCP_PSH << 16)) !== 0) return false;
    if (get16(view, tcp + TCP_URGENT) !== get16(view, head + TCP_URGENT)) return false;
    for (let i = TCP_MIN_HEADER; i < headerLength - ipLength; i += 4) {
      if (get32(view, tcp + i) !== get32(view, head + i)) return false;
    }
    return this.#bothVerified(item, packet, length, ipLength);
  }

  #addUdp(packet: number, length: number, ipLength: number): void {
    const { view } = this.#memory;
    const udp = packet + ipLength;
    const headerLength = ipLength + UDP_HEADER;
    if (length < headerLength || get16(view, udp + UDP_LENGTH) !== length - ipLength) {
      this.#closeAll();
      this.items.seed(packet, length, PROTOCOL_UDP, ipLength, ipLength, true);
      return;
    }
    const slot = this.#flowSlot(packet, PROTOCOL_UDP, ipLength);
    // without a checksum, or without payload, a datagram would come out of a merge different from how it went in
    const alone = !this.options.udp || length === headerLength || get16(view, udp + UDP_CHECKSUM) === 0;
    const item = this.#flows[slot] - 1;
    if (
      !alone &&
      item >= 0 &&
      this.#continues(item, packet, length, ipLength, headerLength) &&
      this.#bothVerified(item, packet, length, ipLength)
    ) {
      this.items.append(item, packet, length, headerLength, false);
      return;
    }
    this.#register(slot, this.items.seed(packet, length, PROTOCOL_UDP, ipLength, headerLength, alone || this.#wrong));
  }

  /** The rules that TCP and UDP share: room, lengths, and IP headers that differ only where the kernel counts. */
  #continues(item: number, packet: number, length: number, ipLength: number, headerLength: number): boolean {
    const { view } = this.#memory;
    const { items } = this;
    const payload = length - headerLength;
    if (
      items.closed[item] !== 0 ||
      items.headerLengths[item] !== headerLength ||
      items.ipLengths[item] !== ipLength ||
      payload > items.segmentSizes[item] ||
      items.segmentCount[item] >= MAX_MERGED ||
      items.totals[item] + payload > MAX_PACKET
    ) {
      return false;
    }
    const head = items.packets[item];
    if (ipLength === IPV6_HEADER) {
      // version, traffic class and flow label; next header and hop limit
      return (
        get32(view, packet) === get32(view, head) &&
        get16(view, packet + IPV6_NEXT_HEADER) === get16(view, head + IPV6_NEXT_HEADER)
      );
    }
    if (get16(view, packet) !== get16(view, head)) return false; // version, header length and TOS
    const fragment = get16(view, packet + IPV4_FRAGMENT);
    if (fragment !== get16(view, head + IPV4_FRAGMENT)) return false;
    if (get16(view, packet + IPV4_TTL) !== get16(view, head + IPV4_TTL)) return false; // TTL and protocol
    return fragment === IPV4_DONT_FRAGMENT || get16(view, packet + IPV4_ID) === ((items.lastIds[item] + 1) & 0xffff);
  }

  /** Verifies the checksums of an item's first packet (once) and of the packet that wants to join. */
  #bothVerified(item: number, packet: number, length: number, ipLength: number): boolean {
    const { items } = this;
    const protocol = items.protocols[item];
    if (items.verified[item] === 0) {
      items.verified[item] = 1;
      if (!this.#verify(items.packets[item], items.packetLengths[item], ipLength, protocol)) {
        items.closed[item] = 1;
        this.badChecksums++;
        return false;
      }
    }
    if (this.#verify(packet, length, ipLength, protocol)) return true;
    this.badChecksums++;
    this.#wrong = true;
    return false;
  }

  #verify(packet: number, length: number, ipLength: number, protocol: number): boolean {
    const transportLength = length - ipLength;
    const version = ipLength === IPV6_HEADER ? 6 : 4;
    const pseudo = pseudoHeaderSum(this.#memory.view, packet, version, protocol, transportLength);
    return this.#sum(packet + ipLength, transportLength, pseudo) === 0xffff;
  }

  #register(slot: number, item: number): void {
    if (this.#flows[slot] === 0) this.#taken[this.#takenCount++] = slot;
    this.#flows[slot] = item + 1;
  }

  /** The place in `#flows` of the packet's flow: the one it has, or the free one it would get. */
  #flowSlot(packet: number, protocol: number, ipLength: number): number {
    const { view } = this.#memory;
    const ports = get32(view, packet + ipLength);
    const latest = this.#flows[this.#latestSlot] - 1;
    if (latest >= 0 && this.#sameFlow(latest, packet, protocol, ipLength, ports)) return this.#latestSlot;
    let hash = ports;
    const addresses = ipLength === IPV6_HEADER ? IPV6_SOURCE : IPV4_SOURCE;
    for (let at = addresses; at < ipLength; at += 4) hash = Math.imul(hash ^ get32(view, packet + at), 0x9e3779b1);
    hash ^= hash >>> 15;
    for (let slot = hash & (FLOW_SLOTS - 1); ; slot = (slot + 1) & (FLOW_SLOTS - 1)) {
      const item = this.#flows[slot] - 1;
      if (item >= 0 && !this.#sameFlow(item, packet, protocol, ipLength, ports)) continue;
      this.#latestSlot = slot;
      return slot;
    }
  }

  #sameFlow(item: number, packet: number, protocol: number, ipLength: number, ports: number): boolean {
    const { view } = this.#memory;
    const { items } = this;
    const head = items.packets[item];
    if (items.protocols[item] !== protocol || items.ipLengths[item] !== ipLength) return false;
    if (get32(view, head + ipLength) !== ports) return false;
    if (ipLength === IPV4_MIN_HEADER) {
      return (
        get32(view, head + IPV4_SOURCE) === get32(view, packet + IPV4_SOURCE) &&
        get32(view, head + IPV4_DESTINATION) === get32(view, packet + IPV4_DESTINATION)
      );
    }
    for (let at = IPV6_SOURCE; at < IPV6_HEADER; at += 4) {
      if (get32(view, head + at) !== get32(view, packet + at)) return false;
    }
    return true;
  }
}
