import { chacha20poly1305, hchacha } from '@noble/ciphers/chacha.js';
import { blake2s } from '@noble/hashes/blake2.js';
import { hmac } from '@noble/hashes/hmac.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PrivateKey } from '../../../src/wireguard/keys.js';
import { aead, hash, kdf, mac, openAead, openXaead, xaead } from '../../../src/wireguard/primitives.js';

const hex = (text: string) => new Uint8Array(Buffer.from(text.replace(/\s/g, ''), 'hex'));
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

const SUNSCREEN = Buffer.from(
  "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
);
const AAD = hex('50515253c0c1c2c3c4c5c6c7');
const KEY = Uint8Array.from({ length: 32 }, (_, i) => 0x80 + i);

describe('BLAKE2s', () => {
  it('hashes as RFC 7693, appendix B', () => {
    expect(text(hash(Buffer.from('a'), Buffer.from('bc')))).toBe(
      '508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982',
    );
  });

  it('makes macs of 16 bytes as another library does', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 32 }), fc.uint8Array({ maxLength: 300 }), (key, data) => {
        expect(text(mac(key, data.subarray(0, 2), data.subarray(2)))).toBe(text(blake2s(data, { dkLen: 16, key })));
      }),
    );
  });

  it('derives keys as HKDF over HMAC (RFC 5869) does, of another library', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.uint8Array({ maxLength: 64 }), (key, input) => {
        const secret = hmac(blake2s, key, input);
        const first = hmac(blake2s, secret, Uint8Array.of(1));
        const second = hmac(blake2s, secret, Buffer.concat([first, Uint8Array.of(2)]));
        const third = hmac(blake2s, secret, Buffer.concat([second, Uint8Array.of(3)]));
        expect(kdf(3, key, input).map(text)).toEqual([first, second, third].map(text));
      }),
    );
  });
});

describe('X25519', () => {
  it('agrees as RFC 7748, section 6.1', () => {
    const bob = new PrivateKey(hex('5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb'));
    expect(text(bob.publicKey)).toBe('de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f');
    const alice = hex('8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a');
    expect(text(bob.agree(alice)!.bytes)).toBe('4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742');
  });

  it('refuses public keys that lead to no secret', () => {
    const key = new PrivateKey(new Uint8Array(32).fill(5));
    for (const low of [
      '00'.repeat(32),
      `01${'00'.repeat(31)}`,
      'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
      'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
    ]) {
      expect(key.agree(hex(low))).toBeUndefined();
    }
  });
});

describe('ChaCha20-Poly1305', () => {
  it('is that of RFC 8439, section 2.8.2, in the library that ours is held against', () => {
    const sealed = chacha20poly1305(KEY, hex('070000004041424344454647'), AAD).encrypt(SUNSCREEN);
    expect(text(sealed.subarray(0, 16))).toBe('d31a8d34648e60db7b86afbc53ef7ec2');
    expect(text(sealed.subarray(-16))).toBe('1ae10b594f09e26a7e902ecbd0600691');
  });

  it('seals and opens as that library does, whatever the counter', () => {
    const counters = fc.oneof(fc.nat(), fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }));
    const bytes = fc.uint8Array({ maxLength: 300 });
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        counters,
        bytes,
        bytes,
        (key, counter, plain, aad) => {
          const nonce = new Uint8Array(12);
          new DataView(nonce.buffer).setBigUint64(4, BigInt(counter), true);
          const sealed = aead(key, counter, plain, aad);
          expect(text(sealed)).toBe(text(chacha20poly1305(key, nonce, aad).encrypt(plain)));
          expect(text(openAead(key, counter, sealed, aad)!)).toBe(text(plain));
          expect(openAead(key, counter + 1, sealed, aad)).toBeUndefined();
          sealed[sealed.length >>> 1] ^= 1;
          expect(openAead(key, counter, sealed, aad)).toBeUndefined();
          expect(openAead(key, counter, sealed.subarray(0, 15), aad)).toBeUndefined();
        },
      ),
    );
  });
});

describe('XChaCha20-Poly1305', () => {
  it('derives its key as draft-irtf-cfrg-xchacha, section 2.2.1', () => {
    const words = (bytes: Uint8Array) => new Uint32Array(bytes.slice().buffer);
    const out = new Uint32Array(8);
    const key = Uint8Array.from({ length: 32 }, (_, i) => i);
    const sigma = new Uint8Array(Buffer.from('expand 32-byte k'));
    hchacha(words(sigma), words(key), words(hex('000000090000004a0000000031415927')), out);
    expect(text(new Uint8Array(out.buffer))).toBe('82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc');
  });

  it('seals as appendix A.3.1, and opens only that', () => {
    const nonce = Uint8Array.from({ length: 24 }, (_, i) => 0x40 + i);
    const sealed = xaead(KEY, nonce, SUNSCREEN, AAD);
    expect(text(sealed)).toBe(
      'bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39' +
        'ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9' +
        '21f9664c97637da9768812f615c68b13b52e' +
        'c0875924c1c7987947deafd8780acf49',
    );
    expect(text(openXaead(KEY, nonce, sealed, AAD)!)).toBe(text(SUNSCREEN));
    sealed[3] ^= 1;
    expect(openXaead(KEY, nonce, sealed, AAD)).toBeUndefined();
    expect(openXaead(KEY, nonce, sealed.subarray(0, 8), AAD)).toBeUndefined();
  });
});
