import type { Estimate } from '../stats/bootstrap.js';
import { summarize } from '../stats/summary.js';

/** `3.92 (3.71 – 4.02)`: the median, the smallest and the largest. */
export function formatSeries(values: readonly number[], digits: number): string {
  if (values.length === 0) return '–';
  const { min, median, max } = summarize(values);
  return `${formatNumber(median, digits)} (${formatNumber(min, digits)} – ${formatNumber(max, digits)})`;
}

/** `11.2 [10.6, 11.9]`: the value and its 95 % interval. */
export function formatEstimate({ value, low, high }: Estimate, digits: number): string {
  return `${formatNumber(value, digits)} [${formatNumber(low, digits)}, ${formatNumber(high, digits)}]`;
}

export function formatNumber(value: number, digits: number): string {
  if (Number.isFinite(value)) return value.toFixed(digits);
  if (Number.isNaN(value)) return '–';
  return value > 0 ? '∞' : '−∞';
}
