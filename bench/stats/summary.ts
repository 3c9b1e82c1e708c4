/** What the tables show of one series of samples. */
export interface Summary {
  readonly count: number;
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

/**
 * The value below which the fraction `q` of the samples lies, by linear interpolation between neighbours
 * (Hyndman and Fan's type 7, which R, NumPy and spreadsheets use by default).
 *
 * @param sorted ascending and not empty
 * @param q from 0 to 1
 */
export function quantile(sorted: ArrayLike<number>, q: number): number {
  const position = (sorted.length - 1) * q;
  const below = Math.floor(position);
  const lower = sorted[below] as number;
  const upper = sorted[Math.min(below + 1, sorted.length - 1)] as number;
  return lower + (upper - lower) * (position - below);
}

export function sortedCopy(values: ArrayLike<number>): Float64Array {
  return Float64Array.from(values).sort();
}

export function median(values: ArrayLike<number>): number {
  return quantile(sortedCopy(values), 0.5);
}

/** @throws RangeError when there is nothing to summarize */
export function summarize(values: ArrayLike<number>): Summary {
  if (values.length === 0) throw new RangeError('no samples to summarize; measure at least once');
  const sorted = sortedCopy(values);
  return {
    count: sorted.length,
    min: sorted[0] as number,
    median: quantile(sorted, 0.5),
    max: sorted[sorted.length - 1] as number,
  };
}
