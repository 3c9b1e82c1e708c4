import { messageOf } from '../../src/base/errors.js';
import type { Progress } from './progress.js';
import type { Failure, Sample, Values } from './results.js';

export interface RoundMeasurement<Place> {
  readonly id: string;
  readonly title: string;
  /** About how long it takes, set-up included; for the progress display. */
  readonly seconds: number;
  run(place: Place): Promise<Values>;
}

export interface RoundsPlan<Place> {
  readonly suite: string;
  /** `whole` or `segmented`, what the link between the hosts can do; empty where there is none. */
  readonly underlay: string;
  readonly rounds: number;
  readonly contenders: readonly string[];
  readonly measurements: readonly RoundMeasurement<Place>[];
  /** The noise check: this contender takes part twice in some measurements. */
  readonly twice?: { readonly contender: string; readonly measurements: readonly string[] };
  /** Leaves out what tells nothing. */
  readonly skip?: (measurement: string, contender: string) => boolean;
}

export interface RoundsResult {
  readonly samples: readonly Sample[];
  readonly failures: readonly Failure[];
}

/** What the second entry of the noise check is called: its contender's id with this behind it. */
export const AGAIN = '-again';

/** The contenders of one measurement; the twin of the noise check comes last. */
function participants<Place>(plan: RoundsPlan<Place>, measurement: string): string[] {
  const wanted = plan.contenders.filter((contender) => !plan.skip?.(measurement, contender));
  const { twice } = plan;
  const again = twice?.measurements.includes(measurement) === true && wanted.includes(twice.contender);
  return again ? [...wanted, twice.contender + AGAIN] : wanted;
}

/** How many steps a plan has and how long they will take. */
export function plannedSteps<Place>(plan: RoundsPlan<Place>): { steps: number; seconds: number } {
  let steps = 0;
  let seconds = 0;
  for (const measurement of plan.measurements) {
    const count = participants(plan, measurement.id).length * plan.rounds;
    steps += count;
    seconds += count * measurement.seconds;
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
 *
 * @param places by contender; one that has none is left out
 */
export async function runRounds<Place>(
  plan: RoundsPlan<Place>,
  places: ReadonlyMap<string, Place>,
  { progress, signal, now }: { readonly progress: Progress; readonly signal: AbortSignal; readonly now: () => number },
): Promise<RoundsResult> {
  const samples: Sample[] = [];
  const failures: Failure[] = [];
  for (let round = 0; round < plan.rounds; round++) {
    const roundSamples: Sample[] = [];
    const roundFailures: Failure[] = [];
    const conditions = plan.underlay === '' ? '' : `, underlay ${plan.underlay}`;
    const title = `${plan.suite}${conditions}, round ${round + 1} of ${plan.rounds}`;
    progress.round(title);
    for (const [number, measurement] of plan.measurements.entries()) {
      for (const contender of inTurn(participants(plan, measurement.id), round, number)) {
        const place = places.get(withoutAgain(contender));
        if (place !== undefined) {
          const where = { suite: plan.suite, measurement: measurement.id, contender, underlay: plan.underlay, round };
          progress.step(`${title}: ${measurement.title}, ${contender}`);
          const at = now();
          try {
            roundSamples.push({ ...where, at, values: finite(await measurement.run(place)) });
          } catch (error) {
            if (signal.aborted) return { samples, failures };
            roundFailures.push({ ...where, message: messageOf(error) });
            progress.note(`✗ ${measurement.title}, ${contender}: ${messageOf(error)}`);
          }
        }
        if (signal.aborted) return { samples, failures };
        progress.done(measurement.seconds);
      }
    }
    samples.push(...roundSamples);
    failures.push(...roundFailures);
  }
  return { samples, failures };
}

/** What was not seen has no value, rather than one that JSON cannot hold. */
function finite(values: Values): Values {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => Number.isFinite(value)));
}

export function withoutAgain(contender: string): string {
  return contender.endsWith(AGAIN) ? contender.slice(0, -AGAIN.length) : contender;
}

/** The entries in the order in which this round takes them for its n-th measurement. */
export function inTurn<T>(entries: readonly T[], round: number, measurement: number): T[] {
  if (entries.length === 0) return [];
  const first = (Math.floor(round / 2) + measurement) % entries.length;
  const rotated = [...entries.slice(first), ...entries.slice(0, first)];
  return round % 2 === 0 ? rotated : rotated.reverse();
}
