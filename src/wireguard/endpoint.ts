import { isIPv4 } from 'node:net';
import { type Address, familyOf } from '../base/address.js';

/** Where a peer's datagrams come from and go to. */
export interface Endpoint {
  /** 4 bytes for IPv4, 16 for IPv6, in network order. */
  readonly address: Uint8Array;
  readonly port: number;
}

export function sameEndpoint(a: Endpoint | undefined, b: Endpoint | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.port === b.port && Buffer.compare(a.address, b.address) === 0;
}

/** The bytes that a cookie is made for: the address, then the port, big-endian. */
export function endpointBytes({ address, port }: Endpoint): Uint8Array {
  return Uint8Array.of(...address, port >>> 8, port & 255);
}

export function endpointOf(address: Address, port: number): Endpoint {
  const bytes = new Uint8Array(familyOf(address) === 4 ? 4 : 16);
  const view = new DataView(bytes.buffer);
  if (typeof address === 'number') view.setUint32(0, address);
  else {
    view.setBigUint64(0, address >> 64n);
    view.setBigUint64(8, BigInt.asUintN(64, address));
  }
  return { address: bytes, port };
}

export function addressOf({ address }: Endpoint): Address {
  const view = new DataView(address.buffer, address.byteOffset, address.byteLength);
  return address.length === 4 ? view.getUint32(0) : (view.getBigUint64(0) << 64n) | view.getBigUint64(8);
}

/** As the user API writes it: `192.0.2.1:51820`, `[2001:db8::1]:51820`. */
export function formatEndpoint({ address, port }: Endpoint): string {
  if (address.length === 4) return `${address.join('.')}:${port}`;
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((address[i] << 8) | address[i + 1]).toString(16));
  // the longest run of zero groups, the first of equals, at least two long (RFC 5952, section 4.2)
  let [start, length] = [-1, 1];
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && groups[end] === '0') end++;
    if (end - i > length) [start, length] = [i, end - i];
  }
  if (start < 0) return `[${groups.join(':')}]:${port}`;
  return `[${groups.slice(0, start).join(':')}::${groups.slice(start + length).join(':')}]:${port}`;
}

/** @param address dotted decimal @returns undefined when it is not */
export function ipv4Endpoint(address: string, port: number): Endpoint | undefined {
  return isIPv4(address) ? { address: Uint8Array.from(address.split('.'), Number), port } : undefined;
}
