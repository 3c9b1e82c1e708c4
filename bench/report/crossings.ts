/** What the samples of the crossings suite mean: fitted lines, and the parts that a crossing is made of. */
import type { TimedPart } from '../crossings/watches.js';
import type { Results, Sample } from '../harness/results.js';
import type { Estimate } from '../stats/bootstrap.js';
import { fitLine, type Line, type Point } from '../stats/regression.js';
import { median } from '../stats/summary.js';
import { CROSSINGS } from '../suites/crossings.js';

type Samples = Pick<Results, 'samples'>;
export type Mode = 'single' | 'super';
export type CacheState = 'warm' | 'cold';
export type ClockId = 'wall' | 'cpu';

/** A packet's way, in order. */
export const way: readonly {
  readonly part: TimedPart;
  readonly title: string;
  readonly kind: 'read' | 'write' | 'work';
}[] = [
  { part: 'app-send', title: 'application: send', kind: 'write' },
  { part: 'tun-read', title: 'daemon: read TUN', kind: 'read' },
  { part: 'tx-work', title: 'daemon: own work', kind: 'work' },
  { part: 'udp-send', title: 'daemon: send UDP', kind: 'write' },
  { part: 'udp-receive', title: 'daemon: receive UDP', kind: 'read' },
  { part: 'rx-work', title: 'daemon: own work (receiving)', kind: 'work' },
  { part: 'tun-write', title: 'daemon: write TUN', kind: 'write' },
  { part: 'app-receive', title: 'application: receive', kind: 'read' },
];

/** What the time of a part of the way went to. */
export const components = ['koffi', 'entry', 'copy', 'stack', 'onward', 'daemon'] as const;
export type Component = (typeof components)[number];

export const componentTitles: Readonly<Record<Component, string>> = {
  koffi: 'call into libc (koffi)',
  entry: 'system call: entry and arguments',
  copy: 'copy across the boundary',
  stack: 'network stack: this call’s own',
  onward: 'network stack: onward to the next queue',
  daemon: 'daemon: checks, headers, checksums, merging',
};

export type Breakdown = Readonly<Record<Component, number>>;

/** Payload of a full packet of the tunnel: its MTU less IPv4 and UDP headers. */
const SEGMENT = 1444;
const HEADERS = 28;

/** How many packets on the wire a super-packet of so many bytes becomes. */
export function wirePackets(length: number): number {
  return Math.max(1, Math.ceil((length - HEADERS) / SEGMENT));
}

function measurementOf(cache: CacheState, length: number): string {
  return `${cache}-${length}`;
}

function crossingSamples(results: Samples, contender: string, cache: CacheState): { sample: Sample; length: number }[] {
  return results.samples
    .filter((sample) => sample.suite === CROSSINGS && sample.contender === contender)
    .flatMap((sample) => {
      const [state, length] = sample.measurement.split('-');
      return state === cache ? [{ sample, length: Number(length) }] : [];
    });
}

/** The lengths that were measured, ascending. */
export function lengthsOf(results: Samples, mode: Mode, cache: CacheState): number[] {
  const found = new Set(crossingSamples(results, mode, cache).map(({ length }) => length));
  return [...found].sort((a, b) => a - b);
}

/** One point for each round and length: nanoseconds per call. */
export function pointsOf(results: Samples, mode: Mode, part: TimedPart, clock: ClockId, variant = 'full'): Point[] {
  return crossingSamples(results, mode, 'warm').flatMap(({ sample, length }) => {
    const value = sample.values[`${part}.${variant}.${clock}`];
    return value === undefined || Number.isNaN(value) ? [] : [{ x: length, y: value }];
  });
}

export interface Fit {
  readonly mode: Mode;
  readonly part: TimedPart;
  readonly title: string;
  readonly wall: Line;
  readonly cpu: Line;
  /** Wall time over CPU time of the same calls, at the largest length: where the two ways disagree. */
  readonly wallOverCpu: number;
}

/** The cost of every crossing against length, warm caches: a fixed part and a part per byte. */
export function fitCrossings(results: Samples, mode: Mode): Fit[] {
  return way.flatMap(({ part, title, kind }) => {
    const wall = pointsOf(results, mode, part, 'wall');
    const cpu = pointsOf(results, mode, part, 'cpu');
    if (kind === 'work' || new Set(wall.map(({ x }) => x)).size < 2 || wall.length < 3) return [];
    const largest = Math.max(...wall.map(({ x }) => x));
    const at = (points: readonly Point[]) => median(points.filter(({ x }) => x === largest).map(({ y }) => y));
    return [{ mode, part, title, wall: fitLine(wall), cpu: fitLine(cpu), wallOverCpu: at(wall) / at(cpu) }];
  });
}

/** The copying alone, against length: what reading a packet takes more than reading a few bytes of it. */
export function fitCopy(results: Samples, mode: Mode): Line | null {
  const points = crossingSamples(results, mode, 'warm').flatMap(({ sample, length }) =>
    readingParts.flatMap((part) => {
      const copy = copyOf(sample, part);
      return copy === null ? [] : [{ x: length, y: copy }];
    }),
  );
  return new Set(points.map(({ x }) => x)).size < 2 || points.length < 3 ? null : fitLine(points, 'equal');
}

const readingParts = way.filter(({ kind }) => kind === 'read').map(({ part }) => part);

/** What a read spends on copying, by one sample; null where it was not measured. */
function copyOf({ values }: Sample, part: TimedPart): number | null {
  const plain = values[`${part}.plain.wall`];
  const short = values[`${part}.short.wall`];
  return plain === undefined || short === undefined ? null : plain - short;
}

export interface PartBreakdown {
  readonly part: TimedPart;
  readonly title: string;
  readonly total: number;
  readonly components: Breakdown;
}

const NOTHING: Breakdown = { koffi: 0, entry: 0, copy: 0, stack: 0, onward: 0, daemon: 0 };

/**
 * What each part of the way is made of, in nanoseconds of a call, for packets of one length: medians over the rounds.
 *
 * - koffi: a call of a function that does nothing.
 * - entry: the same system call with nothing to do, less koffi.
 * - copy: of reads, what reading a packet takes more than reading a few bytes of it. Writes cannot be done
 *   without copying, so theirs is taken to be what reads of that length spend, and never more than there is.
 * - stack: the rest of the call; of writes only as far as a packet that is dropped at once goes.
 * - onward: writes only: what a packet that arrives takes more than one that is dropped.
 *
 * Differences that come out below 0, which only noise can do, count as 0.
 */
export function breakDown(results: Samples, mode: Mode, cache: CacheState, length: number): PartBreakdown[] {
  const samples = results.samples.filter(
    ({ suite, contender, measurement }) =>
      suite === CROSSINGS && contender === mode && measurement === measurementOf(cache, length),
  );
  if (samples.length === 0) return [];
  const value = (part: TimedPart, variant: string) =>
    median(samples.flatMap(({ values }) => values[`${part}.${variant}.wall`] ?? []));
  const koffi = baseline(results, 'nothing');
  const copies = readingParts.map((part) => Math.max(0, value(part, 'plain') - value(part, 'short')));
  const typicalCopy = copies.reduce((sum, copy) => sum + copy, 0) / copies.length;
  return way.map(({ part, title, kind }) => {
    const total = Math.max(0, value(part, 'full'));
    if (kind === 'work') return { part, title, total, components: { ...NOTHING, daemon: total } };
    const entry = Math.max(0, Math.min(total, value(part, 'empty')) - koffi);
    const own = kind === 'write' ? Math.min(total, value(part, 'dropped')) : total;
    const afterEntry = Math.max(0, own - entry - koffi);
    const readCopy = copies[readingParts.indexOf(part)] ?? typicalCopy;
    const copy = Math.min(afterEntry, readCopy);
    return {
      part,
      title,
      total,
      components: { ...NOTHING, koffi, entry, copy, stack: afterEntry - copy, onward: total - own },
    };
  });
}

/** The median of a yardstick, over all rounds and lengths. */
export function baseline(results: Samples, id: string): number {
  const values = results.samples
    .filter(({ suite, contender }) => suite === CROSSINGS && contender === 'baseline')
    .flatMap((sample) => sample.values[`${id}.wall`] ?? []);
  return values.length === 0 ? 0 : median(values);
}

/** A breakdown per packet on the wire: a super-packet's costs are shared by the packets that it replaces. */
export function perWirePacket(parts: readonly PartBreakdown[], length: number): PartBreakdown[] {
  const packets = wirePackets(length);
  return parts.map((part) => ({
    ...part,
    total: part.total / packets,
    components: Object.fromEntries(
      components.map((component) => [component, part.components[component] / packets]),
    ) as Breakdown,
  }));
}

/** All parts together. */
export function sumBreakdown(parts: readonly PartBreakdown[]): Breakdown {
  return Object.fromEntries(
    components.map((component) => [component, parts.reduce((sum, part) => sum + part.components[component], 0)]),
  ) as Breakdown;
}

export function totalOf(breakdown: Breakdown): number {
  return components.reduce((sum, component) => sum + breakdown[component], 0);
}

/** The answer to the suite's question, per full-size packet on the wire. */
export interface Answer {
  readonly single: Breakdown;
  readonly super: Breakdown;
  readonly superLength: number;
  /** Nanoseconds per byte of one copy. */
  readonly copyPerByte: Estimate | null;
  /** The cheapest system call, without koffi. */
  readonly systemCall: number;
}

export function answer(results: Samples): Answer | null {
  const length = lengthsOf(results, 'single', 'warm').at(-1);
  const superLength = lengthsOf(results, 'super', 'warm').at(-1);
  if (length === undefined || superLength === undefined) return null;
  return {
    single: sumBreakdown(breakDown(results, 'single', 'warm', length)),
    super: sumBreakdown(perWirePacket(breakDown(results, 'super', 'warm', superLength), superLength)),
    superLength,
    copyPerByte: fitCopy(results, 'super')?.slope ?? null,
    systemCall: Math.max(0, baseline(results, 'getppid') - baseline(results, 'nothing')),
  };
}

/** What a way of carrying packets should cost the daemons by the crossings, and what it did cost; ns per packet on the wire. */
export interface Prediction {
  readonly title: string;
  readonly warm: number;
  /** Everything is fetched anew from beyond the CPU's own caches. Null when it was not measured. */
  readonly cold: number | null;
  /** Cold, and with as many calls a packet as the daemons made, whose super-packets were not all full. */
  readonly asCalled: number | null;
  readonly running: number;
}

/** Holds the crossings' sums against running daemons of the ladder: which of the two is wrong, and by how much. */
export function predictions(results: Samples): Prediction[] {
  const cases: readonly (readonly [title: string, mode: Mode, length: number, contender: string, test: string])[] = [
    ['64 B flood, offloads off', 'single', 64 + HEADERS, 'tweed-off', 'flood-64'],
    ['one TCP stream, offloads off', 'single', 1472, 'tweed-off', 'tcp-1'],
    ['one TCP stream, as shipped', 'super', 63_488, 'tweed', 'tcp-1'],
  ];
  return cases.flatMap(([title, mode, length, contender, measurement]) => {
    const samples = results.samples.filter(
      (one) => one.suite === 'ladder' && one.contender === contender && one.measurement === measurement,
    );
    const each = (of: (values: Sample['values']) => number | undefined) =>
      samples.flatMap(({ values }) => of(values) ?? []);
    const costs = each(({ wirePackets: wire, packets = wire, daemonCpu }) =>
      daemonCpu === undefined || packets === undefined ? undefined : (daemonCpu * 1e9) / (wire ?? packets),
    );
    const warmAt = nearestTo(lengthsOf(results, mode, 'warm'), length);
    const warm = warmAt === null ? null : predictedDaemonCost(results, mode, warmAt);
    if (warm === null || costs.length === 0) return [];
    const coldAt = nearestTo(lengthsOf(results, mode, 'cold'), length);
    const isSame = coldAt !== null && coldAt === warmAt;
    const calls = each(({ callsPerPacket }) => callsPerPacket);
    return [
      {
        title,
        warm,
        cold: isSame ? predictedDaemonCost(results, mode, coldAt, { cache: 'cold' }) : null,
        asCalled:
          isSame && calls.length > 0
            ? predictedDaemonCost(results, mode, coldAt, { cache: 'cold', callsPerPacket: median(calls) })
            : null,
        running: median(costs),
      },
    ];
  });
}

/** Of some lengths the one that is closest; null when there are none. */
export function nearestTo(lengths: readonly number[], wanted: number): number | null {
  return [...lengths].sort((a, b) => Math.abs(a - wanted) - Math.abs(b - wanted))[0] ?? null;
}

/**
 * What the daemon's own four crossings and its work cost per packet by this suite: to hold against a running daemon.
 *
 * @param callsPerPacket of a running daemon: then each call costs what it does, but for copies, and so many are made
 */
export function predictedDaemonCost(
  results: Samples,
  mode: Mode,
  length: number,
  { cache = 'warm' as CacheState, callsPerPacket = null as number | null } = {},
): number | null {
  const parts = perWirePacket(breakDown(results, mode, cache, length), length);
  if (parts.length === 0) return null;
  const own = parts.filter(({ part }) => !part.startsWith('app'));
  const made = own.filter(({ components: { daemon } }) => daemon === 0).length / wirePackets(length);
  const more = callsPerPacket === null ? 1 : callsPerPacket / made;
  return own.reduce(
    (sum, { total, components: { copy, daemon } }) => sum + copy + daemon + (total - copy - daemon) * more,
    0,
  );
}
