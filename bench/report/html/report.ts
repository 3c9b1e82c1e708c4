import type { Metric, Results, Sample } from '../../harness/results.js';
import { CROSSINGS } from '../../suites/crossings.js';
import { RUNGS } from '../../suites/ladder.js';
import type { Table } from '../crossing-tables.js';
import { crossingTables, leavingTable } from '../crossing-tables.js';
import { findings, keyFigures } from '../findings.js';
import { formatEstimate, formatNumber } from '../format.js';
import { noiseChecks } from '../noise.js';
import { checkTargets } from '../targets.js';
import { machineLines, measurementTables, suiteTitle } from '../terminal.js';
import { warnings } from '../warnings.js';
import { breakdownPlots, costPlot } from './crossing-plots.js';
import { details, escapeHtml, figure, glossary, htmlDocument, htmlTable, paragraph, section } from './document.js';
import { packetWay } from './packet-way.js';
import { rangePlot, ratioPlot, scalePlot } from './traffic-plots.js';

/** The whole report of a run. @param source the name of the results file, where every number comes from */
export function htmlReport(results: Results, source: string): string {
  return htmlDocument('What does a copy cost?', [
    `<p class="machine">${machineLines(results).map(escapeHtml).join('<br>')}<br>${escapeHtml(results.startedAt)}, ${formatNumber(results.seconds / 60, 1)} minutes, results in ${escapeHtml(source)}</p>`,
    ...warnings(results).map((text) => `<p class="warning">${escapeHtml(text)}</p>`),
    inShort(results),
    packetWay(results),
    section('Words', [glossary(WORDS)]),
    targetsSection(results),
    crossingsSection(results),
    ladderSection(results),
    throughputSection(results),
    latencySection(results),
    peersSection(results),
    scaleSection(results),
    methodSection(results, source),
  ]);
}

const WORDS = [
  ['crossing', 'a system call by which a packet enters or leaves the kernel: six from container to container'],
  ['super-packet', 'up to 64 KiB of one flow that cross in one piece, and are up to 44 packets on the wire'],
  ['offloads off, one by one', 'the same daemon with every packet crossing by itself'],
  ['entry', 'a system call’s way in and out with nothing to do; koffi is what JavaScript needs to get there'],
  ['stack, onward', 'the network stack: what the call itself does, and what it sets off down to the next queue'],
  ['whole', 'the link between the hosts passes super-packets uncut; with segmentation off it carries single packets'],
  ['direct, VXLAN', 'no tunnel at all (routes), and the kernel’s own tunnel'],
  ['p50, p99', 'half of all, or all but one in a hundred, took no longer'],
] as const;

/** Met or missed is the first thing in a row, which no screen cuts off. */
function targetsSection(results: Results): string {
  const targets = checkTargets(results);
  const measured = targets.filter(({ met }) => met !== null);
  if (measured.length === 0) return '';
  const rows = measured.map(({ title, wanted, measured: value, met }) => [
    met ? '✓ met' : '✗ missed',
    title,
    wanted,
    value,
  ]);
  const others = targets.length - measured.length;
  return section('The project’s own targets', [
    htmlTable({ header: ['', 'ratio of medians [95 % interval]', 'wanted', 'measured'], rows }).replace(
      '<table>',
      '<table class="targets">',
    ),
    others === 0 ? '' : `<p class="note">${others} more were not measured in this run.</p>`,
  ]);
}

function inShort(results: Results): string {
  const figures = keyFigures(results).map(
    ({ value, text }) => `<li><b>${escapeHtml(value)}</b> ${escapeHtml(text)}</li>`,
  );
  const list = figures.length === 0 ? '' : `<ul class="facts">${figures.join('')}</ul>`;
  return section('In short', [list, ...findings(results).map(paragraph)]);
}

function renderTable({ title, header, rows, notes }: Table): string {
  const [, ...columns] = header;
  const text = notes.map((note) => `<p class="note">${escapeHtml(note)}</p>`).join('');
  return htmlTable({ header: [title, ...columns], rows }) + text;
}

function crossingsSection(results: Results): string {
  if (!has(results, CROSSINGS)) return '';
  const [both, magnified] = breakdownPlots(results);
  return section('Where the nanoseconds of a packet go', [
    figure(
      both ?? null,
      'Every step of a packet from container to container, on one scale: one by one, and as part of a super-packet.',
    ),
    figure(magnified ?? null, 'Super-packets alone: what is left of the same steps for each packet on the wire.'),
    figure(
      costPlot(results),
      'What each crossing costs against the length that crosses: one point for each round, and the fitted straight lines.',
    ),
    ...crossingTables(results).map(renderTable),
  ]);
}

function has({ samples }: Results, suite: string): boolean {
  return samples.some((sample) => sample.suite === suite);
}

function metricOf(results: Results, suite: string, measurement: string, metric: string): Metric | undefined {
  const found = results.measurements.find((one) => one.suite === suite && one.id === measurement);
  return found?.metrics.find(({ id }) => id === metric);
}

function ranges(
  results: Results,
  suite: string,
  order: readonly string[],
  wanted: readonly (readonly [measurement: string, metric: string, caption: string])[],
): string[] {
  return wanted.map(([measurement, id, caption]) => {
    const metric = metricOf(results, suite, measurement, id);
    if (metric === undefined) return '';
    return figure(rangePlot(results, { suite, measurement, underlay: 'whole' }, metric, order), caption);
  });
}

function tables(results: Results, suite: string): string[] {
  const underlays = [...new Set(results.samples.filter((one) => one.suite === suite).map(({ underlay }) => underlay))];
  return underlays.map((underlay) => {
    const heading = underlays.length > 1 ? `<h3>${escapeHtml(suiteTitle(suite, underlay))}</h3>` : '';
    return (
      heading +
      measurementTables(results, suite, underlay).map(renderTable).join('') +
      rawSamples(results, suite, underlay)
    );
  });
}

function ladderSection(results: Results): string {
  if (!has(results, 'ladder')) return '';
  const order = [...RUNGS].reverse();
  return section('The ladder: one wire format, climbing', [
    ...ranges(results, 'ladder', order, [
      ['tcp-1', 'gbps', 'One TCP stream: the dot is the median, the line reaches from the worst to the best round.'],
      ['tcp-1', 'callsPerPacket', 'System calls of both daemons for each packet on the wire.'],
      ['tcp-1', 'daemonCpuPerGb', 'CPU time of both daemons.'],
      ['flood-64', 'kpps', 'Packets of 64 bytes carried while the sender sends as many as it can.'],
      ['udp-rr', 'rttP50', 'Round trip of a small request, one at a time.'],
    ]),
    ...tables(results, 'ladder'),
  ]);
}

function throughputSection(results: Results): string {
  if (!has(results, 'throughput')) return '';
  const rates = ['tcp-1', 'tcp-1-reverse', 'tcp-4'];
  return section('Throughput, as a user would compare', [
    figure(
      ratioPlot(results, 'throughput', rates, 'gbps', 'direct'),
      'TCP rates as a share of what there is without a tunnel: ratio of medians and its 95 % interval.',
    ),
    figure(
      ratioPlot(results, 'throughput', rates, 'gbps', 'vxlan'),
      'The same, as a share of what the kernel’s VXLAN reaches.',
    ),
    ...tables(results, 'throughput'),
    ...['whole', 'segmented'].flatMap((underlay) => leavingTable(results, underlay)).map(renderTable),
  ]);
}

function latencySection(results: Results): string {
  if (!has(results, 'latency')) return '';
  const order = ['direct', 'vxlan', 'kernel-direct', 'kernel-route', 'tweed', 'tweed-off'];
  return section('Latency', [
    ...ranges(results, 'latency', order, [
      ['udp-rr', 'rttP50', 'Half of all UDP round trips are faster than this.'],
      ['udp-rr', 'rttP99', 'One UDP round trip in a hundred is slower than this.'],
      ['tcp-crr', 'perSecond', 'Connections made, asked, answered and closed in a second, one after the other.'],
    ]),
    ...tables(results, 'latency'),
  ]);
}

function peersSection(results: Results): string {
  if (!has(results, 'peers')) return '';
  const order = results.contenders.map(({ id }) => id);
  return section('Other tunnels', [
    ...ranges(results, 'peers', order, [
      ['tcp-1', 'gbps', 'One TCP stream. Grey: encrypted, which the others are not.'],
      ['flood-64', 'kpps', 'Packets of 64 bytes carried while the sender sends as many as it can.'],
      ['ping', 'rttP50', 'Idle round trip.'],
    ]),
    ...tables(results, 'peers'),
  ]);
}

function scaleSection(results: Results): string {
  if (!has(results, 'scale')) return '';
  const lookup = results.measurements.find(({ suite, id }) => suite === 'scale' && id.startsWith('lookup'))?.metrics[0];
  const arrival = results.measurements.find(({ suite, id }) => suite === 'scale' && id.startsWith('leases'))
    ?.metrics[0];
  return section('Many hosts', [
    lookup === undefined ? '' : figure(scalePlot(results, 'lookup', lookup, 'hosts'), 'Finding the host for a packet.'),
    arrival === undefined
      ? ''
      : figure(
          scalePlot(results, 'leases', arrival, 'leases'),
          'From the first lease in etcd until a daemon knows them all.',
        ),
    ...tables(results, 'scale'),
  ]);
}

/** Every number behind the tables of a suite. */
function rawSamples(results: Results, suite: string, underlay: string): string {
  const rows = results.measurements
    .filter((one) => one.suite === suite)
    .flatMap(({ id, title, metrics }) => {
      const samples = results.samples.filter(
        (sample) => sample.suite === suite && sample.measurement === id && sample.underlay === underlay,
      );
      return samples.map((sample) => [title, sample.contender, String(sample.round + 1), rawValues(sample, metrics)]);
    });
  return rows.length === 0
    ? ''
    : details('every sample', htmlTable({ header: ['measurement', 'contender', 'round', 'values'], rows }));
}

function rawValues({ values }: Sample, metrics: readonly Metric[]): string {
  return metrics
    .flatMap(({ id, title, unit, digits }) => {
      const value = values[id];
      return value === undefined ? [] : [`${title} ${formatNumber(value, digits + 1)} ${unit}`];
    })
    .join('; ');
}

function methodSection(results: Results, source: string): string {
  const noise = noiseChecks(results).map(({ title, contender, ratio }) => [title, contender, formatEstimate(ratio, 3)]);
  const contenders = results.contenders.map(({ title, description, encrypted, features, unavailable }) => [
    title,
    unavailable === '' ? description : `did not take part: ${unavailable}`,
    [encrypted ? 'encrypted' : '', ...Object.entries(features).map(([name, state]) => `${name} ${state}`)]
      .filter((text) => text !== '')
      .join(', '),
  ]);
  const { machine } = results;
  const facts = [
    ...(['kernel', 'cpuModel', 'hypervisor', 'node', 'tweed', 'commit', 'iperf3'] as const).map((key) => [
      key,
      machine[key],
    ]),
    ['CPUs', String(machine.cpus)],
    ['memory', `${formatNumber(machine.memoryBytes / 2 ** 30, 1)} GiB`],
    ...Object.entries(machine.sysctls),
    ...Object.entries(machine.mitigations).map(([name, state]) => [`mitigation ${name}`, state]),
  ];
  const failures = results.failures.map(({ suite, measurement, contender, round, message }) => [
    `${suite} ${measurement}, ${contender}, round ${round + 1}`,
    message,
  ]);
  return section('How this was measured', [
    paragraph(
      `Each contender has two hosts, a switch and two containers of its own, in network namespaces of one machine. Rounds are interleaved: every measurement takes all contenders in turn, in changing order, before the next one begins. Tables show the median and, in brackets, the smallest and the largest round. Intervals of ratios are 95 % bootstrap intervals over rounds. Method, threats to validity and the format of ${source} are described in docs/benchmarks.md.`,
    ),
    noise.length === 0 ? '' : '<h3>A contender against itself</h3>',
    noise.length === 0
      ? ''
      : htmlTable({ header: ['measurement', 'contender', 'ratio to itself [95 %]'], rows: noise }),
    '<h3>Contenders</h3>',
    htmlTable({ header: ['contender', 'configuration', 'in force'], rows: contenders }).replace(
      '<table>',
      '<table class="text">',
    ),
    '<h3>Machine</h3>',
    htmlTable({ header: ['', ''], rows: facts }).replace('<table>', '<table class="text">'),
    failures.length === 0
      ? ''
      : `<h3>Failed measurements</h3>${htmlTable({ header: ['measurement', 'error'], rows: failures })}`,
  ]);
}
