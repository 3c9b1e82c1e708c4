/** The packets that forwarders rehearse with: small ones and super-packets, from one made-up host to another, and back. */
import type { Address, Family } from '../../base/address.js';
import type { Ipv6Prefix } from '../../base/ipv6.js';
import { putIpv6 } from '../../linux/structs.js';
import {
  VNET_CSUM_OFFSET,
  VNET_CSUM_START,
  VNET_F_NEEDS_CSUM,
  VNET_FLAGS,
  VNET_GSO_SIZE,
  VNET_GSO_TCPV4,
  VNET_GSO_TCPV6,
  VNET_GSO_TYPE,
  VNET_HEADER_BYTES,
} from '../../tun/virtio.js';
import { fold, headerSum, pseudoHeaderSum, storeSum } from '../wire/checksum.js';
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
  IPV6_DESTINATION,
  IPV6_HEADER,
  IPV6_HOP_LIMIT,
  IPV6_NEXT_HEADER,
  IPV6_PAYLOAD_LENGTH,
  IPV6_SOURCE,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_TCP,
  put16,
  put32,
  TCP_ACK,
  TCP_CHECKSUM,
  TCP_DATA_OFFSET,
  TCP_FLAGS,
  TCP_MIN_HEADER,
  TCP_SEQUENCE,
} from '../wire/headers.js';

/** The overlay's networks, host 1's subnets, which is ours, and host 2's. */
export const NETWORK = { address: 0x0a00_0000, length: 16 };
export const subnet = (host: number) => ({ address: NETWORK.address + (host << 8), length: 24 });
export const NETWORK_V6: Ipv6Prefix = { address: 0xfd00n << 112n, length: 48 };
export const subnetV6 = (host: number): Ipv6Prefix => ({
  address: NETWORK_V6.address | (BigInt(host) << 64n),
  length: 64,
});

/** Payload of a small packet, of each segment, and how many segments there are. */
const SMALL = 64;
const SEGMENT = 512;
const SEGMENTS = 3;

/** What a read brings: a virtio-net header, and the packet. */
export interface PacketToSend {
  readonly vnet: Uint8Array;
  readonly packet: Uint8Array;
}

/** What a receive brings: datagrams of equal length. */
export interface RunToReceive {
  readonly bytes: Uint8Array;
  /** Length of each; as long as the whole where there is one. */
  readonly size: number;
}

/** From a container of host 1 to one of host 2. @param superPackets may the TUN hand over such */
export function packetsToSend(family: Family, superPackets: boolean): PacketToSend[] {
  const small = { vnet: new Uint8Array(VNET_HEADER_BYTES), packet: ping(family, 1, 2) };
  if (!superPackets) return [small];
  const headers = headersOf(family);
  const vnet = new Uint8Array(VNET_HEADER_BYTES);
  const view = new DataView(vnet.buffer);
  vnet[VNET_FLAGS] = VNET_F_NEEDS_CSUM;
  vnet[VNET_GSO_TYPE] = family === 4 ? VNET_GSO_TCPV4 : VNET_GSO_TCPV6;
  view.setUint16(VNET_GSO_SIZE, SEGMENT, true);
  view.setUint16(VNET_CSUM_START, headers, true);
  view.setUint16(VNET_CSUM_OFFSET, TCP_CHECKSUM, true);
  return [small, { vnet, packet: tcp(family, 1, 2, 0, SEGMENTS * SEGMENT - 1) }];
}

/** The other way. */
export function runsToReceive(family: Family): RunToReceive[] {
  const small = ping(family, 2, 1);
  const segments = Array.from({ length: SEGMENTS }, (_, i) => tcp(family, 2, 1, i * SEGMENT, SEGMENT));
  const size = segments[0].length;
  const bytes = new Uint8Array(SEGMENTS * size);
  for (const [i, segment] of segments.entries()) bytes.set(segment, i * size);
  return [
    { bytes: small, size: small.length },
    { bytes, size },
  ];
}

function headersOf(family: Family): number {
  return family === 4 ? IPV4_MIN_HEADER : IPV6_HEADER;
}

function ping(family: Family, from: number, to: number): Uint8Array {
  return ip(family, from, to, family === 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6, SMALL);
}

/** @param sequence of its first byte @param length of its payload, all zeros */
function tcp(family: Family, from: number, to: number, sequence: number, length: number): Uint8Array {
  const packet = ip(family, from, to, PROTOCOL_TCP, TCP_MIN_HEADER + length);
  const view = new DataView(packet.buffer);
  const at = headersOf(family);
  put32(view, at + TCP_SEQUENCE, sequence);
  packet[at + TCP_DATA_OFFSET] = (TCP_MIN_HEADER / 4) << 4;
  packet[at + TCP_FLAGS] = TCP_ACK;
  const pseudo = pseudoHeaderSum(view, 0, family, PROTOCOL_TCP, TCP_MIN_HEADER + length);
  storeSum(view, at + TCP_CHECKSUM, ~fold(headerSum(view, at, TCP_MIN_HEADER, pseudo)));
  return packet;
}

/** An IP packet whose payload is all zeros. */
function ip(family: Family, from: number, to: number, protocol: number, length: number): Uint8Array {
  const packet = new Uint8Array(headersOf(family) + length);
  const view = new DataView(packet.buffer);
  packet[0] = family === 4 ? 0x45 : 0x60;
  const [source, destination] = [from, to].map((host) => containerOf(family, host));
  if (family === 4) {
    put16(view, IPV4_TOTAL_LENGTH, packet.length);
    put16(view, IPV4_FRAGMENT, IPV4_DONT_FRAGMENT);
    packet[IPV4_TTL] = 64;
    packet[IPV4_PROTOCOL] = protocol;
    put32(view, IPV4_SOURCE, Number(source));
    put32(view, IPV4_DESTINATION, Number(destination));
    storeSum(view, IPV4_CHECKSUM, ~headerSum(view, 0, IPV4_MIN_HEADER, 0));
  } else {
    put16(view, IPV6_PAYLOAD_LENGTH, length);
    packet[IPV6_NEXT_HEADER] = protocol;
    packet[IPV6_HOP_LIMIT] = 64;
    putIpv6(packet, IPV6_SOURCE, BigInt(source));
    putIpv6(packet, IPV6_DESTINATION, BigInt(destination));
  }
  return packet;
}

function containerOf(family: Family, host: number): Address {
  return family === 4 ? subnet(host).address + 2 : subnetV6(host).address + 2n;
}
