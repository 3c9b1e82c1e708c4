import { expect, it } from 'vitest';
import { createRandom } from '../../../src/linux/random.js';

it('random bytes are given out once, in any lengths, and belong to whoever got them', () => {
  const random = createRandom();
  const lengths = Array.from({ length: 2_000 }, (_, i) => [32, 4, 24, 2_000][i % 4]!);
  const drawn = lengths.map(random);
  expect(drawn.map(({ length }) => length)).toEqual(lengths);
  const long = drawn.filter(({ length }) => length >= 24).map((bytes) => Buffer.from(bytes).toString('hex'));
  expect(new Set(long).size).toBe(long.length);
  // of 4 bytes a few may be equal by chance
  const short = drawn.filter(({ length }) => length === 4).map((bytes) => Buffer.from(bytes).toString('hex'));
  expect(new Set(short).size).toBeGreaterThan(short.length - 5);
  drawn[0]!.fill(0);
  expect(random(32).some((byte) => byte !== 0)).toBe(true);
});
