/**
 * Splitting a super-packet into wire packets, as the kernel would have done it.
 *
 * Theory of operation. A TUN device with offloads hands over up to 64 KiB of one TCP or UDP flow behind one set of
 * headers. `begin` reads those headers once into a template with the varying fields zeroed and sums the template once;
 * `emit` stamps one wire packet's headers from it, adding only what varies to the sums. The payload stays where it is:
 * the caller points the send at it in place.
 *
 * What varies: IPv4 total length and id (counted up), IPv6 payload length, TCP sequence number, FIN and PSH (on the last
 * only), CWR (on the first only; RFC 3168 section 6.1.2), UDP length, and both checksums.
 *
 * The header lengths are taken from the packet: the one in the virtio-net header is wrong for forwarded packets.
 */

import type { SharedMemory } from '../../linux/memory.js';
import { VNET_GSO_ECN, VNET_GSO_TCPV4, VNET_GSO_TCPV6, VNET_GSO_UDP_L4 } from '../../tun/virtio.js';
import { fold, headerSum, pseudoHeaderSum, type Sum, storeSum, swap16 } from './checksum.js';
import {
  get16,
  get32,
  IPV4_CHECKSUM,
  IPV4_ID,
  IPV4_MIN_HEADER,
  IPV4_PROTOCOL,
  IPV4_TOTAL_LENGTH,
  IPV6_HEADER,
  IPV6_PAYLOAD_LENGTH,
  MAX_HEADERS,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  put16,
  put32,
  TCP_CHECKSUM,
  TCP_CWR,
  TCP_DATA_OFFSET,
  TCP_FIN,
  TCP_FLAGS,
  TCP_MIN_HEADER,
  TCP_PSH,
  TCP_SEQUENCE,
  UDP_CHECKSUM,
  UDP_HEADER,
  UDP_LENGTH,
} from './headers.js';

/** Bytes between two headers in an arena: MAX_HEADERS rounded up to whole cache lines. */
export const HEADER_STRIDE = 128;

/** Splits one super-packet at a time. Owned by one thread; nothing is allocated after construction. */
export class Segmenter {
  readonly #memory: SharedMemory;
  readonly #sum: Sum;
  readonly #template: number;

  #packet = 0;
  #version = 4;
  #tcp = true;
  #ipLength = 0;
  #transportLength = 0;
  #segmentSize = 0;
  #payloadLength = 0;
  #firstId = 0;
  #firstSequence = 0;
  #flags = 0;
  #ipBase = 0;
  #transportBase = 0;

  /** Length of the headers of every segment, valid after `begin`. */
  headerLength = 0;
  /** How many wire packets the super-packet makes, valid after `begin`. */
  count = 0;

  /** @param template offset of HEADER_STRIDE bytes of the caller's memory, aligned to 4 */
  constructor(memory: SharedMemory, sum: Sum, template: number) {
    this.#memory = memory;
    this.#sum = sum;
    this.#template = template;
  }

  /**
   * Reads the headers of the super-packet of `length` bytes at `packet`, which must stay unchanged until its last
   * segment has been emitted.
   *
   * @param gsoType, gsoSize, csumStart from the virtio-net header
   * @returns false when the virtio-net header and the packet contradict each other; the packet is then not usable
   */
  begin(packet: number, length: number, gsoType: number, gsoSize: number, csumStart: number): boolean {
    const { u8 } = this.#memory;
    const type = gsoType & ~VNET_GSO_ECN;
    const version = u8[packet] >>> 4;
    const tcp = type === VNET_GSO_TCPV4 || type === VNET_GSO_TCPV6;
    if (!tcp && type !== VNET_GSO_UDP_L4) return false;
    if (gsoSize === 0 || csumStart + (tcp ? TCP_MIN_HEADER : UDP_HEADER) > length) return false;
    if (version === 4) {
      if (type === VNET_GSO_TCPV6 || csumStart < IPV4_MIN_HEADER || csumStart !== (u8[packet] & 15) * 4) return false;
      if (u8[packet + IPV4_PROTOCOL] !== (tcp ? PROTOCOL_TCP : PROTOCOL_UDP)) return false;
    } else if (version !== 6 || type === VNET_GSO_TCPV4 || csumStart < IPV6_HEADER) return false;

    const transport = packet + csumStart;
    const transportLength = tcp ? (u8[transport + TCP_DATA_OFFSET] >>> 4) * 4 : UDP_HEADER;
    const headerLength = csumStart + transportLength;
    if (tcp && transportLength < TCP_MIN_HEADER) return false;
    if (headerLength > MAX_HEADERS || headerLength >= length) return false;

    this.#packet = packet;
    this.#version = version;
    this.#tcp = tcp;
    this.#ipLength = csumStart;
    this.#transportLength = transportLength;
    this.#segmentSize = gsoSize;
    this.#payloadLength = length - headerLength;
    this.headerLength = headerLength;
    this.count = Math.ceil(this.#payloadLength / gsoSize);
    this.#prepareTemplate();
    return true;
  }

  #prepareTemplate(): void {
    const { u8, view } = this.#memory;
    const template = this.#template;
    const transport = template + this.#ipLength;
    for (let i = 0; i < this.headerLength; i++) u8[template + i] = u8[this.#packet + i];
    if (this.#version === 4) {
      this.#firstId = get16(view, template + IPV4_ID);
      put16(view, template + IPV4_TOTAL_LENGTH, 0);
      put16(view, template + IPV4_ID, 0);
      put16(view, template + IPV4_CHECKSUM, 0);
      this.#ipBase = headerSum(view, template, this.#ipLength, 0);
    }
    let protocol = PROTOCOL_UDP;
    if (this.#tcp) {
      protocol = PROTOCOL_TCP;
      this.#firstSequence = get32(view, transport + TCP_SEQUENCE);
      this.#flags = u8[transport + TCP_FLAGS];
      put32(view, transport + TCP_SEQUENCE, 0);
      u8[transport + TCP_FLAGS] = 0;
      put16(view, transport + TCP_CHECKSUM, 0);
    } else {
      put16(view, transport + UDP_LENGTH, 0);
      put16(view, transport + UDP_CHECKSUM, 0);
    }
    const pseudo = pseudoHeaderSum(view, template, this.#version, protocol, 0);
    this.#transportBase = headerSum(view, transport, this.#transportLength, pseudo);
  }

  /** Offset of the payload of segment `index`. */
  payloadAt(index: number): number {
    return this.#packet + this.headerLength + index * this.#segmentSize;
  }

  /** Length of the payload of segment `index`: the same for all but the last, which may be shorter. */
  payloadLength(index: number): number {
    return Math.min(this.#segmentSize, this.#payloadLength - index * this.#segmentSize);
  }

  /** Writes the headers of segment `index` at `at`, an offset aligned to 4 with HEADER_STRIDE bytes to write to. */
  emit(index: number, at: number): void {
    const { u8, i32, view } = this.#memory;
    const from = this.#template >>> 2;
    const to = at >>> 2;
    for (let word = 0; word << 2 < this.headerLength; word++) i32[to + word] = i32[from + word];

    const done = index * this.#segmentSize;
    const payload = Math.min(this.#segmentSize, this.#payloadLength - done);
    const transportLength = this.#transportLength + payload;
    if (this.#version === 4) {
      const total = this.#ipLength + transportLength;
      const id = (this.#firstId + index) & 0xffff;
      put16(view, at + IPV4_TOTAL_LENGTH, total);
      put16(view, at + IPV4_ID, id);
      storeSum(view, at + IPV4_CHECKSUM, ~fold(this.#ipBase + swap16(total) + swap16(id)));
    } else {
      put16(view, at + IPV6_PAYLOAD_LENGTH, this.#ipLength - IPV6_HEADER + transportLength);
    }

    const transport = at + this.#ipLength;
    const payloadAt = this.#packet + this.headerLength + done;
    let partial = this.#transportBase + swap16(transportLength);
    if (this.#tcp) {
      const sequence = (this.#firstSequence + done) | 0;
      put32(view, transport + TCP_SEQUENCE, sequence);
      let flags = this.#flags;
      if (done + payload < this.#payloadLength) flags &= ~(TCP_FIN | TCP_PSH);
      if (index > 0) flags &= ~TCP_CWR;
      u8[transport + TCP_FLAGS] = flags;
      partial += swap16(sequence >>> 16) + swap16(sequence & 0xffff) + (flags << 8);
      storeSum(view, transport + TCP_CHECKSUM, ~this.#sum(payloadAt, payload, partial));
    } else {
      put16(view, transport + UDP_LENGTH, transportLength);
      const complement = ~this.#sum(payloadAt, payload, partial + swap16(transportLength)) & 0xffff;
      // a computed 0 is sent as all ones: 0 says "no checksum" (RFC 768)
      storeSum(view, transport + UDP_CHECKSUM, complement === 0 ? 0xffff : complement);
    }
  }
}

/**
 * Completes a checksum that the kernel left partial (VNET_F_NEEDS_CSUM on a packet that is no super-packet): the field
 * holds the pseudo-header's sum, so summing from `csumStart` to the end gives the rest.
 *
 * @returns false when the positions do not fit the packet, which is then unchanged
 */
export function completeChecksum(
  memory: SharedMemory,
  sum: Sum,
  packet: number,
  length: number,
  csumStart: number,
  csumOffset: number,
): boolean {
  if (csumStart < IPV4_MIN_HEADER || csumStart + csumOffset + 2 > length) return false;
  const complement = ~sum(packet + csumStart, length - csumStart, 0) & 0xffff;
  const zeroMeansNone = complement === 0 && csumOffset === UDP_CHECKSUM;
  storeSum(memory.view, packet + csumStart + csumOffset, zeroMeansNone ? 0xffff : complement);
  return true;
}
