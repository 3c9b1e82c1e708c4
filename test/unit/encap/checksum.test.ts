import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createSum,
  decrementTtl,
  fold,
  headerSum,
  loadSum,
  pseudoHeaderSum,
  storeSum,
  swap16,
} from '../../../src/encap/wire/checksum.js';
import { SharedMemory } from '../../../src/linux/memory.js';
import { payload, tcp } from './support/packets.js';
import { plainSum, pseudoSum, setWord, word } from './support/reference.js';

const memory = SharedMemory.create(3 * 65_536);
const { u8, view } = memory;
const sum = createSum(memory);
const AT = 1024;

/** The sum of the plain reference, in the order that sums have in the product. */
function expectedSum(at: number, length: number, initial = 0): number {
  return swap16(plainSum(u8.subarray(at, at + length), swap16(initial & 0xffff) + swap16(initial >>> 16)));
}

describe('sum', () => {
  it('agrees with the plain reference for every length from 0 to 9001', () => {
    u8.set(payload(9001 + 64), AT);
    const wrong: number[] = [];
    for (let length = 0; length <= 9001; length++) {
      if (sum(AT, length, 0x1234) !== expectedSum(AT, length, 0x1234)) wrong.push(length);
    }
    expect(wrong).toEqual([]);
  });

  it('agrees at every alignment', () => {
    u8.set(payload(300), AT);
    for (let at = AT; at < AT + 64; at++) {
      for (const length of [0, 1, 2, 3, 4, 5, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200]) {
        expect(sum(at, length, 0), `${length} bytes at ${at}`).toBe(expectedSum(at, length));
      }
    }
  });

  it.each([65_493, 65_507, 65_514, 65_515, 65_534, 65_535])('agrees for %i bytes', (length) => {
    u8.set(payload(length, 3), AT);
    for (const at of [AT, AT + 1, AT + 2]) expect(sum(at, length, 0)).toBe(expectedSum(at, length));
  });

  it('loses no carry over 65,535 bytes of all ones', () => {
    u8.fill(0xff, AT, AT + 65_535);
    expect(sum(AT, 65_534, 0)).toBe(0xffff);
    expect(sum(AT, 65_535, 0)).toBe(expectedSum(AT, 65_535));
    expect(sum(AT, 65_534, 0xffff_ffff)).toBe(0xffff);
  });

  it('takes any 32-bit number as what it starts from, and any bytes', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200, size: 'max' }),
        fc.nat(70),
        fc.integer({ min: 0, max: 0xffff_ffff }),
        (bytes, shift, initial) => {
          u8.set(bytes, AT + shift);
          expect(sum(AT + shift, bytes.length, initial)).toBe(expectedSum(AT + shift, bytes.length, initial));
        },
      ),
      { numRuns: 3000 },
    );
  });

  it('reads nothing beyond its end', () => {
    u8.set(payload(100), AT);
    for (let length = 0; length < 70; length++) {
      u8[AT + length] = 0;
      const before = sum(AT, length, 7);
      u8[AT + length] = 0xab;
      expect(sum(AT, length, 7)).toBe(before);
    }
  });
});

describe('fold', () => {
  it.each([
    [0, 0],
    [0xffff, 0xffff],
    [0x10000, 1],
    [0x1ffff, 1],
    [0xffff_ffff, 0xffff],
    [0x1_fffe, 0xffff],
    [0x8000_8000, 1],
  ])('makes %i into %i', (wide, narrow) => {
    expect(fold(wide)).toBe(narrow);
  });

  it('keeps the remainder modulo 65,535', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 0xffff_ffff }), (wide) => {
        expect(fold(wide) % 0xffff).toBe(wide % 0xffff);
        expect(fold(wide)).toBeGreaterThan(0);
        expect(fold(wide)).toBeLessThanOrEqual(0xffff);
      }),
    );
  });
});

describe('swap16, storeSum and loadSum', () => {
  it('swap16 exchanges the two bytes and is its own inverse', () => {
    for (let value = 0; value < 65_536; value++) {
      if (swap16(value) !== (value % 256) * 256 + (value >> 8) || swap16(swap16(value)) !== value) {
        expect.fail(`swap16(${value})`);
      }
    }
  });

  it('storeSum and loadSum are inverse, also for a complement, which is negative', () => {
    for (const value of [0, 1, 0x1234, 0xff00, 0xffff]) {
      storeSum(view, AT, ~value);
      expect(loadSum(view, AT)).toBe(0xffff - value);
    }
  });

  it('a stored sum is right on the wire', () => {
    u8.set([0x45, 0, 0, 20, 1, 2, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], AT);
    storeSum(view, AT + 10, ~sum(AT, 20, 0));
    expect(plainSum(u8.subarray(AT, AT + 20))).toBe(0xffff);
  });
});

describe('headerSum', () => {
  it('agrees with the sum of the kernel for every header length, at every alignment', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 60, maxLength: 60 }),
        fc.integer({ min: 0, max: 15 }),
        fc.nat(3),
        fc.nat(0x2_0000),
        (bytes, words, shift, initial) => {
          u8.set(bytes, AT + shift);
          expect(headerSum(view, AT + shift, 4 * words, initial)).toBe(sum(AT + shift, 4 * words, initial));
        },
      ),
    );
  });

  it('loses no carry of a header of all ones', () => {
    u8.fill(0xff, AT, AT + 60);
    expect(headerSum(view, AT, 60, 0x1_fffe)).toBe(0xffff);
  });
});

describe('pseudoHeaderSum', () => {
  it.each([4, 6] as const)('agrees with the plain reference for IPv%i', (version) => {
    const packet = tcp({ version, source: [9, 200], destination: [7, 3], payload: payload(10) });
    u8.set(packet, AT);
    for (const protocol of [6, 17]) {
      for (const length of [0, 8, 20, 1480, 65_515, 65_535]) {
        const got = swap16(pseudoHeaderSum(view, AT, version, protocol, length));
        expect(got).toBe(pseudoSum(packet, protocol, length));
      }
    }
  });
});

describe('decrementTtl', () => {
  it('patches each of the 65,536 header checksums to what a header summed anew has', () => {
    const packet = tcp({ ttl: 64 }).slice(0, 20);
    const wrong: number[] = [];
    for (let id = 0; id < 65_536; id++) {
      // a different id makes a different checksum: together they run through every value that a header can have
      setWord(packet, 4, id);
      setWord(packet, 10, 0);
      setWord(packet, 10, 0xffff - plainSum(packet));
      u8.set(packet, AT);
      decrementTtl(u8, AT);
      const patched = u8.slice(AT, AT + 20);
      setWord(packet, 10, 0);
      packet[8] = 63;
      const anew = 0xffff - plainSum(packet);
      packet[8] = 64;
      if (word(patched, 10) !== anew || patched[8] !== 63) wrong.push(id);
    }
    expect(wrong).toEqual([]);
  });

  it('keeps a header right that has 0xffff where 0 is usual: both mean the same', () => {
    const packet = tcp({ ttl: 64 }).slice(0, 20);
    setWord(packet, 4, (word(packet, 4) + word(packet, 10)) % 0xffff);
    setWord(packet, 10, 0xffff);
    expect(plainSum(packet)).toBe(0xffff);
    u8.set(packet, AT);
    decrementTtl(u8, AT);
    expect(plainSum(u8.subarray(AT, AT + 20))).toBe(0xffff);
  });

  it('keeps a header right whatever its TTL is', () => {
    for (let ttl = 1; ttl < 256; ttl++) {
      u8.set(tcp({ ttl, id: ttl * 251 }), AT);
      decrementTtl(u8, AT);
      expect(u8[AT + 8]).toBe(ttl - 1);
      expect(plainSum(u8.subarray(AT, AT + 20))).toBe(0xffff);
    }
  });

  it('keeps a wrong header wrong', () => {
    for (let checksum = 0; checksum < 65_536; checksum += 17) {
      const packet = tcp({ ttl: 9 }).slice(0, 20);
      const right = word(packet, 10);
      if (checksum === right) continue;
      setWord(packet, 10, checksum);
      u8.set(packet, AT);
      decrementTtl(u8, AT);
      expect(plainSum(u8.subarray(AT, AT + 20))).not.toBe(0xffff);
    }
  });
});
