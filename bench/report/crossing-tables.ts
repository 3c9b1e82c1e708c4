import type { Results } from '../harness/results.js';
import { median } from '../stats/summary.js';
import {
  answer,
  baseline,
  breakDown,
  type CacheState,
  components,
  componentTitles,
  type Fit,
  fitCopy,
  fitCrossings,
  lengthsOf,
  type Mode,
  nearestTo,
  type PartBreakdown,
  perWirePacket,
  predictedDaemonCost,
  predictions,
  sumBreakdown,
  totalOf,
  wirePackets,
} from './crossings.js';
import { formatEstimate, formatNumber } from './format.js';
import { select } from './series.js';
import { formatTable } from './table.js';

/** More than this between wall and CPU time is said. */
const DISAGREEMENT = 0.1;

export const modeTitles: Readonly<Record<Mode, string>> = {
  single: 'one packet per call, offloads off',
  super: 'super-packets, as shipped',
};

/** A table as both the terminal and the report show it. */
export interface Table {
  readonly title: string;
  readonly header: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** Sentences below it. */
  readonly notes: readonly string[];
}

export function printTable({ title, header, rows, notes }: Table): string {
  const [, ...columns] = header;
  return [formatTable([title, ...columns], rows), ...notes.map((note) => `  ${note}`)].join('\n');
}

/** Everything that the crossings suite found out. */
export function crossingTables(results: Results): Table[] {
  const modes: readonly Mode[] = ['single', 'super'];
  return [
    ...modes.flatMap((mode) => fitTable(results, mode)),
    ...modes.flatMap((mode) => breakdownTable(results, mode, 'warm')),
    ...modes.flatMap((mode) => breakdownTable(results, mode, 'cold')),
    ...answerTable(results),
    ...predictionTable(results),
  ];
}

function fitTable(results: Results, mode: Mode): Table[] {
  const fits = fitCrossings(results, mode);
  if (fits.length === 0) return [];
  const lengths = lengthsOf(results, mode, 'warm');
  return [
    {
      title: `cost of a call, ${modeTitles[mode]}, ${lengths[0]}–${lengths.at(-1)} B`,
      header: ['', 'fixed, ns', 'ns per 1000 B', 'R²', 'fixed, CPU ns', 'CPU ns per 1000 B', 'wall ÷ CPU'],
      rows: fits.map(fitRow),
      notes: [...copyNote(results, mode), disagreementNote(fits)],
    },
  ];
}

function fitRow({ title, wall, cpu, wallOverCpu }: Fit): string[] {
  const perThousand = ({ slope }: Fit['wall']) =>
    formatEstimate({ value: slope.value * 1000, low: slope.low * 1000, high: slope.high * 1000 }, 1);
  return [
    title,
    formatEstimate(wall.intercept, 0),
    perThousand(wall),
    wall.r2.toFixed(3),
    formatEstimate(cpu.intercept, 0),
    perThousand(cpu),
    wallOverCpu.toFixed(2),
  ];
}

function copyNote(results: Results, mode: Mode): string[] {
  const copy = fitCopy(results, mode);
  if (copy === null) return [];
  const { value, low, high } = copy.slope;
  const estimate = formatEstimate({ value: value * 1000, low: low * 1000, high: high * 1000 }, 1);
  return [`the copying alone, in reads: ${estimate} ns per 1000 B, R² ${copy.r2.toFixed(3)}`];
}

function disagreementNote(fits: readonly Fit[]): string {
  const apart = fits.filter(({ wallOverCpu }) => Math.abs(wallOverCpu - 1) > DISAGREEMENT);
  if (apart.length === 0) {
    return `wall and CPU time agree within ${DISAGREEMENT * 100} % for every crossing, at the largest length`;
  }
  const list = apart.map(({ title, wallOverCpu }) => `${title} (${wallOverCpu.toFixed(2)})`).join(', ');
  return `wall and CPU time disagree by more than ${DISAGREEMENT * 100} %: ${list}; see docs/benchmarks.md for the usual reasons`;
}

function breakdownTable(results: Results, mode: Mode, cache: CacheState): Table[] {
  const length = lengthsOf(results, mode, cache).at(-1);
  if (length === undefined) return [];
  const parts = breakDown(results, mode, cache, length);
  const packets = wirePackets(length);
  const shared = packets === 1 ? '' : ` (${packets} packets on the wire)`;
  const row = (title: string, { total, components: values }: Pick<PartBreakdown, 'total' | 'components'>) => [
    title,
    ...components.map((component) => formatNumber(values[component], 0)),
    formatNumber(total, 0),
  ];
  const sum = sumBreakdown(parts);
  const each = sumBreakdown(perWirePacket(parts, length));
  return [
    {
      title: `${length} B${shared}, ${modeTitles[mode]}, caches ${cache}; ns`,
      header: ['', ...components, 'total'],
      rows: [
        ...parts.map((part) => row(part.title, part)),
        row('all', { total: totalOf(sum), components: sum }),
        ...(packets === 1 ? [] : [row('all, per packet on the wire', { total: totalOf(each), components: each })]),
      ],
      notes: cache === 'warm' && mode === 'single' ? components.map((id) => `${id}: ${componentTitles[id]}`) : [],
    },
  ];
}

function answerTable(results: Results): Table[] {
  const found = answer(results);
  if (found === null) return [];
  const { single, super: large, superLength, copyPerByte, systemCall } = found;
  const saved = totalOf(single) - totalOf(large);
  const rows = components.map((component) => [
    componentTitles[component],
    formatNumber(single[component], 0),
    formatNumber(large[component], 0),
    `${formatNumber((100 * (single[component] - large[component])) / saved, 0)} %`,
  ]);
  rows.push([
    'all six crossings and the daemon',
    formatNumber(totalOf(single), 0),
    formatNumber(totalOf(large), 0),
    '100 %',
  ]);
  const copy =
    copyPerByte === null
      ? []
      : [
          `one copy of a full packet: ${formatEstimate({ value: copyPerByte.value * 1472, low: copyPerByte.low * 1472, high: copyPerByte.high * 1472 }, 0)} ns`,
        ];
  return [
    {
      title: 'per full packet on the wire; ns',
      header: ['', 'one by one', `in ${superLength} B super-packets`, 'share of what is saved'],
      rows,
      notes: [
        ...copy,
        `the cheapest system call (getppid): ${formatNumber(systemCall, 0)} ns, and koffi's call into libc ${formatNumber(baseline(results, 'nothing'), 0)} ns`,
      ],
    },
  ];
}

/** What the crossings predict for a daemon, against what a running one took: an experiment that knows nothing of this one. */
function predictionTable(results: Results): Table[] {
  const shown = (value: number | null) => (value === null ? '–' : formatNumber(value, 0));
  const over = (running: number, value: number | null) => (value === null ? '–' : (running / value).toFixed(2));
  const rows = predictions(results).map(({ title, warm, cold, asCalled, running }) => [
    title,
    shown(warm),
    shown(cold),
    shown(asCalled),
    shown(running),
    over(running, warm),
    over(running, asCalled),
  ]);
  if (rows.length === 0) return [];
  return [
    {
      title: 'the daemons’ CPU per packet on the wire; ns',
      header: [
        '',
        'by the crossings, caches warm',
        'caches cold',
        'cold, with the calls that were made',
        'while running',
        'running ÷ warm',
        'running ÷ cold with the calls made',
      ],
      rows,
      notes: [
        'A running daemon shares caches and CPUs, and its super-packets are not all full: the third column has both. What the last one has above 1 is waiting, being woken, and what two of them do to each other.',
        'Far less than the crossings say would mean that one of the two is wrong.',
      ],
    },
  ];
}

/** The same daemon and wire format with and without the kernel path: what the ways into user space and back cost. */
export function leavingTable(results: Results, underlay: string): Table[] {
  const cases: readonly (readonly [title: string, suite: string, measurement: string, mode: Mode, length: number])[] = [
    ['one TCP stream', 'throughput', 'tcp-1', 'super', 63_488],
    ['64 B flood', 'throughput', 'flood-64', 'single', 64 + 28],
  ];
  const rows = cases.flatMap(([title, suite, measurement, mode, length]) => {
    const [user, route, direct] = ['tweed', 'kernel-route', 'kernel-direct'].map((contender) =>
      costOf(select(results, { suite, underlay, measurement, contender })),
    );
    if (user === undefined || user === null || (!route && !direct)) return [];
    const nearest = nearestTo(lengthsOf(results, mode, 'warm'), length);
    const predicted = nearest === null ? null : predictedDaemonCost(results, mode, nearest);
    const saved = (other: Cost | null | undefined, metric: keyof Cost, digits: number) =>
      other ? formatNumber(user[metric] - other[metric], digits) : '–';
    return [
      [
        title,
        formatNumber(user.perPacket, 0),
        saved(route, 'perPacket', 0),
        saved(direct, 'perPacket', 0),
        formatNumber(user.perGb, 2),
        saved(route, 'perGb', 2),
        saved(direct, 'perGb', 2),
        predicted === null ? '–' : formatNumber(predicted, 0),
      ],
    ];
  });
  if (rows.length === 0) return [];
  return [
    {
      title: 'what leaving the kernel costs',
      header: [
        '',
        'CPU of the machine, ns a packet',
        '… saved by route',
        '… saved direct',
        's/GB',
        '… saved by route',
        '… saved direct',
        'the crossings predict, ns a packet',
      ],
      rows,
      notes: [
        'One wire format and one daemon, with user space carrying the packets and with the kernel path; all processors, both hosts, sender and receiver included.',
        'The prediction is for the daemons’ own calls alone; waking them, their queues and their caches come on top.',
      ],
    },
  ];
}

interface Cost {
  readonly perPacket: number;
  readonly perGb: number;
}

/** Medians over the rounds. A packet is one of the wire: of TCP as many as its payload fills. */
function costOf(samples: ReturnType<typeof select>): Cost | null {
  const each = samples.flatMap(({ values: { machineCpu, bytes, packets } }) => {
    if (machineCpu === undefined || bytes === undefined || bytes === 0) return [];
    return [{ perPacket: (machineCpu * 1e9) / (packets ?? bytes / FULL_PAYLOAD), perGb: (machineCpu * 1e9) / bytes }];
  });
  if (each.length === 0) return null;
  return { perPacket: median(each.map((one) => one.perPacket)), perGb: median(each.map((one) => one.perGb)) };
}

/** What a full TCP segment of the tunnel carries: its MTU less IPv4 and TCP headers with timestamps. */
const FULL_PAYLOAD = 1472 - 52;
