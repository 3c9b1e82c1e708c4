/**
 * The Internet checksum (RFC 1071) over shared memory.
 *
 * Sums are "partial sums" in this room: folded or not, of 16-bit words read little-endian, as they lie in memory. The
 * one's complement sum does not mind the byte order as long as it is the same throughout, so a folded sum is stored
 * with `storeSum` and is right on the wire. A number that is not in memory (a length, a sequence number) is brought
 * into that order by `swap16` before it is added.
 */
import { readFileSync } from 'node:fs';
import { packageFile } from '../../base/package.js';
import type { SharedMemory } from '../../linux/memory.js';
import { IPV4_CHECKSUM, IPV4_SOURCE, IPV4_TTL, IPV6_SOURCE } from './headers.js';

/** Adds `length` bytes at offset `at` to `initial`; returns the sum folded to 16 bits. */
export type Sum = (at: number, length: number, initial: number) => number;

let compiled: WebAssembly.Module | undefined;

/** The checksum kernel, bound to one memory. */
export function createSum(memory: SharedMemory): Sum {
  compiled ??= new WebAssembly.Module(readFileSync(packageFile('dist/encap/wire/checksum.wasm')));
  const instance = new WebAssembly.Instance(compiled, { env: { memory: memory.memory } });
  return instance.exports.sum as Sum;
}

/** Folds a sum of up to 32 bits to 16. */
export function fold(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}

export function swap16(value: number): number {
  return ((value & 0xff) << 8) | ((value >>> 8) & 0xff);
}

/** Stores a folded sum (or its complement) so that it is right on the wire. */
export function storeSum(view: DataView, at: number, sum: number): void {
  view.setUint16(at, sum, true);
}

/** The sum stored at `at`, in the order that all sums here have. */
export function loadSum(view: DataView, at: number): number {
  return view.getUint16(at, true);
}

/**
 * Folded sum of `length` bytes at `at`, a multiple of four and no more than a header has, added to `initial` (up to 24
 * bits). For so few bytes a loop here takes less time than a call into the kernel.
 */
export function headerSum(view: DataView, at: number, length: number, initial: number): number {
  let total = initial;
  for (let i = 0; i < length; i += 4) {
    const words = view.getInt32(at + i, true);
    total += (words & 0xffff) + (words >>> 16);
  }
  return fold(total);
}

/** Folded sum of the pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1) of the IP packet at `ip`. */
export function pseudoHeaderSum(
  view: DataView,
  ip: number,
  version: number,
  protocol: number,
  transportLength: number,
): number {
  const constant = swap16(protocol) + swap16(transportLength);
  return version === 4
    ? headerSum(view, ip + IPV4_SOURCE, 8, constant)
    : headerSum(view, ip + IPV6_SOURCE, 32, constant);
}

/** Takes one off the TTL and patches the header checksum (RFC 1624, equation 3). The TTL must not be 0. */
export function decrementTtl(u8: Uint8Array, ip: number): void {
  u8[ip + IPV4_TTL]--;
  // ~HC' = ~HC + ~m + m' with m' = m − 0x0100: HC' = HC + 0x0100 with the carry brought round
  const patched = ((u8[ip + IPV4_CHECKSUM] << 8) | u8[ip + IPV4_CHECKSUM + 1]) + 0x0100;
  const folded = patched >= 0xffff ? patched - 0xffff : patched;
  u8[ip + IPV4_CHECKSUM] = folded >>> 8;
  u8[ip + IPV4_CHECKSUM + 1] = folded;
}
