import { randomBytes } from 'node:crypto';

/** Six octets, with colons or hyphens, made lower case with colons; anything else gives null. */
export function parseMac(text: string): string | null {
  const match = /^[\da-f]{2}([:-])[\da-f]{2}(?:\1[\da-f]{2}){4}$/i.exec(text);
  return match === null ? null : text.toLowerCase().replaceAll('-', ':');
}

/** An address that one station can have: not for groups, not all zero (IEEE 802, 8.2). */
export function isStationMac(mac: string): boolean {
  return mac !== '00:00:00:00:00:00' && (Number.parseInt(mac.slice(0, 2), 16) & 1) === 0;
}

/** A random address of those that are administered locally, which no manufacturer gives out. */
export function randomMac(): string {
  const octets = randomBytes(6);
  octets[0] = ((octets[0] as number) & 0xfc) | 0x02;
  return [...octets].map((octet) => octet.toString(16).padStart(2, '0')).join(':');
}
