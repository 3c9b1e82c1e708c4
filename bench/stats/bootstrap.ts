import { type Random, seededRandom } from './random.js';
import { median, quantile } from './summary.js';

/** A number with the interval that holds the true one in 95 of 100 experiments like this. */
export interface Estimate {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

export const CONFIDENCE = 0.95;
const RESAMPLES = 4000;
const SEED = 20_240_607;

/**
 * Percentile bootstrap of a statistic of rounds: the rounds are drawn again with replacement, as often as there were
 * rounds, and the statistic is computed each time (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13).
 *
 * A round is drawn as a whole. What disturbed the machine in one round disturbed all contenders of that round, and such
 * a disturbance must not look like a difference between them.
 *
 * With five rounds and a median the interval reaches from the smallest to the largest round, as it should: that range
 * holds the true median in 94 of 100 cases.
 */
export function bootstrapRounds(
  rounds: number,
  statistic: (drawn: ArrayLike<number>) => number,
  random: Random = seededRandom(SEED),
): Estimate {
  const all = Int32Array.from({ length: rounds }, (_, round) => round);
  const value = statistic(all);
  if (rounds < 2) return { value, low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY };
  const drawn = new Int32Array(rounds);
  const results: number[] = [];
  for (let resample = 0; resample < RESAMPLES; resample++) {
    for (let i = 0; i < rounds; i++) drawn[i] = Math.floor(random() * rounds);
    const result = statistic(drawn);
    if (!Number.isNaN(result)) results.push(result);
  }
  if (results.length === 0) return { value, low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY };
  const sorted = Float64Array.from(results).sort();
  const tail = (1 - CONFIDENCE) / 2;
  return { value, low: quantile(sorted, tail), high: quantile(sorted, 1 - tail) };
}

/**
 * The ratio of two medians, samples paired by round.
 *
 * @param numerator one sample a round; `denominator` has the same rounds in the same order
 */
export function medianRatio(numerator: readonly number[], denominator: readonly number[], random?: Random): Estimate {
  if (numerator.length !== denominator.length) {
    throw new RangeError(
      `${numerator.length} samples against ${denominator.length}; pair them by round before comparing them`,
    );
  }
  const top = new Float64Array(numerator.length);
  const bottom = new Float64Array(numerator.length);
  return bootstrapRounds(
    numerator.length,
    (drawn) => {
      for (let i = 0; i < drawn.length; i++) {
        top[i] = numerator[drawn[i] as number] as number;
        bottom[i] = denominator[drawn[i] as number] as number;
      }
      return quantile(top.sort(), 0.5) / quantile(bottom.sort(), 0.5);
    },
    random,
  );
}

/** The ratio of two medians whose samples have nothing to do with each other: two runs of the benchmark. */
export function unpairedMedianRatio(
  numerator: readonly number[],
  denominator: readonly number[],
  random: Random = seededRandom(SEED),
): Estimate {
  const value = median(numerator) / median(denominator);
  if (numerator.length < 2 || denominator.length < 2) {
    return { value, low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY };
  }
  const results = new Float64Array(RESAMPLES);
  const top = new Float64Array(numerator.length);
  const bottom = new Float64Array(denominator.length);
  const draw = (samples: readonly number[], into: Float64Array) => {
    for (let i = 0; i < into.length; i++) into[i] = samples[Math.floor(random() * samples.length)] as number;
    return quantile(into.sort(), 0.5);
  };
  for (let i = 0; i < RESAMPLES; i++) results[i] = draw(numerator, top) / draw(denominator, bottom);
  results.sort();
  const tail = (1 - CONFIDENCE) / 2;
  return { value, low: quantile(results, tail), high: quantile(results, 1 - tail) };
}
