/** What a captured packet says of itself: RFC 791, 8200, 9293, 768, 792, 4443, 7348 (VXLAN), and WireGuard's paper. */
import { type Address, type Family, formatAddress, formatEndpoint } from '../../base/address.js';
import * as wire from '../../encap/wire/headers.js';

/** One IP packet. Lengths are bytes with the IP header, numbers in host order. */
export interface Packet {
  readonly family: Family;
  readonly source: Address;
  readonly destination: Address;
  readonly ttl: number;
  /** As its header says; a quoted packet has fewer bytes than that. */
  readonly length: number;
  readonly dontFragment: boolean;
  /** Null for a whole packet. `offset` in bytes. */
  readonly fragment: { readonly id: number; readonly offset: number; readonly more: boolean } | null;
  readonly protocol: number;
  /** Of UDP and TCP, where their headers are there. */
  readonly ports: { readonly source: number; readonly destination: number } | null;
  readonly tcp: { readonly sequence: number; readonly acknowledgement: number; readonly flags: number } | null;
  readonly icmp: {
    readonly type: number;
    readonly code: number;
    /** What the next link takes, of "fragmentation needed" and "packet too big"; null for others. */
    readonly mtu: number | null;
    /** The packet that an error is about. */
    readonly quoted: Packet | null;
  } | null;
  /** What follows the last header that is understood, as far as it was captured or quoted. */
  readonly payload: Uint8Array;
  /** How many bytes it has, captured or not. */
  readonly payloadLength: number;
  /** What a datagram of the overlay has inside. */
  readonly carried: Carried | null;
}

export type Carried =
  /** `count` packets, this one the first: more than one where a device of software gets a whole run in one send. */
  | { readonly kind: 'udp'; readonly packet: Packet; readonly count: number }
  | { readonly kind: 'vxlan'; readonly packet: Packet; readonly vni: number }
  | { readonly kind: 'wireguard'; readonly packet: null; readonly counter: bigint };

/** What an overlay's datagrams look like on the underlay. */
export interface Carrier {
  readonly kind: Carried['kind'];
  /** UDP ports: `wireguard` may have another one for IPv6. */
  readonly ports: readonly number[];
}

export const ECHO_REQUEST: Readonly<Record<Family, number>> = { 4: 8, 6: 128 };
export const ECHO_REPLY: Readonly<Record<Family, number>> = { 4: 0, 6: 129 };
const TCP_SYN = 0x02;
const TCP_RST = 0x04;
const TCP_FLAGS: readonly (readonly [number, string])[] = [
  [TCP_SYN, 'SYN'],
  [wire.TCP_FIN, 'FIN'],
  [TCP_RST, 'RST'],
  [wire.TCP_PSH, 'PSH'],
  [wire.TCP_ACK, 'ACK'],
];
/** Packets inside packets are followed so far: a datagram, what it carries, what that quotes, and what that carries. */
const DEEPEST = 5;

/**
 * Reads the packet that begins the bytes. What is cut off (a quoted packet) is read as far as it goes.
 *
 * @param carrier what datagrams of the overlay are told by; null where none are looked for
 * @returns null when not even its IP header is there
 */
export function readPacket(bytes: Uint8Array, carrier: Carrier | null, depth = 0): Packet | null {
  if (depth > DEEPEST || bytes.length === 0) return null;
  const header = bytes[0] >> 4 === 4 ? readIpv4(bytes) : bytes[0] >> 4 === 6 ? readIpv6(bytes) : null;
  if (header === null) return null;
  const { start, ...ip } = header;
  const inside = bytes.subarray(start, Math.max(start, Math.min(bytes.length, ip.length)));
  const payloadLength = Math.max(0, ip.length - start);
  const none = { ports: null, tcp: null, icmp: null, payload: inside, payloadLength, carried: null };
  // only the first fragment has the header of what is inside
  if (ip.fragment !== null && ip.fragment.offset > 0) return { ...ip, ...none };
  const view = new DataView(inside.buffer, inside.byteOffset, inside.byteLength);
  switch (ip.protocol) {
    case wire.PROTOCOL_UDP:
      return inside.length < wire.UDP_HEADER ? { ...ip, ...none } : { ...ip, ...none, ...readUdp(view, inside) };
    case wire.PROTOCOL_TCP:
      return inside.length < 8 ? { ...ip, ...none } : { ...ip, ...none, ...readTcp(view, inside, payloadLength) };
    case wire.PROTOCOL_ICMP:
    case wire.PROTOCOL_ICMPV6:
      return inside.length < 8 ? { ...ip, ...none } : { ...ip, ...none, ...readIcmp(view, inside) };
    default:
      return { ...ip, ...none };
  }

  function readUdp(view: DataView, inside: Uint8Array) {
    const ports = { source: view.getUint16(0), destination: view.getUint16(2) };
    const payload = inside.subarray(wire.UDP_HEADER);
    const length = Math.max(0, payloadLength - wire.UDP_HEADER);
    const carried = carrier?.ports.includes(ports.destination) ? readCarried(payload, length, carrier, depth) : null;
    return { ports, payload, payloadLength: length, carried };
  }

  function readIcmp(view: DataView, inside: Uint8Array) {
    const [type = 0, code = 0] = inside;
    const four = ip.protocol === wire.PROTOCOL_ICMP;
    const isError = four ? [3, 4, 5, 11, 12].includes(type) : type < 128;
    const tellsMtu = four ? type === 3 && code === 4 : type === 2;
    const mtu = tellsMtu ? (four ? view.getUint16(6) : view.getUint32(4)) : null;
    const payload = inside.subarray(8);
    const quoted = isError ? readPacket(payload, carrier, depth + 1) : null;
    return { icmp: { type, code, mtu, quoted }, payload, payloadLength: Math.max(0, payloadLength - 8) };
  }
}

type IpHeader = Pick<
  Packet,
  'family' | 'source' | 'destination' | 'ttl' | 'length' | 'dontFragment' | 'fragment' | 'protocol'
> & { readonly start: number };

function readIpv4(bytes: Uint8Array): IpHeader | null {
  const start = (bytes[0] & 15) * 4;
  if (start < wire.IPV4_MIN_HEADER || bytes.length < start) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const word = view.getUint16(wire.IPV4_FRAGMENT);
  const [offset, more] = [(word & wire.IPV4_FRAGMENT_OFFSET) * 8, (word & 0x2000) !== 0];
  return {
    family: 4,
    source: view.getUint32(wire.IPV4_SOURCE),
    destination: view.getUint32(wire.IPV4_DESTINATION),
    ttl: bytes[wire.IPV4_TTL],
    // a super-packet longer than the field can say has 0 in it
    length: view.getUint16(wire.IPV4_TOTAL_LENGTH) || bytes.length,
    dontFragment: (word & wire.IPV4_DONT_FRAGMENT) !== 0,
    fragment: offset > 0 || more ? { id: view.getUint16(wire.IPV4_ID), offset, more } : null,
    protocol: bytes[wire.IPV4_PROTOCOL],
    start,
  };
}

function readIpv6(bytes: Uint8Array): IpHeader | null {
  if (bytes.length < wire.IPV6_HEADER) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let protocol = bytes[wire.IPV6_NEXT_HEADER];
  let start = wire.IPV6_HEADER;
  let fragment: Packet['fragment'] = null;
  const skipped = [wire.EXTENSION_HOP_BY_HOP, wire.EXTENSION_ROUTING, wire.EXTENSION_DESTINATION];
  while ((skipped.includes(protocol) || protocol === wire.EXTENSION_FRAGMENT) && bytes.length >= start + 8) {
    if (protocol === wire.EXTENSION_FRAGMENT) {
      const word = view.getUint16(start + 2);
      fragment = { id: view.getUint32(start + 4), offset: word & 0xfff8, more: (word & 1) !== 0 };
      protocol = bytes[start];
      start += 8;
      if (fragment.offset > 0) break;
    } else {
      protocol = bytes[start];
      start += (bytes[start + 1] + 1) * 8;
    }
  }
  return {
    family: 6,
    source: view.getBigUint64(wire.IPV6_SOURCE) * 2n ** 64n + view.getBigUint64(wire.IPV6_SOURCE + 8),
    destination: view.getBigUint64(wire.IPV6_DESTINATION) * 2n ** 64n + view.getBigUint64(wire.IPV6_DESTINATION + 8),
    ttl: bytes[wire.IPV6_HOP_LIMIT],
    length: wire.IPV6_HEADER + view.getUint16(wire.IPV6_PAYLOAD_LENGTH),
    dontFragment: true, // nobody on the way may fragment it
    fragment,
    protocol,
    start: Math.min(start, bytes.length),
  };
}

/** Of a quoted segment there may be ports and sequence number alone. */
function readTcp(view: DataView, inside: Uint8Array, length: number) {
  const whole = inside.length >= wire.TCP_MIN_HEADER;
  const header = whole ? (inside[wire.TCP_DATA_OFFSET] >> 4) * 4 : 8;
  return {
    ports: { source: view.getUint16(0), destination: view.getUint16(2) },
    tcp: {
      sequence: view.getUint32(wire.TCP_SEQUENCE),
      acknowledgement: whole ? view.getUint32(wire.TCP_ACKNOWLEDGEMENT) : 0,
      flags: whole ? inside[wire.TCP_FLAGS] : 0,
    },
    payload: inside.subarray(header),
    payloadLength: Math.max(0, length - header),
  };
}

const VXLAN_HEADER = 8;
const ETHERNET_HEADER = 14;
const WIREGUARD_TRANSPORT = 4;
const WIREGUARD_HEADER = 16;

function readCarried(payload: Uint8Array, length: number, { kind }: Carrier, depth: number): Carried | null {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  switch (kind) {
    case 'udp': {
      const packet = readPacket(payload, null, depth + 1);
      // the packets of a run are of equal length but for the last
      return packet === null ? null : { kind, packet, count: Math.max(1, Math.ceil(length / packet.length)) };
    }
    case 'vxlan': {
      // flags with the bit that says that there is a VNI (RFC 7348, 5); then an Ethernet frame with an IP packet
      if (payload.length < VXLAN_HEADER + ETHERNET_HEADER || (payload[0] & 0x08) === 0) return null;
      if (![0x0800, 0x86dd].includes(view.getUint16(VXLAN_HEADER + 12))) return null;
      const packet = readPacket(payload.subarray(VXLAN_HEADER + ETHERNET_HEADER), null, depth + 1);
      return packet === null ? null : { kind, packet, vni: view.getUint32(4) >>> 8 };
    }
    case 'wireguard':
      if (payload.length < WIREGUARD_HEADER || view.getUint32(0, true) !== WIREGUARD_TRANSPORT) return null;
      return { kind, packet: null, counter: view.getBigUint64(8, true) };
  }
}

export function isSyn({ tcp }: Packet): boolean {
  return tcp !== null && (tcp.flags & (TCP_SYN | wire.TCP_ACK)) === TCP_SYN;
}

export function isReset({ tcp }: Packet): boolean {
  return tcp !== null && (tcp.flags & TCP_RST) !== 0;
}

/** From where to where, as people write it: `TCP 100.96.1.2:4711 → 100.96.2.2:80`. */
export function formatEnds(packet: Packet): string {
  const { source, destination, ports } = packet;
  if (ports === null) return `${protocolName(packet)} ${formatAddress(source)} → ${formatAddress(destination)}`;
  const from = formatEndpoint(source, ports.source);
  return `${protocolName(packet)} ${from} → ${formatEndpoint(destination, ports.destination)}`;
}

/** `UDP`, `TCP SYN`, `ICMP echo request`, … */
export function protocolName({ protocol, tcp, icmp, family }: Packet): string {
  if (icmp !== null) return `${family === 4 ? 'ICMP' : 'ICMPv6'} ${icmpName(family, icmp)}`;
  if (tcp !== null) {
    const flags = TCP_FLAGS.filter(([bit]) => (tcp.flags & bit) !== 0).map(([, name]) => name);
    return ['TCP', ...flags].join(' ');
  }
  const names: Record<number, string> = { [wire.PROTOCOL_UDP]: 'UDP', [wire.PROTOCOL_TCP]: 'TCP' };
  names[wire.PROTOCOL_ICMP] = 'ICMP';
  names[wire.PROTOCOL_ICMPV6] = 'ICMPv6';
  return names[protocol] ?? `protocol ${protocol}`;
}

const UNREACHABLE: Readonly<Record<Family, Readonly<Record<number, string>>>> = {
  4: {
    0: 'network unreachable',
    1: 'host unreachable',
    2: 'protocol unreachable',
    3: 'port unreachable',
    4: 'fragmentation needed',
    9: 'network administratively prohibited',
    10: 'host administratively prohibited',
    13: 'administratively prohibited',
  },
  6: { 0: 'no route', 1: 'administratively prohibited', 3: 'address unreachable', 4: 'port unreachable' },
};

export function icmpName(family: Family, { type, code }: { readonly type: number; readonly code: number }): string {
  if (type === ECHO_REQUEST[family]) return 'echo request';
  if (type === ECHO_REPLY[family]) return 'echo reply';
  if (type === (family === 4 ? 3 : 1)) return UNREACHABLE[family][code] ?? `unreachable, code ${code}`;
  if (type === (family === 4 ? 11 : 3)) return 'time exceeded';
  if (family === 6 && type === 2) return 'packet too big';
  return `type ${type}, code ${code}`;
}
