import type { ContenderInfo, Metric, Results } from '../../harness/results.js';
import { summarize } from '../../stats/summary.js';
import { ratioOf, series } from '../series.js';
import { Plot, renderPlot } from './plot.js';

/** Tweed has one colour in every plot, and conditions two others. */
const PLAIN = 'var(--stack)';
const OURS = 'var(--copy)';
const ENCRYPTED = 'var(--koffi)';
const CONDITIONS = ['var(--daemon)', 'var(--entry)'];
const UNDERLAYS: Readonly<Record<string, string>> = {
  whole: 'underlay passes super-packets whole',
  segmented: 'segmentation off',
};

function titleOf({ title, encrypted }: ContenderInfo): string {
  return encrypted ? `${title} (encrypted)` : title;
}

function colourOf({ id, encrypted }: ContenderInfo): string {
  if (encrypted) return ENCRYPTED;
  return id.startsWith('tweed') ? OURS : PLAIN;
}

/** One metric of all contenders of a measurement: the median as a dot, from the smallest to the largest as a line. */
export function rangePlot(
  results: Results,
  where: { readonly suite: string; readonly measurement: string; readonly underlay: string },
  metric: Metric,
  order: readonly string[],
): string | null {
  const rows = order.flatMap((id) => {
    const contender = results.contenders.find((one) => one.id === id);
    const values = series(results, { ...where, contender: id }, metric.id);
    if (contender === undefined || values.length === 0) return [];
    const { min, median, max } = summarize(values);
    if (min <= 0) return [];
    return [{ name: titleOf(contender), colour: colourOf(contender), min, median, max }];
  });
  if (rows.length < 2) return null;
  const digits = metric.digits;
  return renderPlot(`${metric.title} of ${rows.length} contenders, in ${metric.unit}`, {
    height: 60 + rows.length * 26,
    marginLeft: 170,
    marginRight: 60,
    x: {
      type: 'log',
      labelOffset: 38,
      label: `${metric.title}, ${metric.unit} (${direction(metric)}) →`,
      grid: true,
      ticks: 5,
      tickFormat: '~g',
    },
    y: { domain: rows.map(({ name }) => name), label: null },
    marks: [
      Plot.ruleY(rows, { y: 'name', x1: 'min', x2: 'max', stroke: 'colour', strokeWidth: 2 }),
      Plot.dot(rows, {
        y: 'name',
        x: 'median',
        fill: 'colour',
        r: 4.5,
        title: ({ name, min, median, max }: (typeof rows)[number]) =>
          `${name}: ${median.toFixed(digits)} ${metric.unit}, rounds ${min.toFixed(digits)} to ${max.toFixed(digits)}`,
      }),
      Plot.text(rows, {
        y: 'name',
        x: 'max',
        text: (row: { median: number }) => row.median.toFixed(digits),
        textAnchor: 'start',
        dx: 8,
      }),
    ],
  });
}

function direction({ better }: Metric): string {
  if (better === 'none') return 'logarithmic';
  return `${better} is better, logarithmic`;
}

/** Every contender's median over that of `base`, with its 95 % interval. */
export function ratioPlot(
  results: Results,
  suite: string,
  measurements: readonly string[],
  metric: string,
  base: string,
): string | null {
  const baseTitle = results.contenders.find(({ id }) => id === base)?.title ?? base;
  const rows = results.measurements
    .filter(({ suite: of, id }) => of === suite && measurements.includes(id))
    .flatMap(({ id: measurement, title }) =>
      Object.keys(UNDERLAYS).flatMap((underlay) =>
        results.contenders.flatMap((contender) => {
          const where = { suite, measurement, underlay };
          const ratio = ratioOf(results, { ...where, contender: contender.id }, { ...where, contender: base }, metric);
          if (ratio === null || contender.id === base || ratio.value <= 0) return [];
          const [low, high] = ratio.rounds > 1 ? [ratio.low, ratio.high] : [ratio.value, ratio.value];
          return [{ measurement: title, name: titleOf(contender), underlay: UNDERLAYS[underlay], ...ratio, low, high }];
        }),
      ),
    );
  if (rows.length === 0) return null;
  const names = [...new Set(rows.map(({ name }) => name))];
  const titles = [...new Set(rows.map(({ measurement }) => measurement))];
  const conditions = Object.values(UNDERLAYS).filter((condition) =>
    rows.some(({ underlay }) => underlay === condition),
  );
  return renderPlot(`Rates as a share of ${baseTitle}, with 95 % intervals`, {
    height: 80 + titles.length * (30 + names.length * 34),
    marginLeft: 150,
    marginRight: 40,
    x: {
      type: 'log',
      labelOffset: 38,
      label: `÷ ${baseTitle} (logarithmic) →`,
      grid: true,
      ticks: 6,
      tickFormat: '~g',
    },
    y: { domain: names, label: null, padding: 0.4 },
    fy: { domain: titles, label: null, axis: null },
    color: { domain: conditions, range: CONDITIONS, legend: conditions.length > 1 },
    marks: [
      Plot.frame({ stroke: 'var(--line)' }),
      Plot.ruleX([1], { stroke: 'var(--soft)' }),
      ...conditions.flatMap((underlay, i) => {
        const own = rows.filter((row) => row.underlay === underlay);
        const shift = i === 0 ? -4 : 4;
        return [
          Plot.ruleY(own, {
            y: 'name',
            fy: 'measurement',
            x1: 'low',
            x2: 'high',
            stroke: 'underlay',
            strokeWidth: 2,
            dy: shift,
          }),
          Plot.dot(own, {
            y: 'name',
            fy: 'measurement',
            x: 'value',
            fill: 'underlay',
            r: 4,
            dy: shift,
            title: ({ name, value, low, high }: (typeof rows)[number]) =>
              `${name}: ${value.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`,
          }),
        ];
      }),
      Plot.text(titles, {
        fy: (title: string) => title,
        text: (title: string) => title,
        frameAnchor: 'top-left',
        dx: 4,
        dy: -14,
        fontWeight: 'bold',
      }),
    ],
  });
}

/** A quantity against the number of hosts, both logarithmic. */
export function scalePlot(results: Results, prefix: string, metric: Metric, size: string): string | null {
  const rows = results.samples
    .filter(({ suite, measurement }) => suite === 'scale' && measurement.startsWith(prefix))
    .flatMap(({ contender, values }) => {
      const [x, y] = [values[size], values[metric.id]];
      const name = results.contenders.find(({ id }) => id === contender)?.title ?? contender;
      return x === undefined || y === undefined || y <= 0 ? [] : [{ x, y, name }];
    });
  // one size alone is a number, and stands in the table
  if (new Set(rows.map(({ x }) => x)).size < 2) return null;
  return renderPlot(`${metric.title} against the number of ${size}`, {
    height: 260,
    marginLeft: 60,
    x: { type: 'log', labelOffset: 38, label: `${size} →`, ticks: 5, tickFormat: ',' },
    y: { type: 'log', label: `↑ ${metric.title}, ${metric.unit}`, grid: true, ticks: 5, tickFormat: '~g' },
    color: { range: CONDITIONS, legend: new Set(rows.map(({ name }) => name)).size > 1 },
    marks: [
      Plot.dot(rows, {
        x: 'x',
        y: 'y',
        stroke: 'name',
        r: 3,
        title: ({ name, x, y }: (typeof rows)[number]) => `${name}, ${x} ${size}: ${y.toPrecision(3)} ${metric.unit}`,
      }),
      Plot.line(rows, Plot.groupX({ y: 'median' }, { x: 'x', y: 'y', stroke: 'name' })),
    ],
  });
}
