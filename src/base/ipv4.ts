/**
 * IPv4 addresses and prefixes as numbers.
 *
 * An address is an unsigned 32-bit number in host order: 10.1.2.3 is 0x0a010203. Every function returns it unsigned.
 */

/** An IPv4 prefix. `address` has no bits set beyond `length`, except where a function says otherwise. */
export interface Prefix {
  readonly address: number;
  readonly length: number;
}

/** Parses four decimal numbers of 0 to 255 without leading zeros; anything else gives null. */
export function parseIpv4(text: string): number | null {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return null;
  let address = 0;
  for (let i = 1; i <= 4; i++) {
    const digits = match[i];
    const octet = Number(digits);
    if (octet > 255 || (digits.length > 1 && digits[0] === '0')) return null;
    address = address * 256 + octet;
  }
  return address;
}

export function formatIpv4(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/** The netmask of a prefix length of 0 to 32. */
export function netmask(length: number): number {
  return length === 0 ? 0 : (-1 << (32 - length)) >>> 0;
}

/** How many addresses a prefix of this length holds. */
export function prefixSize(length: number): number {
  return 2 ** (32 - length);
}

/** Parses `a.b.c.d/len`; host bits are kept unless `maskHostBits`. Anything else gives null. */
export function parsePrefix(text: string, { maskHostBits = false } = {}): Prefix | null {
  const slash = text.indexOf('/');
  if (slash < 0) return null;
  const address = parseIpv4(text.slice(0, slash));
  const digits = text.slice(slash + 1);
  if (address === null || !/^(\d|[12]\d|3[0-2])$/.test(digits)) return null;
  const length = Number(digits);
  return { address: maskHostBits ? (address & netmask(length)) >>> 0 : address, length };
}

export function formatPrefix(prefix: Prefix): string {
  return `${formatIpv4(prefix.address)}/${prefix.length}`;
}

export function contains(prefix: Prefix, address: number): boolean {
  return ((address ^ prefix.address) & netmask(prefix.length)) === 0;
}

/** Do the two share an address? True when one lies inside the other. */
export function overlaps(a: Prefix, b: Prefix): boolean {
  return contains(a.length <= b.length ? a : b, a.length <= b.length ? b.address : a.address);
}

export function samePrefix(a: Prefix, b: Prefix): boolean {
  return a.address === b.address && a.length === b.length;
}
