import { baselineIds } from '../../bench/crossings/baselines.js';
import type { Results, Sample, Values } from '../../bench/harness/results.js';
import { AGAIN } from '../../bench/harness/rounds.js';
import { way } from '../../bench/report/crossings.js';
import { plansOf, suiteIds } from '../../bench/run.js';
import { seededRandom } from '../../bench/stats/random.js';

/**
 * Results of a full run that never took place: every suite, every contender, with numbers of a likely size. For tests of
 * what is made of results.
 */
export function simulatedResults(): Results {
  const random = seededRandom(5);
  const about = (value: number) => value * (0.97 + 0.06 * random());
  const plans = plansOf(suiteIds, {
    quick: false,
    rounds: 5,
    seconds: 1,
    underlays: ['whole', 'segmented'],
    contenders: null,
    measurements: null,
  });
  const samples: Sample[] = [];
  for (const { suite, underlay, rounds, contenders, measurements, skip, twice } of plans) {
    for (const { id: measurement, metrics } of measurements) {
      const again = twice?.measurements.includes(measurement) ? [twice.contender + AGAIN] : [];
      for (const [place, contender] of [...contenders, ...again].entries()) {
        if (skip?.(measurement, contender)) continue;
        const speed = contender.startsWith('tweed') ? 4 : 10 / (1 + place);
        for (let round = 0; round < rounds; round++) {
          const values: Values =
            suite === 'crossings'
              ? crossingValues(contender, Number(measurement.split('-')[1]), about)
              : {
                  hosts: Number(/\d+/.exec(measurement)?.[0] ?? 1),
                  leases: Number(/\d+/.exec(measurement)?.[0] ?? 1),
                  daemonCpu: about(1),
                  wirePackets: about(1e5),
                  underlayBytes: underlay === 'whole' ? 1e9 : 1e6,
                  underlayPackets: underlay === 'whole' ? 1e5 : 1e3,
                  ...Object.fromEntries(
                    metrics.map(({ id, better }) => [id, about(better === 'more' ? speed : 9 / speed)]),
                  ),
                };
          samples.push({ suite, measurement, contender, underlay, round, at: samples.length, values });
        }
      }
    }
  }
  const ids = new Set(samples.map(({ contender }) => contender).filter((id) => !id.endsWith(AGAIN)));
  return {
    schema: 'tweed-bench/1',
    startedAt: '2026-01-02T03:04:05.000Z',
    seconds: 1200,
    complete: true,
    options: {},
    machine: {
      kernel: 'Linux 6.18',
      cpuModel: 'Imaginary CPU',
      cpus: 2,
      memoryBytes: 8 * 2 ** 30,
      hypervisor: '',
      node: process.version,
      tweed: '0.1.0',
      commit: 'simulated',
      iperf3: 'iperf 3.12',
      mitigations: {},
      sysctls: {},
    },
    quietness: { busyBefore: 0, loadAverage: [0, 0, 0], stolen: 0, others: 0 },
    contenders: [...ids].map((id) => ({
      id,
      title: id,
      description: 'simulated',
      encrypted: ['wireguard-go', 'nebula'].includes(id),
      features: {},
      unavailable: '',
    })),
    measurements: plans.flatMap(({ suite, measurements }) =>
      measurements.map(({ id, title, metrics }) => ({ suite, id, title, metrics })),
    ),
    samples,
    failures: [],
  };
}

function crossingValues(contender: string, length: number, about: (value: number) => number): Values {
  if (contender === 'baseline') return Object.fromEntries(baselineIds.map((id) => [`${id}.wall`, about(100)]));
  const fixed: Record<string, number> = { full: 3000, empty: 500, plain: 1000, short: 1000, dropped: 1500 };
  const variants = ['full', 'empty', 'plain', 'short', 'dropped'];
  return Object.fromEntries(
    way.flatMap(({ part, kind }) =>
      variants.flatMap((variant) => {
        const bytes = ['empty', 'short'].includes(variant) ? 0 : 0.03 * length;
        const value = kind === 'work' ? 200 + bytes : (fixed[variant] ?? 0) + bytes;
        return ['wall', 'cpu'].map((clock) => [`${part}.${variant}.${clock}`, about(value)]);
      }),
    ),
  );
}
