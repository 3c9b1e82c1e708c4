// The Internet checksum's inner loop (RFC 1071), in WebAssembly SIMD on the memory that system calls read and write.
//
// The one's complement sum does not care about byte order as long as every word is read the same way, so words are
// read little-endian, as they lie, and the result is in that order too: storing it with a little-endian 16-bit store
// gives the right bytes.
//
// The processor adds pairs of 16-bit words in one instruction only as signed numbers (dot_i16x8_s, pmaddwd). Flipping
// the top bit makes a signed number of each word that is 32,768 less, and what all of them lack together is given back
// at the end. Four sums of 32-bit lanes run side by side, since an addition has to wait for the one before it; a lane
// gets at most 2048 pairs of a packet of 64 KiB, which is far from what it can hold.

/**
 * Adds `length` bytes (at most 2^18) at `address` to `initial`, a partial sum of any 32-bit value, and folds the result
 * to 16 bits. An odd last byte counts as if a zero followed it.
 */
export function sum(address: usize, length: i32, initial: u32): u32 {
  let total: u64 = initial;
  let rest = length;
  if (rest >= 16) {
    const flip = i16x8.splat(-0x8000);
    const ones = i16x8.splat(1);
    let a = i32x4.splat(0);
    let b = a;
    let c = a;
    let d = a;
    while (rest >= 64) {
      a = i32x4.add(a, i32x4.dot_i16x8_s(v128.xor(v128.load(address), flip), ones));
      b = i32x4.add(b, i32x4.dot_i16x8_s(v128.xor(v128.load(address, 16), flip), ones));
      c = i32x4.add(c, i32x4.dot_i16x8_s(v128.xor(v128.load(address, 32), flip), ones));
      d = i32x4.add(d, i32x4.dot_i16x8_s(v128.xor(v128.load(address, 48), flip), ones));
      address += 64;
      rest -= 64;
    }
    while (rest >= 16) {
      a = i32x4.add(a, i32x4.dot_i16x8_s(v128.xor(v128.load(address), flip), ones));
      address += 16;
      rest -= 16;
    }
    a = i32x4.add(i32x4.add(a, b), i32x4.add(c, d));
    const low = <i64>i32x4.extract_lane(a, 0) + <i64>i32x4.extract_lane(a, 1);
    const high = <i64>i32x4.extract_lane(a, 2) + <i64>i32x4.extract_lane(a, 3);
    const words = (length - rest) >> 1;
    total += <u64>(low + high + (<i64>words << 15));
  }
  if ((rest & 8) != 0) {
    total += <u64>load<u32>(address) + <u64>load<u32>(address, 4);
    address += 8;
  }
  if ((rest & 4) != 0) {
    total += <u64>load<u32>(address);
    address += 4;
  }
  if ((rest & 2) != 0) {
    total += <u64>load<u16>(address);
    address += 2;
  }
  if ((rest & 1) != 0) total += <u64>load<u8>(address);
  total = (total & 0xffffffff) + (total >> 32);
  total = (total & 0xffffffff) + (total >> 32);
  let folded = <u32>total;
  folded = (folded & 0xffff) + (folded >> 16);
  return (folded & 0xffff) + (folded >> 16);
}
