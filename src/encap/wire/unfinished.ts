/**
 * Packets that a kernel put into a datagram before it had finished them.
 *
 * Theory of operation. A kernel computes the checksum of a packet of its own as late as it can, and cuts a super-packet as
 * late as it can: best of all the network card does both. Until then the checksum field holds the sum of the pseudo-header
 * alone, and a note beside the packet says so. A tunnel in the kernel (tweed's kernel path, or FOU) wraps such packets as
 * they are. A real card finishes the inner packet all the same. A device of software (veth, a bridge, virtio between two
 * machines of one host) finishes nothing: it hands packet and note to the other end, where a kernel would understand both,
 * while a socket gets the bytes and no note.
 *
 * So where the underlay is such a device, a packet whose checksum field is exactly the pseudo-header's sum is handed to the
 * TUN with the note put back (VIRTIO_NET_HDR_F_NEEDS_CSUM), and a TCP packet that is longer than any of the overlay's with
 * the size of its segments, too.
 *
 * Who could gain by that? The note makes the receiver's kernel trust the packet's bytes. Who writes the pseudo-header's sum on
 * purpose could as well have written the right checksum. And a packet damaged on the way passes only if the damage makes
 * the field just this value, or if the right checksum had this value by chance: one in 65,536 either way, which is what the
 * checksum promises of any other value. What is wrong in any other way is handed on as it came, never repaired.
 */
import type { SharedMemory } from '../../linux/memory.js';
import {
  VNET_CSUM_OFFSET,
  VNET_CSUM_START,
  VNET_F_NEEDS_CSUM,
  VNET_FLAGS,
  VNET_GSO_NONE,
  VNET_GSO_SIZE,
  VNET_GSO_TCPV4,
  VNET_GSO_TYPE,
  VNET_HEADER_LENGTH,
} from '../../tun/virtio.js';
import { loadSum, pseudoHeaderSum, type Sum, storeSum } from './checksum.js';
import {
  get16,
  IPV4_DONT_FRAGMENT,
  IPV4_FRAGMENT,
  IPV4_PROTOCOL,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_CHECKSUM,
  TCP_DATA_OFFSET,
  TCP_MIN_HEADER,
  UDP_CHECKSUM,
  UDP_HEADER,
} from './headers.js';

/** @param ip offset of a packet whose IPv4 header has been checked @param length of the packet, as its header says */
export function isUnfinished(u8: Uint8Array, view: DataView, ip: number, length: number): boolean {
  const protocol = u8[ip + IPV4_PROTOCOL];
  if (protocol !== PROTOCOL_TCP && protocol !== PROTOCOL_UDP) return false;
  if ((get16(view, ip + IPV4_FRAGMENT) & ~IPV4_DONT_FRAGMENT) !== 0) return false;
  const headerLength = (u8[ip] & 15) * 4;
  const transportLength = length - headerLength;
  if (transportLength < (protocol === PROTOCOL_TCP ? TCP_MIN_HEADER : UDP_HEADER)) return false;
  const field = ip + headerLength + (protocol === PROTOCOL_TCP ? TCP_CHECKSUM : UDP_CHECKSUM);
  return loadSum(view, field) === pseudoHeaderSum(view, ip, 4, protocol, transportLength);
}

/**
 * Writes the virtio-net header that tells the kernel how to finish the packet.
 *
 * @param vnet offset of VNET_HEADER_BYTES, even
 * @param mtu the longest packet of the overlay, bytes: what is longer is a super-packet
 */
export function noteUnfinished({ u8, u16 }: SharedMemory, vnet: number, ip: number, length: number, mtu: number): void {
  const headers = length > mtu ? tcpHeaders(u8, ip, length) : 0;
  u8[vnet + VNET_FLAGS] = VNET_F_NEEDS_CSUM;
  u8[vnet + VNET_GSO_TYPE] = headers === 0 ? VNET_GSO_NONE : VNET_GSO_TCPV4;
  u16[(vnet + VNET_HEADER_LENGTH) >>> 1] = headers;
  u16[(vnet + VNET_GSO_SIZE) >>> 1] = headers === 0 ? 0 : mtu - headers;
  u16[(vnet + VNET_CSUM_START) >>> 1] = (u8[ip] & 15) * 4;
  u16[(vnet + VNET_CSUM_OFFSET) >>> 1] = checksumOffset(u8, ip);
}

/** Computes the checksum of an unfinished packet. */
export function completeChecksum({ u8, view }: SharedMemory, sum: Sum, ip: number, length: number): void {
  const transport = ip + (u8[ip] & 15) * 4;
  // the field counts as what it holds: the pseudo-header's sum
  const checksum = ~sum(transport, ip + length - transport, 0) & 0xffff;
  // 0 would say that there is none (RFC 768); TCP does not mind
  storeSum(view, transport + checksumOffset(u8, ip), checksum === 0 ? 0xffff : checksum);
}

function checksumOffset(u8: Uint8Array, ip: number): number {
  return u8[ip + IPV4_PROTOCOL] === PROTOCOL_TCP ? TCP_CHECKSUM : UDP_CHECKSUM;
}

/** Bytes of all headers of a TCP packet; 0 when it has no payload to cut, or is no TCP. */
function tcpHeaders(u8: Uint8Array, ip: number, length: number): number {
  if (u8[ip + IPV4_PROTOCOL] !== PROTOCOL_TCP) return 0;
  const headerLength = (u8[ip] & 15) * 4;
  const headers = headerLength + (u8[ip + headerLength + TCP_DATA_OFFSET] >>> 4) * 4;
  return headers < headerLength + TCP_MIN_HEADER || headers >= length ? 0 : headers;
}
