// The Internet checksum's inner loop (RFC 1071), in WebAssembly SIMD on the memory that system calls read and write.
//
// The one's complement sum does not care about byte order as long as every word is read the same way, so words are
// read little-endian, as they lie, and the result is in that order too: storing it with a little-endian 16-bit store
// gives the right bytes. Sums of 32-bit halves are gathered in 64-bit lanes, which 64 KiB cannot overflow.

/**
 * Adds `length` bytes at `address` to `initial`, a partial sum of any 32-bit value, and folds the result to 16 bits.
 * An odd last byte counts as if a zero followed it.
 */
export function sum(address: usize, length: i32, initial: u32): u32 {
  let low = i64x2.splat(0);
  let high = i64x2.splat(0);
  const end = address + <usize>(length & ~31);
  while (address < end) {
    const a = v128.load(address);
    const b = v128.load(address, 16);
    low = i64x2.add(low, i64x2.extend_low_i32x4_u(a));
    high = i64x2.add(high, i64x2.extend_high_i32x4_u(a));
    low = i64x2.add(low, i64x2.extend_low_i32x4_u(b));
    high = i64x2.add(high, i64x2.extend_high_i32x4_u(b));
    address += 32;
  }
  low = i64x2.add(low, high);
  let total: u64 = <u64>initial + <u64>i64x2.extract_lane(low, 0) + <u64>i64x2.extract_lane(low, 1);
  let rest = length & 31;
  while (rest >= 4) {
    total += <u64>load<u32>(address);
    address += 4;
    rest -= 4;
  }
  if (rest >= 2) {
    total += <u64>load<u16>(address);
    address += 2;
    rest -= 2;
  }
  if (rest != 0) total += <u64>load<u8>(address);
  total = (total & 0xffffffff) + (total >> 32);
  total = (total & 0xffffffff) + (total >> 32);
  let folded = <u32>total;
  folded = (folded & 0xffff) + (folded >> 16);
  return (folded & 0xffff) + (folded >> 16);
}
