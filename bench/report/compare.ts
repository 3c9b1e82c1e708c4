/** Two runs of the benchmark held against each other. */
import type { Machine, Metric, Results } from '../harness/results.js';
import { AGAIN } from '../harness/rounds.js';
import { type Estimate, unpairedMedianRatio } from '../stats/bootstrap.js';
import { rankTest } from '../stats/rank-test.js';
import { median } from '../stats/summary.js';
import { formatEstimate, formatNumber } from './format.js';
import { noiseChecks } from './noise.js';
import { series, type Where } from './series.js';
import { formatTable } from './table.js';
import { warnings } from './warnings.js';

/**
 * Five rounds against five that do not overlap at all have p = 0.008. So one comparison in a hundred between equal
 * things is called a change; with hundreds of comparisons a few are.
 */
const SIGNIFICANT = 0.01;

export type Verdict = 'better' | 'worse' | 'different' | 'noise' | 'too few rounds';

export interface Comparison {
  readonly where: Required<Where>;
  readonly title: string;
  readonly metric: Metric;
  readonly before: number;
  readonly after: number;
  readonly ratio: Estimate;
  readonly p: number;
  readonly verdict: Verdict;
}

/** Everything that both runs have measured. A change must be significant and larger than the runs' own noise. */
export function compareResults(before: Results, after: Results): Comparison[] {
  const comparisons: Comparison[] = [];
  for (const { suite, id: measurement, title, metrics } of after.measurements) {
    const samples = after.samples.filter((sample) => sample.suite === suite && sample.measurement === measurement);
    const places = new Map(samples.map((sample) => [`${sample.underlay} ${sample.contender}`, sample]));
    for (const { underlay, contender } of places.values()) {
      if (contender.endsWith(AGAIN)) continue;
      const where = { suite, measurement, underlay, contender };
      const noise = Math.max(noiseOf(before, where), noiseOf(after, where));
      for (const metric of metrics) {
        const comparison = compareSeries(
          series(before, where, metric.id),
          series(after, where, metric.id),
          metric,
          noise,
        );
        if (comparison !== null) comparisons.push({ where, title, metric, ...comparison });
      }
    }
  }
  return comparisons;
}

/** How far a contender was from itself in the same suite and under the same condition; 0 where that was not tried. */
function noiseOf(results: Results, { suite, underlay }: Where): number {
  const checks = noiseChecks(results).filter((check) => check.suite === suite && check.underlay === underlay);
  return checks.reduce((most, { ratio }) => Math.max(most, Math.abs(ratio.value - 1)), 0);
}

function compareSeries(
  before: readonly number[],
  after: readonly number[],
  { better }: Metric,
  noise: number,
): Pick<Comparison, 'before' | 'after' | 'ratio' | 'p' | 'verdict'> | null {
  if (before.length === 0 || after.length === 0) return null;
  const medians = { before: median(before), after: median(after) };
  const ratio = unpairedMedianRatio(after, before);
  const p = rankTest(before, after);
  const verdict = (): Verdict => {
    if (before.length < 5 || after.length < 5) return 'too few rounds';
    if (p > SIGNIFICANT || Math.abs(ratio.value - 1) <= noise || medians.before === medians.after) return 'noise';
    if (better === 'none') return 'different';
    return medians.after > medians.before === (better === 'more') ? 'better' : 'worse';
  };
  return { ...medians, ratio, p, verdict: verdict() };
}

/** What a machine must have in common with another for their numbers to be compared. */
const MACHINE: readonly (keyof Machine)[] = ['kernel', 'cpuModel', 'cpus', 'hypervisor', 'node'];

function machineDifferences(before: Results, after: Results): string[] {
  return MACHINE.filter((key) => before.machine[key] !== after.machine[key]).map(
    (key) => `⚠ ${key} differs: ${String(before.machine[key])} / ${String(after.machine[key])}`,
  );
}

/** What has changed between two runs, in words and one table. */
export function compareReport(before: Results, after: Results): string {
  const comparisons = compareResults(before, after);
  if (comparisons.length === 0) return 'the two runs have nothing in common; run the same suites twice';
  const count = (verdict: Verdict) => comparisons.filter((one) => one.verdict === verdict).length;
  const changed = comparisons.filter(({ verdict }) => ['better', 'worse', 'different'].includes(verdict));
  const lines = [
    `before: ${before.startedAt}, tweed ${before.machine.commit || before.machine.tweed}`,
    `after:  ${after.startedAt}, tweed ${after.machine.commit || after.machine.tweed}`,
    ...machineDifferences(before, after),
    ...warnings(before).map((text) => `⚠ before: ${text}`),
    ...warnings(after).map((text) => `⚠ after: ${text}`),
    '',
  ];
  if (changed.length > 0) {
    const rows = changed.map(({ where, title, metric, before: old, after: now, ratio, p, verdict }) => [
      `${where.suite}${where.underlay === '' ? '' : ` (${where.underlay})`}: ${title}, ${where.contender}`,
      `${metric.title}, ${metric.unit}`,
      formatNumber(old, metric.digits),
      formatNumber(now, metric.digits),
      formatEstimate(ratio, 3),
      p.toFixed(3),
      verdict,
    ]);
    lines.push(formatTable(['what changed', '', 'before', 'after', 'after ÷ before [95 %]', 'p', ''], rows), '');
  }
  lines.push(
    `${comparisons.length} comparisons: ${count('better')} better, ${count('worse')} worse, ${count('different')} different, ` +
      `${count('noise')} no more than noise, ${count('too few rounds')} with too few rounds to say (fewer than five).`,
    `Of equal things, about ${Math.max(1, Math.round(comparisons.length * SIGNIFICANT))} would be called changed by chance.`,
  );
  return lines.join('\n');
}
