import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../../bench/stats/random.js';
import { fitLine } from '../../../bench/stats/regression.js';
import { studentDistribution, studentQuantile } from '../../../bench/stats/student.js';

describe('Student’s t', () => {
  it('has the quantiles that tables print', () => {
    for (const [degrees, expected] of [
      [1, 12.706205],
      [2, 4.302653],
      [5, 2.570582],
      [10, 2.228139],
      [30, 2.042272],
      [120, 1.97993],
    ] as const) {
      expect(studentQuantile(0.975, degrees)).toBeCloseTo(expected, 5);
      expect(studentQuantile(0.025, degrees)).toBeCloseTo(-expected, 5);
    }
  });

  it('gives back the probability that it was asked for', () => {
    fc.assert(
      fc.property(fc.double({ min: 0.5, max: 0.999, noNaN: true }), fc.integer({ min: 1, max: 300 }), (p, degrees) => {
        expect(studentDistribution(studentQuantile(p, degrees), degrees)).toBeCloseTo(p, 8);
      }),
      { numRuns: 50 },
    );
  });
});

describe('fitLine', () => {
  it('finds an exact line, with intervals of no width', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 1, max: 1e4, noNaN: true }),
        fc.double({ min: 0.001, max: 10, noNaN: true }),
        (intercept, slope) => {
          const line = fitLine([64, 256, 1024, 1472].map((x) => ({ x, y: intercept + slope * x })));
          expect(line.intercept.value / intercept).toBeCloseTo(1, 6);
          expect(line.slope.value / slope).toBeCloseTo(1, 6);
          expect(line.r2).toBeCloseTo(1, 6);
          expect(line.slope.high - line.slope.low).toBeLessThan(1e-6 * slope + 1e-9);
        },
      ),
    );
  });

  it('agrees with textbook formulas where all errors weigh the same', () => {
    // y symmetric about a constant: every weight is the same
    const points = [
      { x: 0, y: 1 },
      { x: 1, y: 1 },
      { x: 2, y: 1 },
      { x: 3, y: 1 },
    ];
    const line = fitLine(points);
    expect(line.slope.value).toBe(0);
    expect(line.intercept.value).toBe(1);
  });

  it('does not let the longest packets decide what the shortest cost', () => {
    // errors of 5 % throughout: unweighted, the 62 KB points would put the fixed cost anywhere
    const random = seededRandom(3);
    const points = [64, 1472, 8192, 63_488].flatMap((x) =>
      Array.from({ length: 20 }, () => ({ x, y: (1000 + 0.5 * x) * (1 + 0.1 * (random() - 0.5)) })),
    );
    const { intercept, slope } = fitLine(points);
    expect(Math.abs(intercept.value - 1000)).toBeLessThan(30);
    expect(intercept.low).toBeLessThan(1000);
    expect(intercept.high).toBeGreaterThan(1000);
    expect(slope.low).toBeLessThan(0.5);
    expect(slope.high).toBeGreaterThan(0.5);
  });

  it('covers the true slope about as often as it claims', () => {
    const random = seededRandom(11);
    let covered = 0;
    const runs = 300;
    for (let run = 0; run < runs; run++) {
      const points = [64, 256, 512, 1024, 1472].flatMap((x) =>
        Array.from({ length: 5 }, () => {
          const noise = Array.from({ length: 12 }, random).reduce((a, b) => a + b) - 6;
          return { x, y: (500 + 0.2 * x) * (1 + 0.02 * noise) };
        }),
      );
      const { slope } = fitLine(points);
      if (slope.low <= 0.2 && 0.2 <= slope.high) covered++;
    }
    expect(covered / runs).toBeGreaterThan(0.9);
    expect(covered / runs).toBeLessThan(0.99);
  });

  it('refuses what makes no line', () => {
    expect(() => fitLine([{ x: 1, y: 1 }])).toThrow(RangeError);
    expect(() => fitLine([1, 2, 3].map((y) => ({ x: 5, y })))).toThrow(RangeError);
  });
});
