import { CONFIDENCE, type Estimate } from './bootstrap.js';
import { studentQuantile } from './student.js';
import { median } from './summary.js';

export interface Point {
  readonly x: number;
  readonly y: number;
}

/** A straight line through points: y = intercept + slope × x. */
export interface Line {
  readonly intercept: Estimate;
  readonly slope: Estimate;
  /** The share of the (weighted) variance of y that the line explains; from 0 to 1. */
  readonly r2: number;
  readonly points: number;
}

/**
 * The line with the least weighted squares, and 95 % intervals by Student's t with two degrees of freedom fewer than
 * there are points (Draper and Smith, Applied Regression Analysis, chapters 1 and 9).
 *
 * @param errors `relative`: they grow with y, as those of times do. Weights are then 1/ỹ², with ỹ the median of the points
 * that share an x; without them the longest packets alone would decide what the shortest cost. `equal`: they are the same
 * everywhere, as those of small differences between times are.
 * @throws RangeError with fewer than three points, or all at one x
 */
export function fitLine(points: readonly Point[], errors: 'relative' | 'equal' = 'relative'): Line {
  const weights = errors === 'relative' ? relativeWeights(points) : points.map(() => 1);
  let sum = 0;
  let sumX = 0;
  let sumY = 0;
  points.forEach(({ x, y }, i) => {
    const weight = weights[i] as number;
    sum += weight;
    sumX += weight * x;
    sumY += weight * y;
  });
  const meanX = sumX / sum;
  const meanY = sumY / sum;
  let xx = 0;
  let xy = 0;
  let yy = 0;
  points.forEach(({ x, y }, i) => {
    const weight = weights[i] as number;
    xx += weight * (x - meanX) ** 2;
    xy += weight * (x - meanX) * (y - meanY);
    yy += weight * (y - meanY) ** 2;
  });
  if (points.length < 3 || xx === 0) {
    throw new RangeError(`${points.length} points at one place or fewer than three make no line; measure more sizes`);
  }
  const slope = xy / xx;
  const intercept = meanY - slope * meanX;
  let residual = 0;
  points.forEach(({ x, y }, i) => {
    residual += (weights[i] as number) * (y - intercept - slope * x) ** 2;
  });
  const degrees = points.length - 2;
  const variance = residual / degrees;
  const t = studentQuantile((1 + CONFIDENCE) / 2, degrees);
  return {
    intercept: interval(intercept, t * Math.sqrt(variance * (1 / sum + meanX ** 2 / xx))),
    slope: interval(slope, t * Math.sqrt(variance / xx)),
    r2: yy === 0 ? 1 : 1 - residual / yy,
    points: points.length,
  };
}

function relativeWeights(points: readonly Point[]): number[] {
  const byX = new Map<number, number[]>();
  for (const { x, y } of points) byX.set(x, [...(byX.get(x) ?? []), y]);
  const medians = new Map([...byX].map(([x, ys]) => [x, median(ys)]));
  return points.map(({ x }) => {
    const typical = Math.abs(medians.get(x) as number);
    return typical === 0 ? 1 : 1 / typical ** 2;
  });
}

function interval(value: number, halfWidth: number): Estimate {
  return { value, low: value - halfWidth, high: value + halfWidth };
}
