import type { Results } from '../harness/results.js';
import { noiseChecks } from './noise.js';

/** CPUs; more than so much of others' work and rates are theirs as well as ours. */
const BUSY_BEFORE = 0.25;
const OTHERS = 0.1;
const STOLEN = 0.02;
/** Half the width of the interval of a contender against itself. */
const NOISE = 0.15;

/** Reasons not to believe a run; empty for a good one. */
export function warnings(results: Results): string[] {
  const { quietness, complete, machine } = results;
  const found: string[] = [];
  if (!complete) found.push('the run was interrupted: only finished rounds are shown');
  if (quietness.busyBefore > BUSY_BEFORE) {
    found.push(
      `before the first measurement others kept ${quietness.busyBefore.toFixed(2)} of ${machine.cpus} CPUs busy: these numbers say little; stop them and measure again`,
    );
  }
  if (quietness.others > OTHERS) {
    found.push(
      `other programs used ${quietness.others.toFixed(2)} of ${machine.cpus} CPUs during the run; stop them and measure again`,
    );
  }
  if (quietness.stolen > STOLEN) {
    found.push(
      `the hypervisor gave ${(quietness.stolen * 100).toFixed(1)} % of the CPU time to others; measure again at another time`,
    );
  }
  found.push(...underlayDoubts(results));
  for (const { title, ratio } of noiseChecks(results)) {
    if (ratio.low > 1 || ratio.high < 1) {
      found.push(`${title}: a contender differs from itself, so this run can tell no small differences`);
    } else if ((ratio.high - ratio.low) / 2 > NOISE) {
      found.push(
        `${title}: a contender against itself is known only to ±${(50 * (ratio.high - ratio.low)).toFixed(0)} %; take differences smaller than that for noise`,
      );
    }
  }
  return found;
}

/** Bytes of the longest packet that fits the underlay's MTU, its Ethernet header included. */
const LARGEST_FRAME = 1514;

/** Did the link between the hosts do what it was told? Seen by the packets that passed it, not by its settings. */
function underlayDoubts({ samples }: Results): string[] {
  const frames = samples.filter(({ measurement, contender }) => measurement === 'tcp-1' && contender === 'direct');
  const wrong = frames.filter(({ underlay, values }) => {
    const mean = (values.underlayBytes ?? 0) / (values.underlayPackets ?? 1);
    return underlay === 'whole' ? mean <= LARGEST_FRAME : mean > LARGEST_FRAME;
  });
  if (wrong.length === 0) return [];
  return [
    `in ${wrong.length} of ${frames.length} TCP tests the underlay did not carry packets as it was set to: do not compare the two conditions`,
  ];
}
