import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BEHIND_TEXT, BLOCK_BYTES, type Cipher, MAX_TEXT, TAG_BYTES } from '../../../src/linux/cipher.js';
import { createCopy } from '../../../src/linux/copy.js';
import { RegionAllocator, SharedMemory } from '../../../src/linux/memory.js';
import { createCipher, opensslMissing } from '../../../src/linux/openssl.js';

const BLOCKS = 64;

function setUp(engine: Cipher['engine']) {
  const memory = SharedMemory.create(1 << 20);
  const regions = new RegionAllocator();
  const cipher = createCipher(memory, regions, BLOCKS, engine);
  return { memory, cipher, used: regions.used };
}

const key = fc.uint8Array({ minLength: 32, maxLength: 32 });
const nonce = fc.uint8Array({ minLength: 12, maxLength: 12 });

it('this node binary exports the functions of OpenSSL, and those below its EVP interface are what they were', () => {
  expect(opensslMissing()).toBeNull();
  const memory = SharedMemory.create(1 << 20);
  expect(createCipher(memory, new RegionAllocator(), BLOCKS).engine).toBe('openssl');
});

describe.each(['openssl', 'evp', 'node'] as const)('ChaCha20-Poly1305 on shared memory, engine %s', (engine) => {
  it('is the engine that was asked for', () => {
    expect(setUp(engine).cipher.engine).toBe(engine);
  });

  it('seals in place and opens as another library does, anywhere in the arena', () => {
    const { memory, cipher } = setUp(engine);
    const { u8 } = memory;
    fc.assert(
      fc.property(
        key,
        nonce,
        fc.uint8Array({ maxLength: 1500 }),
        fc.integer({ min: 1, max: BLOCKS - 25 }),
        (k, n, plain, block) => {
          const at = cipher.arena + block * BLOCK_BYTES;
          u8.set(k, cipher.key);
          u8.set(n, cipher.nonce);
          u8.fill(0xee, cipher.arena, cipher.arena + BLOCKS * BLOCK_BYTES);
          u8.set(plain, at);
          expect(cipher.seal(block, plain.length)).toBe(true);
          const sealed = Buffer.concat([u8.slice(at, at + plain.length), u8.slice(cipher.tag, cipher.tag + TAG_BYTES)]);
          expect(sealed).toEqual(Buffer.from(chacha20poly1305(k, n).encrypt(plain)));
          const around = [
            ...u8.slice(cipher.arena, at - BLOCK_BYTES),
            ...u8.slice(at + plain.length + BEHIND_TEXT, cipher.arena + BLOCKS * BLOCK_BYTES),
          ];
          expect(around.every((byte) => byte === 0xee)).toBe(true);
          u8.fill(0xee, cipher.arena, cipher.arena + BLOCKS * BLOCK_BYTES);
          u8.set(sealed.subarray(0, plain.length), cipher.sealed);
          expect(cipher.open(block, plain.length)).toBe(true);
          expect(u8.slice(at, at + plain.length)).toEqual(plain);
          const rest = [
            ...u8.slice(cipher.arena, at - BLOCK_BYTES),
            ...u8.slice(at + plain.length, cipher.arena + BLOCKS * BLOCK_BYTES),
          ];
          expect(rest.every((byte) => byte === 0xee)).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('does not open what was changed: text, tag, key or nonce', () => {
    const { memory, cipher } = setUp(engine);
    const { u8 } = memory;
    const length = 100;
    const seal = () => {
      u8.fill(1, cipher.key, cipher.key + 32);
      u8.fill(2, cipher.nonce, cipher.nonce + 12);
      u8.fill(3, cipher.arena + BLOCK_BYTES, cipher.arena + BLOCK_BYTES + length);
      cipher.seal(1, length);
      u8.copyWithin(cipher.sealed, cipher.arena + BLOCK_BYTES, cipher.arena + BLOCK_BYTES + length);
    };
    for (const [at, bytes] of [
      [cipher.sealed, length],
      [cipher.tag, TAG_BYTES],
      [cipher.key, 32],
      [cipher.nonce, 12],
    ]) {
      for (let i = 0; i < bytes; i++) {
        seal();
        u8[at + i] ^= 1 << (i & 7);
        expect(cipher.open(1, length)).toBe(false);
      }
    }
    seal();
    expect(cipher.open(1, length)).toBe(true);
  });

  it('opens again after a failure, and forgets its key', () => {
    const { memory, cipher } = setUp(engine);
    const { u8 } = memory;
    const text = cipher.arena + BLOCK_BYTES;
    const seal = () => {
      cipher.seal(1, 64);
      u8.copyWithin(cipher.sealed, text, text + 64);
    };
    u8.fill(9, cipher.key, cipher.key + 32);
    seal();
    u8[cipher.tag] ^= 1;
    expect(cipher.open(1, 64)).toBe(false);
    cipher.forget();
    expect(u8.subarray(cipher.key, cipher.key + 32).every((byte) => byte === 0)).toBe(true);
    seal();
    expect(cipher.open(1, 64)).toBe(true);
    cipher.close();
  });

  it('takes the longest text', () => {
    const memory = SharedMemory.create(1 << 20);
    const { u8 } = memory;
    const blocks = MAX_TEXT / BLOCK_BYTES + 2;
    const cipher = createCipher(memory, new RegionAllocator(), blocks, engine);
    const text = cipher.arena + BLOCK_BYTES;
    u8.fill(7, text, text + MAX_TEXT);
    cipher.seal(1, MAX_TEXT);
    u8.copyWithin(cipher.sealed, text, text + MAX_TEXT);
    expect(cipher.open(1, MAX_TEXT)).toBe(true);
    expect(u8.subarray(text, text + MAX_TEXT).every((byte) => byte === 7)).toBe(true);
  });
});

describe('copy', () => {
  it('copies as copyWithin does, overlapping or not', () => {
    const memory = SharedMemory.create(1 << 16);
    const copy = createCopy(memory);
    const reference = new Uint8Array(1 << 16);
    const place = fc.nat(8_000);
    fc.assert(
      fc.property(place, place, fc.nat(3_000), (to, from, length) => {
        for (let i = 0; i < 12_000; i++) memory.u8[i] = reference[i] = (i * 31) & 255;
        copy(to, from, length);
        reference.copyWithin(to, from, from + length);
        expect(Buffer.compare(memory.u8.slice(0, 12_000), reference.subarray(0, 12_000))).toBe(0);
      }),
    );
  });
});
