/** Inner packets, built field by field, complete with right checksums unless a test asks for wrong ones. */
import {
  checksumOffset,
  fillChecksums,
  ICMP,
  ICMPV6,
  parse,
  plainSum,
  pseudoSum,
  setLong,
  setWord,
  TCP,
  UDP,
  type Vnet,
} from './reference.js';

export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const PSH = 0x08;
export const ACK = 0x10;
export const URG = 0x20;
export const ECE = 0x40;
export const CWR = 0x80;

export const DONT_FRAGMENT = 0x4000;
export const MORE_FRAGMENTS = 0x2000;

export interface IpFields {
  version: 4 | 6;
  /** Last number of the address: 10.5.<n>.<m> or fd00::<n>:<m> as [n, m]. */
  source: readonly [number, number];
  destination: readonly [number, number];
  ttl: number;
  tos: number;
  id: number;
  /** IPv4 flags and fragment offset. */
  fragment: number;
  flowLabel: number;
  /** IPv4 options, a multiple of four bytes. */
  ipOptions: readonly number[];
}

export interface TcpFields extends IpFields {
  sourcePort: number;
  destinationPort: number;
  sequence: number;
  acknowledgement: number;
  flags: number;
  /** The four bits beside the data offset. */
  reserved: number;
  window: number;
  urgent: number;
  /** TCP options, a multiple of four bytes. */
  options: readonly number[];
  payload: Uint8Array;
}

export interface UdpFields extends IpFields {
  sourcePort: number;
  destinationPort: number;
  payload: Uint8Array;
}

const IP_DEFAULTS: IpFields = {
  version: 4,
  source: [1, 2],
  destination: [2, 2],
  ttl: 63,
  tos: 0,
  id: 0,
  fragment: DONT_FRAGMENT,
  flowLabel: 0,
  ipOptions: [],
};

/** `length` bytes that tell where they stand: a repeated, lost or swapped piece never looks right. */
export function payload(length: number, seed = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = i * 7 + (i >> 8) * 13 + seed * 31;
  return bytes;
}

export function addressOf4([subnet, host]: readonly [number, number]): number {
  return ((10 << 24) | (5 << 16) | (subnet << 8) | host) >>> 0;
}

/** An IP packet around any transport bytes. The header checksum is right; the transport's own is left alone. */
export function ip(protocol: number, transport: Uint8Array, fields: Partial<IpFields> = {}): Uint8Array {
  const all = { ...IP_DEFAULTS, ...fields };
  const ipLength = all.version === 4 ? 20 + all.ipOptions.length : 40;
  const packet = new Uint8Array(ipLength + transport.length);
  packet.set(transport, ipLength);
  if (all.version === 4) {
    packet[0] = 0x40 + ipLength / 4;
    packet[1] = all.tos;
    setWord(packet, 2, packet.length);
    setWord(packet, 4, all.id);
    setWord(packet, 6, all.fragment);
    packet[8] = all.ttl;
    packet[9] = protocol;
    setLong(packet, 12, addressOf4(all.source));
    setLong(packet, 16, addressOf4(all.destination));
    packet.set(all.ipOptions, 20);
    fixHeaderChecksum(packet);
  } else {
    setLong(packet, 0, (6 * 2 ** 28 + all.tos * 2 ** 20 + all.flowLabel) % 2 ** 32);
    setWord(packet, 4, transport.length);
    packet[6] = protocol;
    packet[7] = all.ttl;
    packet.set(address6(all.source), 8);
    packet.set(address6(all.destination), 24);
  }
  return packet;
}

/** An IPv6 packet with extension headers before its upper layer: each `[type, bytes]`, whose first byte is filled in. */
export function extended(packet: Uint8Array, ...headers: readonly (readonly [number, Uint8Array])[]): Uint8Array {
  const fixed = packet.slice(0, 40);
  const types = [...headers.map(([type]) => type), packet[6]!];
  fixed[6] = types[0]!;
  const chain = headers.map(([, bytes], i) => altered(bytes, { 0: types[i + 1]! }));
  const whole = Uint8Array.from([fixed, ...chain, packet.slice(40)].flatMap((part) => [...part]));
  setWord(whole, 4, whole.length - 40);
  return whole;
}

/** Options of eight bytes that ask for nothing: PadN. */
export const PADDING = Uint8Array.of(0, 0, 1, 4, 0, 0, 0, 0);

/** @param offset of the fragment, in units of eight bytes */
export function fragmentHeader(offset: number, more: boolean): Uint8Array {
  return Uint8Array.of(0, 0, offset >> 5, ((offset << 3) & 0xff) | (more ? 1 : 0), 0, 0, 0, 9);
}

export function icmpv6(type: number, fields: Partial<IpFields> = {}, data = payload(32)): Uint8Array {
  const packet = ip(ICMPV6, Uint8Array.of(type, 0, 0, 0, 0, 1, 0, 1, ...data), { ...fields, version: 6 });
  return fillChecksums(packet);
}

export function address6([subnet, host]: readonly [number, number]): number[] {
  return [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, subnet, 0, host];
}

export function tcp(fields: Partial<TcpFields> = {}): Uint8Array {
  const options = fields.options ?? [];
  const data = fields.payload ?? new Uint8Array(0);
  const transport = new Uint8Array(20 + options.length + data.length);
  setWord(transport, 0, fields.sourcePort ?? 40_000);
  setWord(transport, 2, fields.destinationPort ?? 5201);
  setLong(transport, 4, (fields.sequence ?? 1000) % 2 ** 32);
  setLong(transport, 8, fields.acknowledgement ?? 5000);
  transport[12] = ((20 + options.length) / 4) * 16 + (fields.reserved ?? 0);
  transport[13] = fields.flags ?? ACK;
  setWord(transport, 14, fields.window ?? 502);
  setWord(transport, 18, fields.urgent ?? 0);
  transport.set(options, 20);
  transport.set(data, 20 + options.length);
  return fillChecksums(ip(TCP, transport, fields));
}

export function udp(fields: Partial<UdpFields> = {}): Uint8Array {
  const data = fields.payload ?? new Uint8Array(0);
  const transport = new Uint8Array(8 + data.length);
  setWord(transport, 0, fields.sourcePort ?? 40_000);
  setWord(transport, 2, fields.destinationPort ?? 443);
  setWord(transport, 4, transport.length);
  transport.set(data, 8);
  return fillChecksums(ip(UDP, transport, fields));
}

export function icmp(type: number, fields: Partial<IpFields> = {}, data = payload(32)): Uint8Array {
  return fillChecksums(ip(ICMP, Uint8Array.of(type, 0, 0, 0, 0, 1, 0, 1, ...data), fields));
}

/** Makes the IPv4 header checksum right after a test has changed the header. */
export function fixHeaderChecksum(packet: Uint8Array): Uint8Array {
  const header = packet.slice(0, (packet[0]! % 16) * 4);
  setWord(header, 10, 0);
  setWord(packet, 10, 0xffff - plainSum(header));
  return packet;
}

/** A copy with some bytes changed and nothing repaired. */
export function altered(packet: Uint8Array, changes: Readonly<Record<number, number>>): Uint8Array {
  const copy = packet.slice();
  for (const [at, value] of Object.entries(changes)) copy[Number(at)] = value;
  return copy;
}

/** A copy with one bit of the payload turned over, its checksums left as they were. */
export function corrupted(packet: Uint8Array, fromEnd = 1): Uint8Array {
  return altered(packet, { [packet.length - fromEnd]: packet[packet.length - fromEnd]! ^ 0x10 });
}

/** What a TUN hands over. */
export interface Offloaded {
  readonly vnet: Vnet;
  readonly packet: Uint8Array;
}

/**
 * The packet as the kernel gives it to a TUN with offloads: only the pseudo-header's sum in the checksum field, and the
 * virtio-net header that says so. Its `headerLength` is a lie, as the kernel's is for forwarded packets.
 */
export function offloaded(packet: Uint8Array, size = 0): Offloaded {
  const { version, ipLength, protocol, transport } = parse(packet);
  const offset = checksumOffset(protocol);
  const copy = packet.slice();
  setWord(copy, ipLength + offset, pseudoSum(copy, protocol, transport.length));
  const type = size === 0 ? 0 : protocol === UDP ? 5 : version === 4 ? 1 : 4;
  return { vnet: { flags: 1, type, headerLength: packet.length, size, start: ipLength, offset }, packet: copy };
}
