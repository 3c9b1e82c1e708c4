/** Where the fields of the inner headers stand (RFC 791, 8200, 9293, 768, 792, 4443), and how to read and write them. */

export const IPV4_MIN_HEADER = 20;
export const IPV4_TOS = 1;
export const IPV4_TOTAL_LENGTH = 2;
export const IPV4_ID = 4;
export const IPV4_FRAGMENT = 6;
export const IPV4_TTL = 8;
export const IPV4_PROTOCOL = 9;
export const IPV4_CHECKSUM = 10;
export const IPV4_SOURCE = 12;
export const IPV4_DESTINATION = 16;

/** Bits of the 16-bit word at IPV4_FRAGMENT. */
export const IPV4_DONT_FRAGMENT = 0x4000;
export const IPV4_FRAGMENT_OFFSET = 0x1fff;

export const IPV6_HEADER = 40;
export const IPV6_PAYLOAD_LENGTH = 4;
export const IPV6_NEXT_HEADER = 6;
export const IPV6_HOP_LIMIT = 7;
export const IPV6_SOURCE = 8;
export const IPV6_DESTINATION = 24;

/** The least MTU of a link that carries IPv6 (RFC 8200, section 5). */
export const IPV6_MIN_MTU = 1280;

/** Extension headers of IPv6 (RFC 8200, section 4; RFC 4302). */
export const EXTENSION_HOP_BY_HOP = 0;
export const EXTENSION_ROUTING = 43;
export const EXTENSION_FRAGMENT = 44;
export const EXTENSION_AUTHENTICATION = 51;
export const EXTENSION_DESTINATION = 60;

export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
export const PROTOCOL_ICMPV6 = 58;

export const TCP_MIN_HEADER = 20;
export const TCP_SEQUENCE = 4;
export const TCP_ACKNOWLEDGEMENT = 8;
/** Data offset, in units of four bytes, in the upper half of this byte. */
export const TCP_DATA_OFFSET = 12;
export const TCP_FLAGS = 13;
export const TCP_CHECKSUM = 16;
export const TCP_URGENT = 18;

export const TCP_FIN = 0x01;
export const TCP_PSH = 0x08;
export const TCP_ACK = 0x10;
export const TCP_ECE = 0x40;
export const TCP_CWR = 0x80;

export const UDP_HEADER = 8;
export const UDP_LENGTH = 4;
export const UDP_CHECKSUM = 6;

/** What the underlay adds to a datagram, in bytes: its IP and UDP headers. */
export const OVERHEAD_IPV4 = IPV4_MIN_HEADER + UDP_HEADER;
export const OVERHEAD_IPV6 = IPV6_HEADER + UDP_HEADER;

/** The longest headers that any packet may have before its payload: IPv4 and TCP with all options, or IPv6 and TCP. */
export const MAX_HEADERS = 120;

/** Reads two bytes in network order. */
export function get16(view: DataView, at: number): number {
  return view.getUint16(at);
}

/** Writes the low 16 bits of `value` in network order. */
export function put16(view: DataView, at: number, value: number): void {
  view.setUint16(at, value);
}

/** Reads four bytes in network order, as a signed number: fine for comparing and for adding modulo 2³². */
export function get32(view: DataView, at: number): number {
  return view.getInt32(at);
}

/** Writes the low 32 bits of `value` in network order. */
export function put32(view: DataView, at: number, value: number): void {
  view.setInt32(at, value);
}
