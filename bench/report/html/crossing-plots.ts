import type { Results } from '../../harness/results.js';
import { modeTitles } from '../crossing-tables.js';
import {
  breakDown,
  type Component,
  components,
  componentTitles,
  fitCrossings,
  lengthsOf,
  type Mode,
  type PartBreakdown,
  perWirePacket,
  pointsOf,
  way,
} from '../crossings.js';
import { Plot, renderPlot } from './plot.js';

/** As the page's style has them. */
const COMPONENT_COLOURS: Readonly<Record<Component, string>> = {
  koffi: 'var(--koffi)',
  entry: 'var(--entry)',
  copy: 'var(--copy)',
  stack: 'var(--stack)',
  onward: 'var(--onward)',
  daemon: 'var(--daemon)',
};
const MODE_COLOURS: Readonly<Record<Mode, string>> = { single: 'var(--entry)', super: 'var(--stack)' };
const shortModes: Readonly<Record<Mode, string>> = { single: 'one by one', super: 'super-packets' };

interface Bar {
  readonly mode: string;
  readonly step: string;
  readonly component: string;
  readonly ns: number;
}

function bars(parts: readonly PartBreakdown[], mode: string): Bar[] {
  return parts.flatMap(({ title, components: values }) =>
    components.map((component) => ({
      mode,
      step: title,
      component: componentTitles[component],
      ns: values[component],
    })),
  );
}

const legend = {
  domain: components.map((component) => componentTitles[component]),
  range: components.map((component) => COMPONENT_COLOURS[component]),
  legend: true,
};

/** Where the nanoseconds of a packet go, both ways of carrying it on one scale, and the second magnified. */
export function breakdownPlots(results: Results): string[] {
  const length = lengthsOf(results, 'single', 'warm').at(-1);
  const superLength = lengthsOf(results, 'super', 'warm').at(-1);
  if (length === undefined || superLength === undefined) return [];
  const single = breakDown(results, 'single', 'warm', length);
  const large = perWirePacket(breakDown(results, 'super', 'warm', superLength), superLength);
  const steps = way.map(({ title }) => title);
  const modes = [`${shortModes.single}, ${length} B`, `in ${superLength} B super-packets`] as const;
  const draw = (label: string, data: readonly Bar[]) => {
    const shown = [...new Set(data.map(({ mode }) => mode))];
    return renderPlot(label, {
      height: 60 + shown.length * steps.length * 25,
      marginLeft: 195,
      x: { label: 'ns per packet on the wire →', labelOffset: 38, grid: true },
      y: { domain: steps, label: null },
      fy: { domain: shown, axis: null },
      color: legend,
      marks: [
        Plot.frame({ stroke: 'var(--line)' }),
        Plot.barX(
          data,
          Plot.stackX({
            x: 'ns',
            y: 'step',
            fy: 'mode',
            fill: 'component',
            order: legend.domain,
            title: ({ step, component, ns }: Bar) => `${step}, ${component}: ${ns.toFixed(ns < 100 ? 1 : 0)} ns`,
          }),
        ),
        Plot.ruleX([0]),
        Plot.text(shown, {
          fy: (mode: string) => mode,
          text: (mode: string) => mode,
          frameAnchor: 'bottom-right',
          dx: -6,
          dy: -6,
          fontWeight: 'bold',
        }),
      ],
    });
  };
  return [
    draw('Nanoseconds that a packet spends in each step, one by one and in super-packets, on one scale', [
      ...bars(single, modes[0]),
      ...bars(large, modes[1]),
    ]),
    draw('The same for super-packets alone, magnified', bars(large, modes[1])),
  ];
}

/** Points and fitted lines of every crossing against length, on logarithmic scales. */
export function costPlot(results: Results): string | null {
  const crossings = way.filter(({ kind }) => kind !== 'work');
  const place = new Map(
    crossings.map(({ part, title }, i) => [part, { title, column: i % 2, row: Math.floor(i / 2) }]),
  );
  const modes: readonly Mode[] = ['single', 'super'];
  const points = modes.flatMap((mode) =>
    crossings.flatMap(({ part }) =>
      pointsOf(results, mode, part, 'wall').map(({ x, y }) => ({ x, y, mode: modeTitles[mode], ...place.get(part) })),
    ),
  );
  if (points.length === 0) return null;
  const lines = modes.flatMap((mode) => {
    const lengths = lengthsOf(results, mode, 'warm');
    return fitCrossings(results, mode).flatMap(({ part, wall }) =>
      logSpace(lengths[0] ?? 64, lengths.at(-1) ?? 1472).map((x) => ({
        x,
        y: wall.intercept.value + wall.slope.value * x,
        mode: modeTitles[mode],
        ...place.get(part),
      })),
    );
  });
  return renderPlot('Nanoseconds of each crossing against the length of the packet, with fitted lines', {
    height: 560,
    marginLeft: 55,
    x: { type: 'log', label: 'bytes →', labelOffset: 38, ticks: [64, 1000, 10_000], tickFormat: ',' },
    y: { type: 'log', label: '↑ ns per call', grid: true, ticks: 4, tickFormat: ',' },
    fx: { axis: null },
    fy: { axis: null },
    color: {
      domain: modes.map((mode) => modeTitles[mode]),
      range: modes.map((mode) => MODE_COLOURS[mode]),
      legend: true,
    },
    marks: [
      Plot.frame({ stroke: 'var(--line)' }),
      Plot.dot(points, {
        x: 'x',
        y: 'y',
        fx: 'column',
        fy: 'row',
        stroke: 'mode',
        r: 1.6,
        strokeOpacity: 0.5,
        title: (point: { x: number; y: number }) => `${point.x} B: ${point.y.toFixed(0)} ns`,
      }),
      Plot.line(lines, { x: 'x', y: 'y', fx: 'column', fy: 'row', stroke: 'mode', z: 'mode', strokeWidth: 1.8 }),
      Plot.text([...place.values()], {
        fx: 'column',
        fy: 'row',
        text: 'title',
        frameAnchor: 'top-left',
        dx: 6,
        dy: 6,
        fontWeight: 'bold',
      }),
    ],
  });
}

/** Numbers from `low` to `high`, evenly spaced on a logarithmic scale. */
function logSpace(low: number, high: number): number[] {
  const steps = 40;
  return Array.from({ length: steps + 1 }, (_, i) => low * (high / low) ** (i / steps));
}
