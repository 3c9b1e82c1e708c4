/**
 * ICMP errors about packets that could not be forwarded (RFC 792; when to send none: RFC 1122 section 3.2.2, RFC 1812
 * section 4.3.2).
 */
import type { SharedMemory } from '../../linux/memory.js';
import { type Sum, storeSum } from './checksum.js';
import {
  get16,
  get32,
  IPV4_CHECKSUM,
  IPV4_DESTINATION,
  IPV4_DONT_FRAGMENT,
  IPV4_FRAGMENT,
  IPV4_FRAGMENT_OFFSET,
  IPV4_ID,
  IPV4_MIN_HEADER,
  IPV4_PROTOCOL,
  IPV4_SOURCE,
  IPV4_TOS,
  IPV4_TOTAL_LENGTH,
  IPV4_TTL,
  PROTOCOL_ICMP,
  put16,
  put32,
} from './headers.js';

/** What an error says. */
export interface IcmpErrorKind {
  readonly type: number;
  readonly code: number;
}
export const NET_UNREACHABLE: IcmpErrorKind = { type: 3, code: 0 };
export const FRAGMENTATION_NEEDED: IcmpErrorKind = { type: 3, code: 4 };
export const TIME_EXCEEDED: IcmpErrorKind = { type: 11, code: 0 };

const ICMP_HEADER = 8;
const ICMP_CHECKSUM = 2;
const ICMP_NEXT_HOP_MTU = 6;
/** Precedence "internetwork control", as RFC 1812 section 4.3.2.5 asks of routers. */
export const TOS_INTERNETWORK_CONTROL = 0xc0;
export const DEFAULT_TTL = 64;

/** The longest error that we send: as much of the packet as fits 576 bytes (RFC 1812 section 4.3.2.3). */
export const MAX_ICMP_ERROR = 576;

/** Destination unreachable, source quench, redirect, time exceeded, parameter problem. */
function isIcmpError(type: number): boolean {
  return type === 3 || type === 4 || type === 5 || type === 11 || type === 12;
}

/** Is it one host's address, one that an answer may go to? Not 0/8, 127/8, multicast, reserved or broadcast. */
function isUnicast(firstOctet: number): boolean {
  return firstOctet !== 0 && firstOctet !== 127 && firstOctet < 224;
}

/** Where errors are written, and who they come from. */
export interface IcmpErrorOptions {
  readonly memory: SharedMemory;
  readonly sum: Sum;
  /** Offset of MAX_ICMP_ERROR bytes that get the error, a whole IPv4 packet. */
  readonly to: number;
  /** Address that errors come from, host order. */
  readonly source: number;
}

/**
 * Writes an ICMP error about a packet into other memory.
 *
 * @param packet offset of the packet's IPv4 header
 * @param available how many of the packet's bytes lie there; never more are quoted
 * @param mtu next-hop MTU for "fragmentation needed" (RFC 1191), else 0
 * @returns the error's length, or 0 when none may be sent about this packet
 */
export function writeIcmpError(
  { memory, sum, to, source }: IcmpErrorOptions,
  kind: IcmpErrorKind,
  packet: number,
  available: number,
  mtu: number,
): number {
  const { u8, view } = memory;
  if (available < IPV4_MIN_HEADER) return 0;
  const headerLength = (u8[packet] & 15) * 4;
  if (headerLength < IPV4_MIN_HEADER || headerLength > available) return 0;
  if ((get16(view, packet + IPV4_FRAGMENT) & IPV4_FRAGMENT_OFFSET) !== 0) return 0;
  if (!isUnicast(u8[packet + IPV4_SOURCE]) || !isUnicast(u8[packet + IPV4_DESTINATION])) return 0;
  if (u8[packet + IPV4_PROTOCOL] === PROTOCOL_ICMP) {
    if (available <= headerLength || isIcmpError(u8[packet + headerLength])) return 0;
  }

  const quoted = Math.min(available, MAX_ICMP_ERROR - IPV4_MIN_HEADER - ICMP_HEADER);
  const icmp = to + IPV4_MIN_HEADER;
  const total = IPV4_MIN_HEADER + ICMP_HEADER + quoted;
  u8[to] = 0x45;
  u8[to + IPV4_TOS] = TOS_INTERNETWORK_CONTROL;
  put16(view, to + IPV4_TOTAL_LENGTH, total);
  put16(view, to + IPV4_ID, 0);
  put16(view, to + IPV4_FRAGMENT, IPV4_DONT_FRAGMENT);
  u8[to + IPV4_TTL] = DEFAULT_TTL;
  u8[to + IPV4_PROTOCOL] = PROTOCOL_ICMP;
  put16(view, to + IPV4_CHECKSUM, 0);
  put32(view, to + IPV4_SOURCE, source);
  put32(view, to + IPV4_DESTINATION, get32(view, packet + IPV4_SOURCE));
  storeSum(view, to + IPV4_CHECKSUM, ~sum(to, IPV4_MIN_HEADER, 0));

  u8[icmp] = kind.type;
  u8[icmp + 1] = kind.code;
  put32(view, icmp + ICMP_CHECKSUM, 0);
  put16(view, icmp + ICMP_NEXT_HOP_MTU, mtu);
  for (let i = 0; i < quoted; i++) u8[icmp + ICMP_HEADER + i] = u8[packet + i];
  storeSum(view, icmp + ICMP_CHECKSUM, ~sum(icmp, ICMP_HEADER + quoted, 0));
  return total;
}

/** At most `perSecond` events a second in the long run, `burst` at once (RFC 1812 section 4.3.2.8). */
export class RateLimit {
  #tokens: number;
  #lastMs = 0;

  constructor(
    readonly perSecond: number,
    readonly burst: number,
  ) {
    this.#tokens = burst;
  }

  /** May one more happen now? @param nowMs a clock in milliseconds; stepping back only delays */
  take(nowMs: number): boolean {
    const elapsed = Math.max(0, nowMs - this.#lastMs);
    this.#lastMs = nowMs;
    this.#tokens = Math.min(this.burst, this.#tokens + (elapsed * this.perSecond) / 1000);
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
