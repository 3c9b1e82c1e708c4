/** ICMPv6 errors about packets that could not be forwarded (RFC 4443; when to send none: section 2.4). */
import type { SharedMemory } from '../../linux/memory.js';
import { pseudoHeaderSum, type Sum, storeSum } from './checksum.js';
import {
  IPV6_DESTINATION,
  IPV6_HEADER,
  IPV6_HOP_LIMIT,
  IPV6_MIN_MTU,
  IPV6_NEXT_HEADER,
  IPV6_PAYLOAD_LENGTH,
  IPV6_SOURCE,
  PROTOCOL_ICMPV6,
  put16,
  put32,
} from './headers.js';
import { DEFAULT_TTL, type IcmpErrorKind, TOS_INTERNETWORK_CONTROL } from './icmp.js';
import { isMulticastOrLinkLocal, isUnspecifiedOrLoopback, NO_UPPER_LAYER, upperLayer } from './ipv6.js';

export const NO_ROUTE: IcmpErrorKind = { type: 1, code: 0 };
export const PACKET_TOO_BIG: IcmpErrorKind = { type: 2, code: 0 };
export const HOP_LIMIT_EXCEEDED: IcmpErrorKind = { type: 3, code: 0 };

const ICMPV6_HEADER = 8;
const ICMPV6_CHECKSUM = 2;
const ICMPV6_MTU = 4;
/** Types below it are errors. */
const FIRST_INFORMATIONAL = 128;
const REDIRECT = 137;

/** The longest error that we send: as much of the packet as fits the least MTU there is (RFC 4443, section 2.4). */
export const MAX_ICMPV6_ERROR = IPV6_MIN_MTU;

/** Where errors are written, and who they come from. */
export interface Icmpv6ErrorOptions {
  readonly memory: SharedMemory;
  readonly sum: Sum;
  /** Offset of MAX_ICMPV6_ERROR bytes, aligned to four, that get the error, a whole IPv6 packet. */
  readonly to: number;
  /** Address that errors come from, sixteen bytes. */
  readonly source: Uint8Array;
}

/**
 * Writes an ICMPv6 error about a packet into other memory.
 *
 * @param packet offset of the packet's IPv6 header
 * @param available how many of the packet's bytes lie there; never more are quoted
 * @param mtu for "packet too big", else 0
 * @returns the error's length, or 0 when none may be sent about this packet
 */
export function writeIcmpv6Error(
  { memory, sum, to, source }: Icmpv6ErrorOptions,
  kind: IcmpErrorKind,
  packet: number,
  available: number,
  mtu: number,
): number {
  const { u8, view } = memory;
  if (available < IPV6_HEADER || !mayBeAnswered(memory, packet, available)) return 0;

  const quoted = Math.min(available, MAX_ICMPV6_ERROR - IPV6_HEADER - ICMPV6_HEADER);
  const icmp = to + IPV6_HEADER;
  const length = ICMPV6_HEADER + quoted;
  put32(view, to, (0x60 << 24) | (TOS_INTERNETWORK_CONTROL << 20));
  put16(view, to + IPV6_PAYLOAD_LENGTH, length);
  u8[to + IPV6_NEXT_HEADER] = PROTOCOL_ICMPV6;
  u8[to + IPV6_HOP_LIMIT] = DEFAULT_TTL;
  for (let i = 0; i < 16; i++) {
    u8[to + IPV6_SOURCE + i] = source[i];
    u8[to + IPV6_DESTINATION + i] = u8[packet + IPV6_SOURCE + i];
  }
  u8[icmp] = kind.type;
  u8[icmp + 1] = kind.code;
  put16(view, icmp + ICMPV6_CHECKSUM, 0);
  put32(view, icmp + ICMPV6_MTU, mtu);
  for (let i = 0; i < quoted; i++) u8[icmp + ICMPV6_HEADER + i] = u8[packet + i];
  storeSum(view, icmp + ICMPV6_CHECKSUM, ~sum(icmp, length, pseudoHeaderSum(view, to, 6, PROTOCOL_ICMPV6, length)));
  return IPV6_HEADER + length;
}

/** An error has one host to go to, and is no answer to an error, nor to what may be one but cannot be read. */
function mayBeAnswered({ u8, view }: SharedMemory, packet: number, available: number): boolean {
  const source = packet + IPV6_SOURCE;
  const destination = packet + IPV6_DESTINATION;
  if (isMulticastOrLinkLocal(u8, source) || isUnspecifiedOrLoopback(view, source)) return false;
  if (isMulticastOrLinkLocal(u8, destination) || isUnspecifiedOrLoopback(view, destination)) return false;
  const upper = upperLayer(u8, view, packet, available);
  if (upper === NO_UPPER_LAYER) return false;
  if ((upper & 255) !== PROTOCOL_ICMPV6) return true;
  const at = upper >>> 8;
  if (at >= available) return false;
  const type = u8[packet + at];
  return type >= FIRST_INFORMATIONAL && type !== REDIRECT;
}
