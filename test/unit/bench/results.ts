import type { Metric, Results, Sample } from '../../../bench/harness/results.js';

const gbps: Metric = { id: 'gbps', title: 'rate', unit: 'Gbit/s', better: 'more', digits: 2 };

/** One sample a round of one metric. */
export function sampleSeries(
  where: Omit<Sample, 'round' | 'at' | 'values'>,
  metric: string,
  values: readonly number[],
): Sample[] {
  return values.map((value, round) => ({ ...where, round, at: round, values: { [metric]: value } }));
}

/** Results of a quiet machine with these samples; every measurement yields Gbit/s. */
export function makeResults(samples: readonly Sample[]): Results {
  const measurements = new Map(
    samples.map(({ suite, measurement }) => [`${suite}/${measurement}`, { suite, measurement }]),
  );
  const contenders = new Set(samples.map(({ contender }) => contender).filter((id) => !id.endsWith('-again')));
  return {
    schema: 'tweed-bench/1',
    startedAt: '2026-01-02T03:04:05.000Z',
    seconds: 60,
    complete: true,
    options: {},
    machine: {
      kernel: 'Linux 6.18',
      cpuModel: 'CPU',
      cpus: 2,
      memoryBytes: 1,
      hypervisor: '',
      node: 'v20.20.2',
      tweed: '0.1.0',
      commit: 'abc',
      iperf3: 'iperf 3.12',
      mitigations: {},
      sysctls: {},
    },
    quietness: { busyBefore: 0, loadAverage: [0, 0, 0], stolen: 0, others: 0 },
    contenders: [...contenders].map((id) => ({
      id,
      title: id,
      description: '',
      encrypted: false,
      features: {},
      unavailable: '',
    })),
    measurements: [...measurements.values()].map(({ suite, measurement }) => ({
      suite,
      id: measurement,
      title: measurement,
      metrics: [gbps],
    })),
    samples,
    failures: [],
  };
}
