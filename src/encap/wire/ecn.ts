/**
 * Explicit congestion notification across a tunnel, as Linux's WireGuard does it: the outer header says what the inner one
 * does, and a mark that a router put on the outer one goes into the inner one (RFC 6040, in its "compatibility mode" for what
 * is marked already). The other six bits of the byte, DSCP, are nobody's business outside.
 */
import { IPV4_CHECKSUM, IPV4_TOS } from './headers.js';

const ECN = 3;
export const ECT_0 = 2;
export const CONGESTION = 3;
/** The field lies four bits higher in IPv6, since half of the traffic class does. */
const IPV6_SHIFT = 4;

/** What the outer header of a packet's datagram says: that of the packet at `at`, and of a marked one that it can be marked. */
export function outerEcn(u8: Uint8Array, at: number): number {
  const ecn = (u8[at] >>> 4 === 4 ? u8[at + IPV4_TOS] : u8[at + IPV4_TOS] >>> IPV6_SHIFT) & ECN;
  return ecn === CONGESTION ? ECT_0 : ecn;
}

/** Marks the packet at `at`, and mends its header checksum. One whose ends do not know marks stays as it is. */
export function markCongestion(u8: Uint8Array, at: number): void {
  if (u8[at] >>> 4 === 6) {
    if (((u8[at + IPV4_TOS] >>> IPV6_SHIFT) & ECN) !== 0) u8[at + IPV4_TOS] |= CONGESTION << IPV6_SHIFT;
    return;
  }
  const ecn = u8[at + IPV4_TOS] & ECN;
  if (ecn === 0) return;
  u8[at + IPV4_TOS] |= CONGESTION;
  // HC' = HC − (m' − m), with the borrow brought round (RFC 1624, equation 4)
  const checksum = ((u8[at + IPV4_CHECKSUM] << 8) | u8[at + IPV4_CHECKSUM + 1]) - (CONGESTION - ecn);
  const folded = checksum < 0 ? checksum + 0xffff : checksum;
  u8[at + IPV4_CHECKSUM] = folded >>> 8;
  u8[at + IPV4_CHECKSUM + 1] = folded;
}
