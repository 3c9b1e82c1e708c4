/** A distribution: how many readings there were up to each bound, and in all. */
export interface Histogram {
  readonly name: string;
  /** Cumulative: `count` readings were `upTo` or less. */
  readonly buckets: readonly { readonly upTo: number; readonly count: number }[];
  /** All readings, those above the last bound included. */
  readonly count: number;
}

export interface SplitTotals {
  readonly counters: readonly (readonly [string, number])[];
  readonly histograms: readonly Histogram[];
}

/** Takes the buckets that backends report as totals, `NAME_le_1`, `NAME_le_2`, … and `NAME_more`, out from among them. */
export function splitTotals(totals: Readonly<Record<string, number>>): SplitTotals {
  const counters: (readonly [string, number])[] = [];
  const found = new Map<string, { upTo: number; count: number }[]>();
  for (const [name, count] of Object.entries(totals)) {
    const [, family, bound] = /^(.+)_(?:le_(\d+)|more)$/.exec(name) ?? [];
    if (family === undefined) counters.push([name, count]);
    else {
      const readings = found.get(family) ?? [];
      readings.push({ upTo: bound === undefined ? Number.POSITIVE_INFINITY : Number(bound), count });
      found.set(family, readings);
    }
  }
  return { counters, histograms: [...found].map(([name, readings]) => cumulate(name, readings)) };
}

function cumulate(name: string, readings: { upTo: number; count: number }[]): Histogram {
  let count = 0;
  const buckets: { upTo: number; count: number }[] = [];
  for (const reading of readings.sort((a, b) => a.upTo - b.upTo)) {
    count += reading.count;
    if (Number.isFinite(reading.upTo)) buckets.push({ upTo: reading.upTo, count });
  }
  return { name, buckets, count };
}
