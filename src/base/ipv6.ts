import { parseIpv4 } from './ipv4.js';

/**
 * IPv6 addresses as 128-bit integers: just enough to check the IPv6 keys of a configuration and to write the IPv6 half of
 * a dual-stack lease key as Go's net.IP.String() writes it (RFC 5952).
 */

export interface Ipv6Prefix {
  readonly address: bigint;
  readonly length: number;
}

const ALL_ONES = (1n << 128n) - 1n;

/**
 * Parses an IPv6 address in any legal spelling (RFC 4291 section 2.2) without a zone; anything else gives null. Node's `isIPv6`
 * is not asked: forwarder threads would load all of `node:net` for it, and its regular expression takes a start milliseconds. What
 * is no text at all gives null, too: in what programs print as JSON a member may be missing.
 */
export function parseIpv6(text: string): bigint | null {
  const plain = typeof text === 'string' ? withoutDots(text) : null;
  if (plain === null) return null;
  const [left = '', right, ...more] = plain.split('::');
  const leftGroups = left === '' ? [] : left.split(':');
  const rightGroups = right === undefined || right === '' ? [] : right.split(':');
  const zeros = 8 - leftGroups.length - rightGroups.length;
  if (more.length > 0 || (right === undefined ? zeros !== 0 : zeros < 1)) return null;
  const groups = [...leftGroups, ...new Array<string>(zeros).fill('0'), ...rightGroups];
  if (!groups.every((group) => /^[\da-f]{1,4}$/i.test(group))) return null;
  return BigInt(`0x${groups.map((group) => group.padStart(4, '0')).join('')}`);
}

/** With two groups in place of a dotted end; null where that is none. */
function withoutDots(text: string): string | null {
  const colon = text.lastIndexOf(':') + 1;
  if (!text.includes('.', colon)) return text;
  const low = parseIpv4(text.slice(colon));
  return low === null ? null : `${text.slice(0, colon)}${(low >>> 16).toString(16)}:${(low & 0xffff).toString(16)}`;
}

/** The shortest spelling: lower case, the first longest run of two or more zero groups as `::`. */
export function formatIpv6(address: bigint): string {
  const digits = address.toString(16).padStart(32, '0'); // arithmetic on wide integers takes many times as long
  const groups = Array.from({ length: 8 }, (_, i) => Number.parseInt(digits.slice(4 * i, 4 * i + 4), 16));
  let best = { start: -1, length: 1 };
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > best.length) best = { start: i, length: end - i };
  }
  const hex = (part: number[]) => part.map((group) => group.toString(16)).join(':');
  if (best.start < 0) return hex(groups);
  return `${hex(groups.slice(0, best.start))}::${hex(groups.slice(best.start + best.length))}`;
}

/** The netmask of a prefix length of 0 to 128. */
export function netmaskV6(length: number): bigint {
  return (ALL_ONES << BigInt(128 - length)) & ALL_ONES;
}

/** Parses `address/length` and clears the host bits; anything else gives null. */
export function parseIpv6Prefix(text: string): Ipv6Prefix | null {
  const slash = text.indexOf('/');
  if (slash < 0) return null;
  const address = parseIpv6(text.slice(0, slash));
  const digits = text.slice(slash + 1);
  if (address === null || !/^(\d|[1-9]\d|1[01]\d|12[0-8])$/.test(digits)) return null;
  const length = Number(digits);
  return { address: address & netmaskV6(length), length };
}

export function formatIpv6Prefix(prefix: Ipv6Prefix): string {
  return `${formatIpv6(prefix.address)}/${prefix.length}`;
}

export function containsIpv6(prefix: Ipv6Prefix, address: bigint): boolean {
  return (address & netmaskV6(prefix.length)) === prefix.address;
}
