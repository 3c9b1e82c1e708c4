import { formatIpv4, netmask, parseIpv4 } from '../base/ipv4.js';
import { formatIpv6, type Ipv6Prefix, netmaskV6, parseIpv6 } from '../base/ipv6.js';
import { JsonError, parseJson } from '../base/json.js';
import { membersOf } from '../base/members.js';
import { shown } from '../base/printable.js';
import { MalformedLeaseError } from './errors.js';
import type { LeaseAttributes, Subnets } from './lease.js';

/** flannel's default place for everything. */
export const DEFAULT_ETCD_PREFIX = '/coreos.com/network';
/** flannel's longest, tencent-vpc, has eleven characters. */
const LONGEST_TYPE = 64;

/**
 * `10.5.34.0-24`; `10.5.34.0-24&fd00:5:0:22::-64` with both halves; `fd00:5:0:22::-64` without an IPv4 one. The last is our
 * own: flannel's `0.0.0.0-0&…` means every IPv4 address to a flanneld that has IPv4.
 */
export function formatSubnetKey({ subnet, subnetV6 }: Subnets): string {
  const second = subnetV6 === null ? [] : [`${formatIpv6(subnetV6.address)}-${subnetV6.length}`];
  const first = subnet === null ? [] : [`${formatIpv4(subnet.address)}-${subnet.length}`];
  return [...first, ...second].join('&');
}

/** Is this the key of a lease without an IPv4 half, in the form that flannel does not have? */
export function isIpv6OnlyKey(key: string): boolean {
  return /^[\da-fA-F]*:[\da-fA-F:]*-\d+$/.test(key);
}

/**
 * Reads a key as flannel writes it, or in our own form for a lease without IPv4. flannel's own reader is an expression
 * anchored at the end only, which takes any prefix and any character in place of two of the dots; here the whole key must
 * be right, host bits included.
 *
 * @throws MalformedLeaseError
 */
export function parseSubnetKey(key: string): Subnets {
  if (isIpv6OnlyKey(key)) return { subnet: null, subnetV6: parseV6Half(key, key, '') };
  const [first = '', second, ...rest] = key.split('&');
  if (rest.length > 0) throw new MalformedLeaseError(key, 'has more than one "&"');
  const subnetV6 = second === undefined ? null : parseV6Half(key, second, 'has a second half that ');
  const match = /^([\d.]+)-(\d{1,2})$/.exec(first);
  const address = match === null ? null : parseIpv4(match[1] as string);
  const length = match === null ? 0 : Number(match[2]);
  if (address === null || length > 32 || String(length) !== match?.[2]) {
    throw new MalformedLeaseError(key, 'is not of the form a.b.c.d-length');
  }
  if (address === 0 && length === 0 && subnetV6 !== null) return { subnet: null, subnetV6 };
  if (length === 0) throw new MalformedLeaseError(key, 'claims every address there is');
  if ((address & netmask(length)) >>> 0 !== address) {
    throw new MalformedLeaseError(key, `is not the first address of a /${length}`);
  }
  return { subnet: { address, length }, subnetV6 };
}

function parseV6Half(key: string, half: string, which: string): Ipv6Prefix {
  const match = /^([\da-fA-F:]+)-(\d{1,3})$/.exec(half);
  const address = match === null ? null : parseIpv6(match[1] as string);
  const length = match === null ? 0 : Number(match[2]);
  if (address === null || length > 128 || String(length) !== match?.[2]) {
    throw new MalformedLeaseError(key, `${which}is not of the form IPv6-length`);
  }
  if (length === 0) throw new MalformedLeaseError(key, `${which}claims every address there is`);
  if ((address & netmaskV6(length)) !== address) {
    throw new MalformedLeaseError(key, `${which}is not the first address of a /${length}`);
  }
  return { address, length };
}

/**
 * The exact bytes that flannel stores: its member order, no spaces, and the backend's members only when there are any.
 * A `udp` lease is `{"PublicIP":"192.0.2.1","PublicIPv6":null}`.
 */
export function encodeLeaseValue(attributes: LeaseAttributes): string {
  const value: Record<string, unknown> = {
    PublicIP: formatIpv4(attributes.publicIp),
    PublicIPv6: attributes.publicIpv6 === null ? null : formatIpv6(attributes.publicIpv6),
  };
  if (attributes.backendType !== undefined && attributes.backendType !== '') value.BackendType = attributes.backendType;
  if (attributes.backendData !== undefined) value.BackendData = attributes.backendData;
  if (attributes.backendV6Data !== undefined) value.BackendV6Data = attributes.backendV6Data;
  // Go escapes these inside strings so that JSON can be pasted into HTML; they occur nowhere else in JSON.
  return JSON.stringify(value).replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/**
 * Reads a lease's value. Missing and unknown members are fine, names are matched without regard to case.
 *
 * @throws MalformedLeaseError
 */
export function decodeLeaseValue(key: string, text: string): LeaseAttributes {
  const members = parseMembers(key, text);
  const publicIp = members.get('publicip') ?? '0.0.0.0';
  const address = typeof publicIp === 'string' ? parseIpv4(publicIp) : null;
  if (address === null) throw new MalformedLeaseError(key, `PublicIP ${shown(publicIp)} is no IPv4 address`);
  const publicIpv6 = members.get('publicipv6') ?? null;
  const addressV6 = typeof publicIpv6 === 'string' ? parseIpv6(publicIpv6) : null;
  if (publicIpv6 !== null && addressV6 === null) {
    throw new MalformedLeaseError(key, `PublicIPv6 ${shown(publicIpv6)} is no IPv6 address`);
  }
  const backendType = members.get('backendtype') ?? '';
  if (typeof backendType !== 'string' || backendType.length > LONGEST_TYPE) {
    throw new MalformedLeaseError(key, `BackendType ${shown(backendType)} is no name of a backend`);
  }
  const backendData = members.get('backenddata');
  const backendV6Data = members.get('backendv6data');
  return {
    publicIp: address,
    publicIpv6: addressV6,
    ...(backendType === '' ? {} : { backendType }),
    ...(backendData === undefined ? {} : { backendData }),
    ...(backendV6Data === undefined ? {} : { backendV6Data }),
  };
}

function parseMembers(key: string, text: string): ReadonlyMap<string, unknown> {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw new MalformedLeaseError(key, `its value cannot be used: ${error.problem}`);
  }
  const members = membersOf(value);
  if (members === null) throw new MalformedLeaseError(key, 'its value is no JSON object');
  return members;
}
