import { type Address, type AnyPrefix, parseAnyPrefix, prefixesOverlap } from './address.js';

/** Why no host can have this address, as in “is a loopback address”; empty when one can. */
export function whyNoHosts(address: Address): string {
  return typeof address === 'number' ? unusableAddress(address) : unusableAddressV6(address);
}

/** Why no host can have an address (RFC 6890, RFC 5771); empty when one can. */
function unusableAddress(address: number): string {
  const first = address >>> 24;
  if (first === 0) return 'of “this network”';
  if (first === 127) return 'a loopback address';
  if (first >= 224 && first < 240) return 'a multicast address';
  if (address === 0xffff_ffff) return 'the broadcast address';
  if (first >= 240) return 'of a reserved block';
  return '';
}

/** The same for IPv6 (RFC 4291). A link-local address means nothing without its link, and a mapped one is of IPv4. */
function unusableAddressV6(address: bigint): string {
  if (address === 0n) return 'the unspecified address';
  if (address === 1n) return 'the loopback address';
  if (address >> 120n === 0xffn) return 'a multicast address';
  if (address >> 118n === 0xfe80n >> 6n) return 'a link-local address';
  if (address >> 32n === 0xffffn) return 'an IPv4 address in the form of IPv6';
  return '';
}

/** Where the kernel takes no route for containers, or sends nothing to another host by it. */
const noContainers: readonly (readonly [network: string, what: string])[] = [
  ['127.0.0.0/8', 'loopback addresses'],
  ['224.0.0.0/4', 'multicast addresses'],
  ['::1/128', 'the loopback address'],
  ['fe80::/10', 'link-local addresses'],
  ['ff00::/8', 'multicast addresses'],
];

/** What is in a network that no container can have, as in “loopback addresses (127.0.0.0/8)”; empty where there is nothing. */
export function whyNoContainers(network: AnyPrefix): string {
  const found = noContainers.find(([text]) => prefixesOverlap(network, parseAnyPrefix(text) as AnyPrefix));
  return found === undefined ? '' : `${found[1]} (${found[0]})`;
}
