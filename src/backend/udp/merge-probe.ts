/**
 * Does the TUN take merged packets? Some kernels (6.6.44 and relatives) have a bug that refuses a super-packet with a
 * short last segment, which nothing but a write can tell.
 */
import { createSum, pseudoHeaderSum, storeSum } from '../../encap/wire/checksum.js';
import {
  IPV4_CHECKSUM,
  IPV4_DESTINATION,
  IPV4_DONT_FRAGMENT,
  IPV4_FRAGMENT,
  IPV4_MIN_HEADER,
  IPV4_PROTOCOL,
  IPV4_SOURCE,
  IPV4_TOTAL_LENGTH,
  IPV4_TTL,
  PROTOCOL_TCP,
  put16,
  put32,
  TCP_ACK,
  TCP_CHECKSUM,
  TCP_DATA_OFFSET,
  TCP_FLAGS,
  TCP_MIN_HEADER,
} from '../../encap/wire/headers.js';
import { control } from '../../linux/libc.js';
import type { SharedMemory } from '../../linux/memory.js';
import {
  VNET_CSUM_OFFSET,
  VNET_CSUM_START,
  VNET_F_NEEDS_CSUM,
  VNET_FLAGS,
  VNET_GSO_SIZE,
  VNET_GSO_TCPV4,
  VNET_GSO_TYPE,
  VNET_HEADER_BYTES,
  VNET_HEADER_LENGTH,
} from '../../tun/virtio.js';

const SEGMENT = 100;
const PAYLOAD = 2 * SEGMENT - 1;
const HEADERS = IPV4_MIN_HEADER + TCP_MIN_HEADER;
const LENGTH = HEADERS + PAYLOAD;

/**
 * Writes a super-packet of two segments, the second shorter, from and to the device's own address. Its TTL is 0, so the
 * kernel checks the virtio-net header and then drops the packet.
 *
 * @param scratch offset of 512 bytes that nobody uses yet; zeros before and after
 * @param address the device's own, host order
 * @returns 0 when the kernel took it, else the errno
 */
export function probeMergedWrite(memory: SharedMemory, scratch: number, tun: number, address: number): number {
  const { u8, u16, view } = memory;
  const sum = createSum(memory);
  const ip = scratch + 16; // the header before it, the packet itself aligned
  const vnet = ip - VNET_HEADER_BYTES;
  const tcp = ip + IPV4_MIN_HEADER;
  u8[vnet + VNET_FLAGS] = VNET_F_NEEDS_CSUM;
  u8[vnet + VNET_GSO_TYPE] = VNET_GSO_TCPV4;
  u16[(vnet + VNET_HEADER_LENGTH) >>> 1] = HEADERS;
  u16[(vnet + VNET_GSO_SIZE) >>> 1] = SEGMENT;
  u16[(vnet + VNET_CSUM_START) >>> 1] = IPV4_MIN_HEADER;
  u16[(vnet + VNET_CSUM_OFFSET) >>> 1] = TCP_CHECKSUM;
  u8[ip] = 0x45;
  put16(view, ip + IPV4_TOTAL_LENGTH, LENGTH);
  put16(view, ip + IPV4_FRAGMENT, IPV4_DONT_FRAGMENT);
  u8[ip + IPV4_TTL] = 0;
  u8[ip + IPV4_PROTOCOL] = PROTOCOL_TCP;
  put32(view, ip + IPV4_SOURCE, address);
  put32(view, ip + IPV4_DESTINATION, address);
  storeSum(view, ip + IPV4_CHECKSUM, ~sum(ip, IPV4_MIN_HEADER, 0));
  u8[tcp + TCP_DATA_OFFSET] = (TCP_MIN_HEADER / 4) << 4;
  u8[tcp + TCP_FLAGS] = TCP_ACK;
  storeSum(view, tcp + TCP_CHECKSUM, pseudoHeaderSum(view, ip, 4, PROTOCOL_TCP, LENGTH - IPV4_MIN_HEADER));
  const packet = Uint8Array.from(u8.subarray(vnet, ip + LENGTH));
  u8.fill(0, vnet, ip + LENGTH); // the receiving forwarder's structures come to lie here, and count on zeros
  return control.write(tun, packet, packet.length) < 0 ? control.errno() : 0;
}
