/** What README.md and docs/benchmarks.md say in figures, held against the reference runs that they are taken from. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Results } from '../../../bench/harness/results.js';
import { answer, predictions, totalOf } from '../../../bench/report/crossings.js';
import { formatNumber } from '../../../bench/report/format.js';
import { ratioOf, series } from '../../../bench/report/series.js';
import { checkTargets } from '../../../bench/report/targets.js';
import { median } from '../../../bench/stats/summary.js';

const read = (path: string) => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');
/** Without line breaks, so that a sentence may be broken anywhere. */
const flat = (path: string) => read(path).replace(/\s+/g, ' ');
const [plain, pti] = ['full', 'pti'].map((name) => JSON.parse(read(`docs/reference/${name}.json`)) as Results) as [
  Results,
  Results,
];
const readme = flat('README.md');
const benchmarks = flat('docs/benchmarks.md');

/** Rates have two digits behind the point where none is before it. */
const number = (value: number, digits: number) =>
  value < 1 && digits === 1
    ? formatNumber(value, 2)
    : digits === 0 && value >= 1000
      ? Math.round(value).toLocaleString('en-US')
      : formatNumber(value, digits);
/** One figure of each machine, the one without page-table isolation first. */
const both = (figure: (results: Results) => number, digits = 0) =>
  `${number(figure(plain), digits)} / ${number(figure(pti), digits)}`;
const of = (suite: string, measurement: string, contender: string, metric: string) => (results: Results) =>
  median(series(results, { suite, underlay: 'whole', measurement, contender }, metric));
const share =
  (parts: readonly ('copy' | 'entry' | 'koffi' | 'stack' | 'onward' | 'daemon')[]) => (results: Results) => {
    const { single } = answer(results) as NonNullable<ReturnType<typeof answer>>;
    return (100 * parts.reduce((sum, part) => sum + single[part], 0)) / totalOf(single);
  };

describe('the reference runs', () => {
  it('are of a machine without page-table isolation and of one with it', () => {
    expect([plain.machine.mitigations.meltdown, pti.machine.mitigations.meltdown]).toEqual([
      undefined,
      'Mitigation: PTI',
    ]);
    expect([plain.complete, pti.complete]).toEqual([true, true]);
  });
});

describe('README.md', () => {
  it.each([
    ['no tunnel', 'direct', false],
    ['kernel VXLAN', 'vxlan', false],
    ['**tweed**', 'tweed', true],
    ['tweed, one packet per system call', 'tweed-off', true],
    ['a plain C loop, one packet per system call', 'c-loop', true],
  ])('has what was measured of %s', (title, contender, hasDaemon) => {
    const strong = (text: string) => (contender === 'tweed' ? `**${text}**` : text);
    const requests =
      contender === 'c-loop'
        ? ''
        : both((results) => Math.round(of('latency', 'tcp-rr', contender, 'perSecond')(results) / 100) * 100);
    const cells = [
      strong(both(of('throughput', 'tcp-1', contender, 'gbps'), 1)),
      hasDaemon ? both(of('throughput', 'tcp-1', contender, 'daemonCpuPerGb'), 1) : '',
      both(of('throughput', 'ping', contender, 'rttP50')),
      requests,
      both(of('throughput', 'udp-1400-fast', contender, 'loss')),
    ];
    expect(readme).toContain(`| ${title} | ${cells.join(' | ')} |`.replaceAll('|  |', '| |'));
  });

  it('has what was measured of the kernel path', () => {
    const figure = (suite: string, measurement: string, metric: string) =>
      of(suite, measurement, 'kernel-direct', metric);
    const requests = figure('latency', 'tcp-rr', 'perSecond');
    const cells = [
      `**${both(figure('throughput', 'tcp-1', 'gbps'), 1)}**`,
      [plain, pti].map((results) => figure('throughput', 'tcp-1', 'daemonCpuPerGb')(results).toFixed(1)).join(' / '),
      both(figure('throughput', 'ping', 'rttP50')),
      both((results) => Math.round(requests(results) / 100) * 100),
      both(figure('throughput', 'udp-1400-fast', 'loss')),
    ];
    expect(readme).toContain(`\`direct\` ¹ | ${cells.join(' | ')} |`);
  });

  it('has the shares of a packet’s way on both machines', () => {
    expect(readme).toContain(`copies ${both(share(['copy']))} %`);
    expect(readme).toContain(`system calls ${both(share(['entry', 'koffi']))} %`);
    expect(readme).toContain(`network stack ${both(share(['stack', 'onward']))} %`);
  });
});

describe('docs/benchmarks.md', () => {
  const found = (results: Results) => answer(results) as NonNullable<ReturnType<typeof answer>>;
  it('has the table of a packet’s way', () => {
    const rows: [string, (results: Results) => number, number][] = [
      ['a full packet alone, all crossings, µs', (results) => totalOf(found(results).single) / 1000, 1],
      ['of it copies, %', share(['copy']), 1],
      ['of it system calls, %', share(['entry', 'koffi']), 0],
      ['of it network stack, %', share(['stack', 'onward']), 0],
      ['of it the daemons’ own work, %', share(['daemon']), 0],
      ['a packet in super-packets, µs', (results) => totalOf(found(results).super) / 1000, 2],
      ['the cheapest system call (getppid), ns', (results) => found(results).systemCall, 0],
    ];
    for (const [title, figure, digits] of rows)
      expect(benchmarks).toContain(`| ${title} | ${number(figure(plain), digits)} | ${number(figure(pti), digits)} |`);
  });

  it('has what a running daemon takes beside what its crossings add up to', () => {
    for (const [index, title] of ['one TCP stream, offloads off', 'one TCP stream, as shipped'].entries()) {
      const [one, other] = [plain, pti].map((results) => predictions(results)[index + 1]);
      const cells = [one, other].map((each) =>
        [each?.warm, each?.cold, each?.asCalled, each?.running].map((value) => number(value ?? 0, 0)).join(' | '),
      );
      for (const [machine, row] of [
        ['without PTI', cells[0]],
        ['with PTI', cells[1]],
      ])
        expect(benchmarks).toContain(`| ${title}, ${machine} | ${row} |`);
    }
  });

  it('says which targets each machine met and missed', () => {
    const verdicts = (met: boolean) => (results: Results) =>
      checkTargets(results).filter((target) => target.met === met);
    expect(benchmarks).toContain(
      `${verdicts(true)(plain).length} of ${verdicts(true)(plain).length + verdicts(false)(plain).length} targets on the one machine, ${verdicts(true)(pti).length} on the other`,
    );
    for (const { measured } of [plain, pti].flatMap(verdicts(false))) expect(benchmarks).toContain(measured);
  });

  it('has what the kernel path, IPv6 and encryption were measured to be worth', () => {
    const measured = (part: string, results = plain) =>
      checkTargets(results).find(({ title }) => title.includes(part))?.measured ?? '?';
    const rounded = (text: string) => text.replace(/\d+\.\d+/g, (value) => Number(value).toFixed(2));
    for (const part of [
      'kernel path direct ÷ kernel VXLAN',
      'direct ÷ kernel VXLAN, underlay segmentation off',
      'route ÷ user space',
      'IPv6 by IPv4 ÷ IPv4 by IPv4',
    ])
      expect(benchmarks).toContain(rounded(measured(part)));
    for (const part of ['direct ÷ kernel VXLAN', 'route ÷ user space'].map(
      (one) => `${one}, underlay segmentation off`,
    ))
      expect(benchmarks).toContain(rounded(measured(part, pti)));
    for (const part of ['one TCP stream', 'whole CPU per GB'])
      expect(readme).toContain(
        rounded(measured(`${part}, kernel path direct ÷ kernel VXLAN, underlay segmentation off`, pti)),
      );
    const wireguard = flat('docs/wireguard.md');
    for (const part of ['tweed ÷ wireguard-go', 'tweed ÷ nebula', 'encrypted ÷ in the clear'])
      expect(wireguard).toContain(rounded(measured(part)));
  });

  it('says how many datagrams were lost in the tunnel, by the daemons’ own counters', () => {
    const lost = (results: Results, contender: string) => {
      const samples = results.samples.filter(
        (one) => one.measurement === 'udp-1400-fast' && one.underlay === 'whole' && one.contender === contender,
      );
      return samples.map(
        ({ values }) => 100 * Math.max(0, 1 - (values['counter:rx_packets'] ?? 0) / (values.sent ?? 0)),
      );
    };
    expect(Math.max(...lost(plain, 'tweed'))).toBe(0);
    expect(Math.max(...lost(pti, 'tweed')).toFixed(1)).toBe('1.1');
    const off = lost(plain, 'tweed-off').map(Math.round);
    expect(benchmarks).toContain(
      `Without offloads ${Math.min(...off)} to ${Math.max(...off)} % are lost in the tunnel already, with PTI up to ${Math.round(Math.max(...lost(pti, 'tweed-off')))} %`,
    );
  });

  it('has the ratios of rates on both machines', () => {
    const where = { suite: 'throughput', underlay: 'whole', measurement: 'tcp-1' };
    const ratio = (contender: string, over: string) => (results: Results) =>
      ratioOf(results, { ...where, contender }, { ...where, contender: over }, 'gbps')?.value ?? 0;
    expect(benchmarks).toContain(`${both(ratio('tweed', 'tweed-off'), 1)} times the rate of one packet per call`);
    expect(benchmarks).toContain(`${both(ratio('tweed', 'vxlan'), 2)} of kernel VXLAN’s`);
  });
});
