import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createX25519 } from '../../../src/linux/x25519.js';

const hex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
const BOB = '5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb';
const key = fc.uint8Array({ minLength: 32, maxLength: 32 });

describe.each(['openssl', 'evp', 'node'] as const)('X25519 by %s', (engine) => {
  const x25519 = createX25519(engine);

  it('is the function of RFC 7748, section 6.1', () => {
    expect(x25519.engine).toBe(engine);
    expect(x25519.publicKeyOf(hex(BOB))).toEqual(
      hex('de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f'),
    );
    const alice = hex('8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a');
    const shared = hex('4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742');
    expect(x25519.agree(hex(BOB), alice)).toEqual(shared);
  });

  it('agrees on nothing with a public key of small order', () => {
    expect(x25519.agree(hex(BOB), new Uint8Array(32))).toBeUndefined();
    expect(x25519.agree(hex(BOB), Uint8Array.of(1, ...new Uint8Array(31)))).toBeUndefined();
  });
});

it('is the same by both', () => {
  const [a, b] = [createX25519('openssl'), createX25519('node')];
  fc.assert(
    fc.property(key, key, (privateKey, publicKey) => {
      expect(a.publicKeyOf(privateKey)).toEqual(b.publicKeyOf(privateKey));
      expect(a.agree(privateKey, publicKey)).toEqual(b.agree(privateKey, publicKey));
    }),
  );
});
