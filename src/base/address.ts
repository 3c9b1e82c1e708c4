/**
 * Addresses and prefixes of either family. The family is told by the value: an IPv4 address is a `number` (host order), an
 * IPv6 address a `bigint`, so a prefix of one family can never be taken for one of the other, and IPv4 alone pays nothing.
 */

import { contains, formatIpv4, formatPrefix, type Prefix, parseIpv4, parsePrefix } from './ipv4.js';
import { containsIpv6, formatIpv6, formatIpv6Prefix, type Ipv6Prefix, parseIpv6, parseIpv6Prefix } from './ipv6.js';

export type Address = number | bigint;
export type AnyPrefix = Prefix | Ipv6Prefix;
export type Family = 4 | 6;

export function familyOf(address: Address): Family {
  return typeof address === 'number' ? 4 : 6;
}

export function isIpv4Prefix(prefix: AnyPrefix): prefix is Prefix {
  return typeof prefix.address === 'number';
}

/** How many bits an address of the family has, which is also the length of a prefix that holds one address. */
export function addressBits(family: Family): 32 | 128 {
  return family === 4 ? 32 : 128;
}

/** The prefix that holds this address alone. */
export function hostPrefix(address: Address): AnyPrefix {
  return typeof address === 'number' ? { address, length: 32 } : { address, length: 128 };
}

/** Parses an address of either family without a zone; anything else gives null. */
export function parseAddress(text: string): Address | null {
  return parseIpv4(text) ?? parseIpv6(text);
}

export function formatAddress(address: Address): string {
  return typeof address === 'number' ? formatIpv4(address) : formatIpv6(address);
}

/** As an authority is written, an IPv6 address in brackets (RFC 3986, 3.2.2). */
export function formatEndpoint(address: Address, port: number): string {
  return typeof address === 'number' ? `${formatIpv4(address)}:${port}` : `[${formatIpv6(address)}]:${port}`;
}

/** Parses `address/length` of either family and clears the host bits; anything else gives null. */
export function parseAnyPrefix(text: string): AnyPrefix | null {
  return parsePrefix(text, { maskHostBits: true }) ?? parseIpv6Prefix(text);
}

export function formatAnyPrefix(prefix: AnyPrefix): string {
  return isIpv4Prefix(prefix) ? formatPrefix(prefix) : formatIpv6Prefix(prefix);
}

/** False for an address of the other family. */
export function prefixContains(prefix: AnyPrefix, address: Address): boolean {
  if (isIpv4Prefix(prefix)) return typeof address === 'number' && contains(prefix, address);
  return typeof address === 'bigint' && containsIpv6(prefix, address);
}

/** Does the prefix hold all of the other one? False for one of the other family. */
export function prefixCovers(outer: AnyPrefix, inner: AnyPrefix): boolean {
  return outer.length <= inner.length && prefixContains(outer, inner.address);
}

/** Do the two share an address? True when one lies inside the other. */
export function prefixesOverlap(a: AnyPrefix, b: AnyPrefix): boolean {
  return prefixCovers(a, b) || prefixCovers(b, a);
}

/** One family's addresses differ from the other's in type, so they are never the same. */
export function sameAnyPrefix(a: AnyPrefix, b: AnyPrefix): boolean {
  return a.address === b.address && a.length === b.length;
}

/** IPv4 first, then by address, then the shorter prefix first. */
export function comparePrefixes(a: AnyPrefix, b: AnyPrefix): number {
  const families = familyOf(a.address) - familyOf(b.address);
  if (families !== 0 || a.address === b.address) return families || a.length - b.length;
  return a.address < b.address ? -1 : 1;
}
