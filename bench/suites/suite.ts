import type { Progress } from '../harness/progress.js';
import type { ContenderInfo, Metric } from '../harness/results.js';
import type { RoundMeasurement, RoundsPlan } from '../harness/rounds.js';
import type { UnderlayState } from '../network/pair.js';

/** What the command line decides. */
export interface Settings {
  /** A first answer in a few minutes: fewer contenders, shorter tests. */
  readonly quick: boolean;
  readonly rounds: number;
  /** Length of a traffic test. */
  readonly seconds: number;
  readonly underlays: readonly UnderlayState[];
  /** Only these contenders and measurements, by id; null for all. */
  readonly contenders: readonly string[] | null;
  readonly measurements: readonly string[] | null;
}

/** One thing to measure, the same for all contenders of a suite. */
export interface Measurement<Place> extends RoundMeasurement<Place> {
  readonly metrics: readonly Metric[];
}

/** Rounds of a suite under one condition. */
export interface SuitePlan<Place> extends Omit<RoundsPlan<Place>, 'measurements'> {
  readonly measurements: readonly Measurement<Place>[];
}

/** What a suite may ask for while it is being set up. */
export interface SuiteContext {
  readonly settings: Settings;
  readonly progress: Progress;
  /** When it fires, nothing more has to be set up. */
  readonly signal: AbortSignal;
  /** Has something done when the run ends, however it ends; last in, first out. */
  defer(work: () => Promise<void>): void;
}

/** Where the contenders of a suite are measured. */
export interface Stage<Place> {
  readonly contenders: readonly ContenderInfo[];
  /** By contender; one that is unavailable has none. */
  readonly places: ReadonlyMap<string, Place>;
  /** Called before the first round of every plan. */
  prepare?(plan: SuitePlan<Place>): Promise<void>;
}

/** A group of measurements that answers one question. */
export interface Suite<Place> {
  readonly id: string;
  readonly title: string;
  /** Its contenders are its own, and are not chosen on the command line. */
  readonly ownContenders?: boolean;
  /** Pure: what would be measured with these settings. */
  plans(settings: Settings): readonly SuitePlan<Place>[];
  open(context: SuiteContext): Promise<Stage<Place>>;
}

/** The plans with what the command line left out left out. */
export function selectPlans<Place>(suite: Suite<Place>, settings: Settings): SuitePlan<Place>[] {
  const { contenders, measurements } = settings;
  return suite
    .plans(settings)
    .map((plan) => ({
      ...plan,
      contenders: plan.contenders.filter((id) => suite.ownContenders || contenders === null || contenders.includes(id)),
      measurements: plan.measurements.filter(({ id }) => measurements === null || measurements.includes(id)),
    }))
    .filter((plan) => plan.contenders.length > 0 && plan.measurements.length > 0);
}
