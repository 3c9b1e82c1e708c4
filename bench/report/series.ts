import type { Results, Sample } from '../harness/results.js';
import { type Estimate, medianRatio } from '../stats/bootstrap.js';

/** Which samples: every member given must match. */
export type Where = Partial<Pick<Sample, 'suite' | 'measurement' | 'contender' | 'underlay'>>;

export function select(results: Pick<Results, 'samples'>, where: Where): Sample[] {
  const wanted = Object.entries(where) as [keyof Where, string][];
  return results.samples.filter((sample) => wanted.every(([member, value]) => sample[member] === value));
}

/** One metric of the selected samples, in the order of the rounds. */
export function series(results: Pick<Results, 'samples'>, where: Where, metric: string): number[] {
  return select(results, where)
    .sort((a, b) => a.round - b.round)
    .flatMap(({ values }) => (values[metric] === undefined ? [] : [values[metric]]));
}

/** The ratio of two selections' medians, over the rounds that both have; null when there is none. */
export function ratioOf(
  results: Pick<Results, 'samples'>,
  numerator: Where,
  denominator: Where,
  metric: string,
): (Estimate & { readonly rounds: number }) | null {
  const below = new Map(select(results, denominator).map((sample) => [sample.round, sample.values[metric]]));
  const pairs = select(results, numerator).flatMap(({ round, values }) => {
    const top = values[metric];
    const bottom = below.get(round);
    return top === undefined || bottom === undefined ? [] : [[top, bottom] as const];
  });
  if (pairs.length === 0) return null;
  const estimate = medianRatio(
    pairs.map(([top]) => top),
    pairs.map(([, bottom]) => bottom),
  );
  return { ...estimate, rounds: pairs.length };
}
