/** The answers in words, each from the samples of the run that it is about. */
import type { Results } from '../harness/results.js';
import { median } from '../stats/summary.js';
import { answer, totalOf, wirePackets } from './crossings.js';
import { formatNumber } from './format.js';
import { ratioOf, series } from './series.js';
import { checkTargets } from './targets.js';

export interface KeyFigure {
  readonly value: string;
  readonly text: string;
}

const FULL_PACKET = 1472;

export function keyFigures(results: Results): KeyFigure[] {
  const figures: KeyFigure[] = [];
  const found = answer(results);
  if (found !== null) {
    if (found.copyPerByte !== null) {
      figures.push({
        value: `${formatNumber(found.copyPerByte.value * FULL_PACKET, 0)} ns`,
        text: 'for one copy of a full packet, caches warm',
      });
    }
    figures.push({ value: `${formatNumber(found.systemCall, 0)} ns`, text: 'for the cheapest system call' });
    const { stack, onward } = found.single;
    figures.push({
      value: `${formatNumber((stack + onward) / 1000, 1)} µs`,
      text: 'for the network stacks that a packet passes when it goes alone',
    });
    figures.push({
      value: `${formatNumber(totalOf(found.single) / totalOf(found.super), 1)} ×`,
      text: 'less work per packet in super-packets, in a loop that only crosses; running daemons save less',
    });
  }
  const where = { suite: 'throughput', underlay: 'whole', measurement: 'tcp-1' };
  const rates = series(results, { ...where, contender: 'tweed' }, 'gbps');
  if (rates.length > 0) {
    figures.push({ value: `${formatNumber(median(rates), 2)} Gbit/s`, text: 'one TCP stream between containers' });
  }
  const toVxlan = ratioOf(results, { ...where, contender: 'tweed' }, { ...where, contender: 'vxlan' }, 'gbps');
  if (toVxlan !== null) {
    figures.push({
      value: `${formatNumber(toVxlan.value * 100, 0)} %`,
      text: 'of kernel VXLAN’s rate, from user space',
    });
  }
  return [...figures, ...costFigures(results)];
}

/** What a reader has to know beside rates: CPU time, latency, and whether the project kept what it promised. */
function costFigures(results: Results): KeyFigure[] {
  const of = (measurement: string, contender: string, metric: string) =>
    series(results, { suite: 'throughput', underlay: 'whole', measurement, contender }, metric);
  const figures: KeyFigure[] = [];
  const cpu = of('tcp-1', 'tweed', 'daemonCpuPerGb');
  const cpuOff = of('tcp-1', 'tweed-off', 'daemonCpuPerGb');
  if (cpu.length > 0) {
    const before = cpuOff.length === 0 ? '' : `; ${formatNumber(median(cpuOff), 1)} s with every packet crossing alone`;
    figures.push({
      value: `${formatNumber(median(cpu), 2)} s`,
      text: `of the daemons’ CPU time for a gigabyte${before}`,
    });
  }
  const ping = of('ping', 'tweed', 'rttP50');
  const others = [
    ['kernel VXLAN', of('ping', 'vxlan', 'rttP50')],
    ['no tunnel', of('ping', 'direct', 'rttP50')],
  ] as const;
  if (ping.length > 0) {
    const beside = others.flatMap(([name, values]) =>
      values.length === 0 ? [] : [`${name} ${formatNumber(median(values), 0)} µs`],
    );
    figures.push({
      value: `${formatNumber(median(ping), 0)} µs`,
      text: `for an idle ping${beside.length === 0 ? '' : ` (${beside.join(', ')})`}`,
    });
  }
  const measured = checkTargets(results).filter(({ met }) => met !== null);
  const missed = measured.filter(({ met }) => met === false);
  if (measured.length > 0) {
    figures.push({
      value: `${measured.length - missed.length} of ${measured.length}`,
      text: `targets met${missed.length === 0 ? '' : `; missed: ${missed.map(({ title }) => title).join('; ')}`}`,
    });
  }
  return figures;
}

export function findings(results: Results): string[] {
  const found = answer(results);
  if (found === null) return [];
  const { single, super: large, superLength } = found;
  const total = totalOf(single);
  const saved = total - totalOf(large);
  const share = (part: number, whole: number) => `${formatNumber((100 * part) / whole, 0)} %`;
  const ns = (value: number) => `${formatNumber(value, 0)} ns`;
  const stack = single.stack + single.onward;
  const stackSaved = stack - large.stack - large.onward;
  const calls = single.entry + single.koffi;
  const callsSaved = calls - large.entry - large.koffi;
  return [
    `A full packet that crosses alone costs ${ns(total)} from container to container. Its six copies are ${ns(single.copy)} of that (${share(single.copy, total)}), getting in and out of the kernel six times ${ns(calls)} (${share(calls, total)}), the network stacks ${ns(stack)} (${share(stack, total)}), the daemons’ own work ${ns(single.daemon)}.`,
    `In super-packets of ${superLength} bytes, ${wirePackets(superLength)} packets on the wire share every crossing, and a packet costs ${ns(totalOf(large))}. Of the ${ns(saved)} that this saves, ${share(stackSaved, saved)} are network stack and ${share(callsSaved, saved)} system calls. The copies are all still there: ${ns(large.copy)} of what remains.`,
  ];
}
