/**
 * Questions to IPv6 addresses as they lie in a packet: nothing here makes an object, least of all a 128-bit number.
 */
import type { Ipv6Prefix } from '../../base/ipv6.js';
import { netmaskV6 } from '../../base/ipv6.js';
import { putIpv6 } from '../../linux/structs.js';
import {
  EXTENSION_AUTHENTICATION,
  EXTENSION_DESTINATION,
  EXTENSION_FRAGMENT,
  EXTENSION_HOP_BY_HOP,
  EXTENSION_ROUTING,
  get16,
  get32,
  IPV6_HEADER,
  IPV6_NEXT_HEADER,
} from './headers.js';

/** A network that addresses are compared with, in four words. */
export class Ipv6Net {
  readonly #a: number;
  readonly #b: number;
  readonly #c: number;
  readonly #d: number;
  readonly #maskA: number;
  readonly #maskB: number;
  readonly #maskC: number;
  readonly #maskD: number;

  constructor({ address, length }: Ipv6Prefix) {
    const mask = netmaskV6(length);
    this.#a = wordOf(address, 0);
    this.#b = wordOf(address, 1);
    this.#c = wordOf(address, 2);
    this.#d = wordOf(address, 3);
    this.#maskA = wordOf(mask, 0);
    this.#maskB = wordOf(mask, 1);
    this.#maskC = wordOf(mask, 2);
    this.#maskD = wordOf(mask, 3);
  }

  /** @param at offset of an address */
  contains(view: DataView, at: number): boolean {
    return (
      (((get32(view, at) ^ this.#a) & this.#maskA) |
        ((get32(view, at + 4) ^ this.#b) & this.#maskB) |
        ((get32(view, at + 8) ^ this.#c) & this.#maskC) |
        ((get32(view, at + 12) ^ this.#d) & this.#maskD)) ===
      0
    );
  }
}

/** The word of 32 bits, signed, of which 0 is the first on the wire. */
function wordOf(address: bigint, index: number): number {
  return Number(BigInt.asIntN(32, address >> BigInt(96 - 32 * index)));
}

/** An address as it lies in a packet. */
export function ipv6Bytes(address: bigint): Uint8Array {
  const bytes = new Uint8Array(16);
  putIpv6(bytes, 0, address);
  return bytes;
}

/** An address that leads to no one host, or to none beyond its own link, so that no tunnel has a way to it. @param at its offset */
export function isMulticastOrLinkLocal(u8: Uint8Array, at: number): boolean {
  const first = u8[at];
  return first === 0xff || (first === 0xfe && (u8[at + 1] & 0xc0) === 0x80);
}

/** No address at all (`::`), or the host's own (`::1`). @param at its offset */
export function isUnspecifiedOrLoopback(view: DataView, at: number): boolean {
  return (get32(view, at) | get32(view, at + 4) | get32(view, at + 8)) === 0 && (get32(view, at + 12) & ~1) === 0;
}

/** What `upperLayer` finds where the packet ends, as far as it is there, before its last header. */
export const NO_UPPER_LAYER = -1;
/** More extension headers than any packet has. */
const MOST_EXTENSIONS = 8;

/**
 * Where the header behind the extension headers begins, and of which protocol it is: `offset × 256 + protocol`, the offset
 * from the start of the packet. A later fragment has none.
 *
 * @param packet offset of a whole IPv6 header
 * @param available how many of the packet's bytes lie there
 */
export function upperLayer(u8: Uint8Array, view: DataView, packet: number, available: number): number {
  let protocol = u8[packet + IPV6_NEXT_HEADER];
  let at = IPV6_HEADER;
  for (let i = 0; i < MOST_EXTENSIONS; i++) {
    if (!isExtension(protocol)) return at * 256 + protocol;
    if (at + 8 > available) return NO_UPPER_LAYER;
    // the offset of a fragment is in units of eight bytes, above three other bits
    if (protocol === EXTENSION_FRAGMENT && get16(view, packet + at + 2) >>> 3 !== 0) return NO_UPPER_LAYER;
    const length = u8[packet + at + 1];
    const bytes =
      protocol === EXTENSION_FRAGMENT ? 8 : protocol === EXTENSION_AUTHENTICATION ? (length + 2) * 4 : (length + 1) * 8;
    protocol = u8[packet + at];
    at += bytes;
  }
  return NO_UPPER_LAYER;
}

function isExtension(protocol: number): boolean {
  return (
    protocol === EXTENSION_HOP_BY_HOP ||
    protocol === EXTENSION_ROUTING ||
    protocol === EXTENSION_FRAGMENT ||
    protocol === EXTENSION_AUTHENTICATION ||
    protocol === EXTENSION_DESTINATION
  );
}
