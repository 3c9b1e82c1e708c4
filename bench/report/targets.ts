import type { Results } from '../harness/results.js';
import type { UnderlayState } from '../network/pair.js';
import { median } from '../stats/summary.js';
import { formatEstimate, formatSeries } from './format.js';
import { ratioOf, series } from './series.js';

/** Something that this project has promised, and whether a run kept it. */
export interface TargetResult {
  readonly title: string;
  readonly wanted: string;
  readonly measured: string;
  /** Null when the run did not measure it. */
  readonly met: boolean | null;
}

interface RatioTarget {
  readonly title: string;
  /** `throughput` if not told. */
  readonly suite?: string;
  readonly underlay: string;
  readonly measurement: string;
  readonly metric: string;
  readonly over: readonly [numerator: string, denominator: string];
  readonly least?: number;
  readonly most?: number;
}

const RATIO_TARGETS: readonly RatioTarget[] = [
  {
    title: 'one TCP stream, tweed ÷ offloads off',
    underlay: 'whole',
    measurement: 'tcp-1',
    metric: 'gbps',
    over: ['tweed', 'tweed-off'],
    least: 10,
  },
  {
    title: 'one TCP stream, tweed ÷ kernel VXLAN',
    underlay: 'whole',
    measurement: 'tcp-1',
    metric: 'gbps',
    over: ['tweed', 'vxlan'],
    least: 0.45,
  },
  {
    title: 'one TCP stream, underlay segmentation off, tweed ÷ direct',
    underlay: 'segmented',
    measurement: 'tcp-1',
    metric: 'gbps',
    over: ['tweed', 'direct'],
    least: 0.5,
  },
  {
    title: '64 B packets carried under flood, tweed ÷ offloads off',
    underlay: 'whole',
    measurement: 'flood-64',
    metric: 'kpps',
    over: ['tweed', 'tweed-off'],
    least: 1.8,
  },
  {
    title: 'daemon CPU per GB, tweed ÷ offloads off',
    underlay: 'whole',
    measurement: 'tcp-1',
    metric: 'daemonCpuPerGb',
    over: ['tweed', 'tweed-off'],
    most: 1 / 6,
  },
  {
    title: 'idle RTT, tweed ÷ offloads off',
    underlay: 'whole',
    measurement: 'ping',
    metric: 'rttP50',
    over: ['tweed', 'tweed-off'],
    most: 1.1,
  },
  {
    title: 'one TCP stream, offloads off ÷ plain C loop',
    underlay: 'whole',
    measurement: 'tcp-1',
    metric: 'gbps',
    over: ['tweed-off', 'c-loop'],
    least: 0.9,
  },
  ...kernelPathTargets(
    'one TCP stream, kernel path direct ÷ kernel VXLAN',
    ['kernel-direct', 'vxlan'],
    'tcp-1',
    'gbps',
    {
      whole: { least: 1.2 },
      segmented: { least: 1 },
    },
  ),
  ...kernelPathTargets('one TCP stream, kernel path route ÷ user space', ['kernel-route', 'tweed'], 'tcp-1', 'gbps', {
    whole: { least: 1.1 },
    segmented: { least: 1.5 },
  }),
  ...kernelPathTargets(
    'whole CPU per GB, kernel path direct ÷ kernel VXLAN',
    ['kernel-direct', 'vxlan'],
    'tcp-1',
    'machineCpuPerGb',
    { whole: { most: 0.8 }, segmented: { most: 1 } },
  ),
  ...kernelPathTargets('idle ping, kernel path direct ÷ kernel VXLAN', ['kernel-direct', 'vxlan'], 'ping', 'rttP50', {
    whole: { most: 1 },
  }),
  ...kernelPathTargets(
    '64 B packets under flood, kernel path direct ÷ kernel VXLAN',
    ['kernel-direct', 'vxlan'],
    'flood-64',
    'kpps',
    {
      whole: { least: 1 },
    },
  ),
  {
    title: 'UDP request and response, kernel path direct ÷ kernel VXLAN',
    suite: 'latency',
    underlay: 'whole',
    measurement: 'udp-rr',
    metric: 'rttP50',
    over: ['kernel-direct', 'vxlan'],
    most: 1,
  },
  {
    title: 'one TCP stream, tweed, IPv6 by IPv4 ÷ IPv4 by IPv4',
    suite: 'families',
    underlay: 'whole',
    measurement: 'tcp-1',
    metric: 'gbps',
    over: ['tweed-v6-on-v4', 'tweed'],
    least: 0.95,
  },
  {
    title: 'one TCP stream, encrypted: tweed ÷ wireguard-go',
    suite: 'peers',
    underlay: 'whole',
    measurement: 'tcp-1',
    metric: 'gbps',
    over: ['tweed-wireguard', 'wireguard-go'],
    least: 6,
  },
  {
    title: 'one TCP stream, encrypted: tweed ÷ nebula',
    suite: 'peers',
    underlay: 'whole',
    measurement: 'tcp-1',
    metric: 'gbps',
    over: ['tweed-wireguard', 'nebula'],
    least: 5,
  },
  {
    title: 'one TCP stream, encrypted ÷ in the clear',
    suite: 'peers',
    underlay: 'whole',
    measurement: 'tcp-1',
    metric: 'gbps',
    over: ['tweed-wireguard', 'tweed'],
    least: 0.4,
  },
];

type Bounds = Readonly<Partial<Record<UnderlayState, Pick<RatioTarget, 'least' | 'most'>>>>;

/** The same target under each condition that has a bound. */
function kernelPathTargets(
  title: string,
  over: RatioTarget['over'],
  measurement: string,
  metric: string,
  bounds: Bounds,
): RatioTarget[] {
  return Object.entries(bounds).map(([underlay, bound]) => ({
    title: underlay === 'whole' ? title : `${title}, underlay segmentation off`,
    underlay,
    measurement,
    metric,
    over,
    ...bound,
  }));
}

/** Holds a run against the project's own targets. The medians decide; the interval says how sure that is. */
export function checkTargets(results: Pick<Results, 'samples'>): TargetResult[] {
  return [
    ...RATIO_TARGETS.map((target) => checkRatio(results, target)),
    ...HANDSHAKE_TARGETS.map((target) => checkMedian(results, target)),
    checkRetransmits(results),
  ];
}

interface MedianTarget extends Pick<RatioTarget, 'title' | 'measurement' | 'metric' | 'least' | 'most'> {
  readonly unit: string;
}

const HANDSHAKE_TARGETS: readonly MedianTarget[] = [
  {
    title: 'handshakes answered while one TCP stream runs',
    measurement: 'flood-520',
    metric: 'perSecond',
    unit: 'a second',
    least: 500,
  },
  {
    title: 'what the stream keeps of its rate meanwhile',
    measurement: 'flood-520',
    metric: 'kept',
    unit: '%',
    least: 80,
  },
  { title: 'handshake and first packet, idle', measurement: 'first', metric: 'ms', unit: 'ms', most: 5 },
];

/** One of the suite `handshakes`, whose figures are held against a bound and not against somebody else's. */
function checkMedian(results: Pick<Results, 'samples'>, target: MedianTarget): TargetResult {
  const { title, measurement, metric, unit, least, most } = target;
  const rounds = series(results, { suite: 'handshakes', measurement }, metric);
  const bound = least ?? most ?? 0;
  const wanted = `${least === undefined ? '≤' : '≥'} ${bound} ${unit}`;
  if (rounds.length === 0) return { title, wanted, measured: 'not measured', met: null };
  const value = median(rounds);
  const met = least === undefined ? value <= bound : value >= bound;
  return { title, wanted, measured: `${formatSeries(rounds, 1)} ${unit}`, met };
}

function checkRatio(results: Pick<Results, 'samples'>, target: RatioTarget): TargetResult {
  const { title, suite = 'throughput', underlay, measurement, metric, over, least, most } = target;
  const where = { suite, underlay, measurement };
  const [contender, other] = over;
  const ratio = ratioOf(results, { ...where, contender }, { ...where, contender: other }, metric);
  const bound = least ?? most ?? 0;
  const wanted = `${least === undefined ? '≤' : '≥'} ${Number(bound.toFixed(3))}`;
  if (ratio === null) return { title, wanted, measured: 'not measured', met: null };
  const met = least === undefined ? ratio.value <= bound : ratio.value >= bound;
  return { title, wanted, measured: formatEstimate(ratio, bound < 1 ? 3 : 2), met };
}

function checkRetransmits(results: Pick<Results, 'samples'>): TargetResult {
  const where = { suite: 'throughput', underlay: 'whole', measurement: 'tcp-1-ordered', contender: 'tweed' };
  const rounds = series(results, where, 'retransmits');
  const clean = rounds.filter((retransmits) => retransmits === 0).length;
  return {
    title: 'retransmits in 10 s of one TCP stream, links keep the order, tweed',
    wanted: '0 in most rounds',
    measured: rounds.length === 0 ? 'not measured' : `0 in ${clean} of ${rounds.length} (${rounds.join(', ')})`,
    met: rounds.length === 0 ? null : clean * 2 > rounds.length,
  };
}
