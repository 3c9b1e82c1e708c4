/** What the tests of `lab trace` ask of a report. */
import type { Lab } from '../../../src/lab/lab.js';
import { traceable } from '../../../src/lab/trace/places.js';
import type { TraceReport } from '../../../src/lab/trace/report.js';
import { type TraceOptions, trace } from '../../../src/lab/trace/trace.js';

/** Where it was seen, a line for each device. */
export const way = (steps: TraceReport['there']) =>
  steps.map(({ place, device, direction }) => `${place} ${device} ${direction}`);

export const decisions = (report: TraceReport, steps = report.there) =>
  steps.flatMap((step) => step.decisions).join('\n');

/** Every device between two containers of two hosts, whose overlay's device has this name. */
export const throughAll = (from: string, to: string, device: string) => [
  `${from}/c1 eth0 out`,
  `${from} veth-c1 in`,
  `${from} br0 in`,
  `${from} ${device} out`,
  `${from} eth0 out`,
  `switch ${from} in`,
  `switch ${to} out`,
  `${to} eth0 in`,
  `${to} ${device} in`,
  `${to} br0 out`,
  `${to} veth-c1 out`,
  `${to}/c1 eth0 in`,
];

/** From the first container of the first host to that of the second; a ping where nothing else is asked for. */
export function traceBetween(lab: Lab, more: Partial<TraceOptions> = {}): Promise<TraceReport> {
  return trace(traceable(lab), { from: 'host1/c1', to: 'host2/c1', protocol: 'icmp', ...more });
}

/** Breaks something for the time of the work. */
export async function broken<T>(
  lab: Lab,
  place: string,
  fault: string,
  cure: string,
  work: () => Promise<T>,
): Promise<T> {
  await lab.exec(place, fault.split(' '));
  try {
    return await work();
  } finally {
    await lab.exec(place, cure.split(' '));
  }
}
