import { createHash } from 'node:crypto';
import { blake2s as noble } from '@noble/hashes/blake2.js';
import { hmac } from '@noble/hashes/hmac.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createBlake2s } from '../../../src/linux/blake2s.js';

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const parts = fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 5 });

describe.each(['openssl', 'node'] as const)('BLAKE2s by %s', (engine) => {
  const blake2s = createBlake2s(engine);

  it('hashes as RFC 7693, appendix B', () => {
    expect(blake2s.engine).toBe(engine);
    expect(text(blake2s.hash(Buffer.from('a'), Buffer.from('bc')))).toBe(
      '508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982',
    );
    expect(text(blake2s.hash())).toBe(createHash('blake2s256').digest('hex'));
  });

  it('passes the self-test of RFC 7693, appendix E, keyed and not', () => {
    const sequence = (length: number, seed: number) => {
      let [a, b] = [Math.imul(0xdead4bad, seed), 1];
      return Uint8Array.from({ length }, () => {
        const t = (a + b) | 0;
        [a, b] = [b, t];
        return (t >>> 24) & 255;
      });
    };
    const all = createHash('blake2s256');
    for (const out of [16, 20, 28, 32]) {
      for (const length of [0, 3, 64, 65, 255, 1024]) {
        const input = sequence(length, length);
        const key = sequence(out, out);
        // unkeyed and shorter there is none of ours
        all.update(out === 32 ? blake2s.hash(input) : noble(input, { dkLen: out }));
        all.update(blake2s.keyed(out, key, input));
      }
    }
    expect(all.digest('hex')).toBe('6a411f08ce25adcdfb02aba641451cec53c598b24f4fc787fbdc88797f4c1dfe');
  });

  it('is the function of another library, whatever the parts', () => {
    fc.assert(
      fc.property(parts, fc.uint8Array({ minLength: 1, maxLength: 32 }), (given, key) => {
        const whole = Buffer.concat(given);
        expect(text(blake2s.hash(...given))).toBe(text(noble(whole)));
        expect(text(blake2s.keyed(16, key, ...given))).toBe(text(noble(whole, { dkLen: 16, key })));
        expect(text(blake2s.hmac(key, ...given))).toBe(text(hmac(noble, key, whole)));
      }),
    );
  });

  it('gives results that are nobody else’s, and leaves what it was given as it was', () => {
    const key = new Uint8Array(32).fill(7);
    const first = blake2s.hmac(key, key);
    const shown = text(first);
    blake2s.hmac(key, Uint8Array.of(1));
    blake2s.keyed(16, key, key).fill(0);
    expect(text(first)).toBe(shown);
    expect(text(key)).toBe('07'.repeat(32));
  });

  it('takes no text that is too long for its memory', () => {
    expect(() => blake2s.hash(new Uint8Array(2_000))).toThrow(RangeError);
    expect(() => blake2s.hmac(new Uint8Array(32), new Uint8Array(2_000))).toThrow(RangeError);
  });
});
