import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { medianRatio, unpairedMedianRatio } from '../../../bench/stats/bootstrap.js';
import { seededRandom } from '../../../bench/stats/random.js';
import { median, quantile, summarize } from '../../../bench/stats/summary.js';

const samples = fc.array(fc.double({ min: 0.001, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 30 });

describe('summary', () => {
  it('gives the quantiles that R gives for type 7', () => {
    const sorted = [1, 2, 4, 8, 16];
    expect(quantile(sorted, 0)).toBe(1);
    expect(quantile(sorted, 0.25)).toBe(2);
    expect(quantile(sorted, 0.5)).toBe(4);
    expect(quantile(sorted, 0.9)).toBeCloseTo(12.8, 12);
    expect(quantile(sorted, 1)).toBe(16);
  });

  it('takes the middle of an even number of samples', () => {
    expect(median([4, 1, 3, 2])).toBe(2.5);
  });

  it('refuses an empty series', () => {
    expect(() => summarize([])).toThrow(RangeError);
  });

  it('keeps the median between the extremes, whatever the order', () => {
    fc.assert(
      fc.property(samples, (values) => {
        const { min, median: middle, max, count } = summarize(values);
        expect(count).toBe(values.length);
        expect(min).toBe(Math.min(...values));
        expect(max).toBe(Math.max(...values));
        expect(middle).toBeGreaterThanOrEqual(min);
        expect(middle).toBeLessThanOrEqual(max);
      }),
    );
  });
});

describe('bootstrap', () => {
  it('gives a ratio of one, exactly, for a series against itself', () => {
    fc.assert(
      fc.property(samples, (values) => {
        expect(medianRatio(values, values)).toMatchObject({ value: 1 });
        if (values.length > 1) expect(medianRatio(values, values)).toEqual({ value: 1, low: 1, high: 1 });
      }),
      { numRuns: 20 },
    );
  });

  it('is the same every time', () => {
    const a = [1, 2, 3, 4, 5.5];
    const b = [2, 2.5, 3, 3.5, 9];
    expect(medianRatio(a, b)).toEqual(medianRatio(a, b));
  });

  it('reaches from the worst to the best round of five', () => {
    const { value, low, high } = medianRatio([9, 10, 11, 12, 13], [1, 1, 1, 1, 1]);
    expect(value).toBe(11);
    expect(low).toBe(9);
    expect(high).toBe(13);
  });

  it('does not mistake what disturbs a whole round for a difference', () => {
    const quiet = [1, 1, 1, 1, 1, 0.3, 1, 1];
    const { low, high } = medianRatio(
      quiet.map((speed) => speed * 20),
      quiet.map((speed) => speed * 10),
    );
    expect([low, high]).toEqual([2, 2]);
  });

  it('says that one round proves nothing', () => {
    expect(medianRatio([3], [2])).toEqual({ value: 1.5, low: -Infinity, high: Infinity });
    expect(unpairedMedianRatio([3], [2])).toEqual({ value: 1.5, low: -Infinity, high: Infinity });
  });

  it('refuses series that cannot be paired', () => {
    expect(() => medianRatio([1, 2], [1])).toThrow(RangeError);
  });

  it('covers the true ratio about as often as it claims', () => {
    const random = seededRandom(7);
    // the sum of twelve uniform numbers is very nearly normal
    const noisy = (mean: number) =>
      mean * (1 + 0.05 * (Array.from({ length: 12 }, random).reduce((a, b) => a + b) - 6));
    let covered = 0;
    const runs = 200;
    for (let run = 0; run < runs; run++) {
      const { low, high } = medianRatio(
        Array.from({ length: 11 }, () => noisy(3)),
        Array.from({ length: 11 }, () => noisy(2)),
        seededRandom(run),
      );
      if (low <= 1.5 && 1.5 <= high) covered++;
    }
    expect(covered / runs).toBeGreaterThan(0.9);
  });

  it('draws numbers evenly', () => {
    const random = seededRandom(1);
    const buckets = new Array<number>(10).fill(0);
    for (let i = 0; i < 10_000; i++) buckets[Math.floor(random() * 10)]!++;
    for (const count of buckets) expect(Math.abs(count - 1000)).toBeLessThan(150);
  });
});
