import { messageOf } from '../../src/base/errors.js';
import type { Progress } from './progress.js';
import type { Failure, Sample, Values } from './results.js';

/** One contender as the rounds see it. */
export interface Entry<Place> {
  readonly id: string;
  readonly place: Place;
}

export interface RoundMeasurement<Place> {
  readonly id: string;
  readonly title: string;
  readonly seconds: number;
  run(place: Place): Promise<Values>;
}

export interface RoundsPlan<Place> {
  readonly suite: string;
  readonly underlay: string;
  readonly rounds: number;
  readonly entries: readonly Entry<Place>[];
  readonly measurements: readonly RoundMeasurement<Place>[];
  /** Leaves out pairs of a measurement and a contender that tell nothing. */
  readonly skip?: (measurement: string, contender: string) => boolean;
}

export interface RoundsResult {
  readonly samples: readonly Sample[];
  readonly failures: readonly Failure[];
}

/** Set-up and tear-down of one measurement, in seconds; found by trying. */
const OVERHEAD_SECONDS = 0.4;

export function plannedSteps<Place>(plan: RoundsPlan<Place>): { steps: number; seconds: number } {
  let steps = 0;
  let seconds = 0;
  for (const measurement of plan.measurements) {
    const entries = plan.entries.filter(({ id }) => !plan.skip?.(measurement.id, id)).length;
    steps += entries * plan.rounds;
    seconds += entries * plan.rounds * (measurement.seconds + OVERHEAD_SECONDS);
  }
  return { steps, seconds };
}

/**
 * Measures everything, round by round: within a round each measurement takes all contenders in turn before the next
 * measurement begins, so that what is compared was measured within the same minute. Who comes first changes from round
 * to round and from measurement to measurement, and every other round runs backwards, so that nobody always profits
 * from what came before.
 *
 * A round that is interrupted by `signal` counts for nothing; the finished ones are returned.
 */
export async function runRounds<Place>(
  plan: RoundsPlan<Place>,
  { progress, signal, now }: { readonly progress: Progress; readonly signal: AbortSignal; readonly now: () => number },
): Promise<RoundsResult> {
  const samples: Sample[] = [];
  const failures: Failure[] = [];
  for (let round = 0; round < plan.rounds; round++) {
    const roundSamples: Sample[] = [];
    const roundFailures: Failure[] = [];
    for (const [number, measurement] of plan.measurements.entries()) {
      const wanted = plan.entries.filter(({ id }) => !plan.skip?.(measurement.id, id));
      for (const { id, place } of inTurn(wanted, round, number)) {
        const where = {
          suite: plan.suite,
          measurement: measurement.id,
          contender: id,
          underlay: plan.underlay,
          round,
        };
        const conditions = plan.underlay === '' ? '' : `, underlay ${plan.underlay}`;
        progress.step(`${plan.suite}${conditions}, round ${round + 1} of ${plan.rounds}: ${measurement.title}, ${id}`);
        const at = now();
        try {
          roundSamples.push({ ...where, at, values: await measurement.run(place) });
        } catch (error) {
          if (signal.aborted) return { samples, failures };
          roundFailures.push({ ...where, message: messageOf(error) });
          progress.note(`✗ ${measurement.title}, ${id}: ${messageOf(error)}`);
        }
        if (signal.aborted) return { samples, failures };
        progress.done(measurement.seconds + OVERHEAD_SECONDS);
      }
    }
    samples.push(...roundSamples);
    failures.push(...roundFailures);
  }
  return { samples, failures };
}

/** The entries in the order in which this round takes them for its n-th measurement. */
export function inTurn<T>(entries: readonly T[], round: number, measurement: number): T[] {
  if (entries.length === 0) return [];
  const first = (Math.floor(round / 2) + measurement) % entries.length;
  const rotated = [...entries.slice(first), ...entries.slice(0, first)];
  return round % 2 === 0 ? rotated : rotated.reverse();
}
