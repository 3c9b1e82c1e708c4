import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createAead } from '../../../src/linux/aead.js';

const hex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const key = fc.uint8Array({ minLength: 32, maxLength: 32 });
const counter = fc.oneof(fc.nat(), fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }));

describe.each(['openssl', 'node'] as const)('ChaCha20-Poly1305 with additional data by %s', (engine) => {
  const aead = createAead(engine);

  it('seals and opens as another library does, texts and additional data of all lengths', () => {
    expect(aead.engine).toBe(engine);
    fc.assert(
      fc.property(
        key,
        counter,
        fc.uint8Array({ maxLength: 300 }),
        fc.uint8Array({ maxLength: 80 }),
        (secret, count, plain, additional) => {
          const nonce = new Uint8Array(12);
          new DataView(nonce.buffer).setBigUint64(4, BigInt(count), true);
          const sealed = aead.seal(secret, count, plain, additional);
          expect(text(sealed)).toBe(text(chacha20poly1305(secret, nonce, additional).encrypt(plain)));
          expect(text(aead.open(secret, count, sealed, additional)!)).toBe(text(plain));
        },
      ),
    );
  });

  it('opens nothing that was changed anywhere', () => {
    const [secret, additional] = [hex('11'.repeat(32)), hex('22'.repeat(32))];
    const sealed = aead.seal(secret, 0, hex('33'.repeat(28)), additional);
    for (let bit = 0; bit < 8 * sealed.length; bit++) {
      const changed = sealed.slice();
      changed[bit >>> 3]! ^= 1 << (bit & 7);
      expect(aead.open(secret, 0, changed, additional)).toBeUndefined();
    }
    expect(aead.open(secret, 1, sealed, additional)).toBeUndefined();
    expect(aead.open(secret, 0, sealed, additional.subarray(1))).toBeUndefined();
    expect(aead.open(secret, 0, sealed.subarray(0, 15), additional)).toBeUndefined();
    expect(aead.open(hex('12'.repeat(32)), 0, sealed, additional)).toBeUndefined();
    expect(text(aead.open(secret, 0, sealed, additional)!)).toBe('33'.repeat(28));
  });
});
