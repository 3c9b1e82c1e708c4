import { fixHeaderChecksum } from '../../../unit/encap/support/packets.js';

/** The packet as a router passes it on: one off the TTL or hop limit. */
export function forwarded(packet: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(packet);
  const version = copy[0]! >> 4;
  copy[version === 4 ? 8 : 7]! -= 1;
  return version === 4 ? fixHeaderChecksum(copy) : copy;
}
