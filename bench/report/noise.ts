import type { Results } from '../harness/results.js';
import { AGAIN, withoutAgain } from '../harness/rounds.js';
import type { Estimate } from '../stats/bootstrap.js';
import { ratioOf } from './series.js';

/** A contender measured twice in every round, divided by itself: what this machine and this method cannot tell apart. */
export interface NoiseCheck {
  readonly title: string;
  readonly suite: string;
  readonly underlay: string;
  readonly measurement: string;
  readonly contender: string;
  readonly ratio: Estimate;
}

export function noiseChecks(results: Pick<Results, 'samples' | 'measurements'>): NoiseCheck[] {
  const again = results.samples.filter(({ contender }) => contender.endsWith(AGAIN));
  const places = new Map(again.map((sample) => [`${sample.suite}/${sample.underlay}/${sample.measurement}`, sample]));
  return [...places.values()].flatMap(({ suite, underlay, measurement, contender: twin }) => {
    const metric = results.measurements.find((one) => one.suite === suite && one.id === measurement)?.metrics[0];
    if (metric === undefined) return [];
    const where = { suite, underlay, measurement };
    const contender = withoutAgain(twin);
    const ratio = ratioOf(results, { ...where, contender: twin }, { ...where, contender }, metric.id);
    if (ratio === null || ratio.rounds < 2) return [];
    const title = [suite, underlay, measurement, metric.title].filter((word) => word !== '').join(', ');
    return [{ title, suite, underlay, measurement, contender, ratio }];
  });
}
