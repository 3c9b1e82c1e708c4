import type { Metric, Results } from '../harness/results.js';
import { CROSSINGS } from '../suites/crossings.js';
import { crossingTables, leavingTable, printTable, type Table } from './crossing-tables.js';
import { findings } from './findings.js';
import { formatEstimate, formatSeries } from './format.js';
import { noiseChecks } from './noise.js';
import { select, series } from './series.js';
import { formatTable } from './table.js';
import { checkTargets } from './targets.js';
import { warnings } from './warnings.js';

/** Everything that a run has to say on a terminal. */
export function terminalReport(results: Results): string {
  const parts: string[] = [
    machineLines(results).join('\n'),
    ...findings(results),
    ...warnings(results).map((text) => `⚠ ${text}`),
  ];
  const suites = distinct(results.samples.map(({ suite }) => suite));
  for (const suite of suites) {
    const here = results.samples.filter((sample) => sample.suite === suite);
    for (const underlay of distinct(here.map((sample) => sample.underlay))) {
      const tables = suite === CROSSINGS ? crossingTables(results) : measurementTables(results, suite, underlay);
      parts.push(suiteHeading(suite, underlay), ...tables.map(printTable));
    }
  }
  if (suites.includes('throughput')) {
    for (const underlay of distinct(select(results, { suite: 'throughput' }).map((sample) => sample.underlay))) {
      const tables = leavingTable(results, underlay);
      if (tables.length > 0) parts.push(suiteHeading('kernel path', underlay), ...tables.map(printTable));
    }
  }
  parts.push(...targetTable(results));
  const noise = noiseLines(results);
  if (noise.length > 0) parts.push(noise.join('\n'));
  if (results.failures.length > 0) parts.push(failureLines(results));
  return parts.join('\n\n');
}

function distinct(values: readonly string[]): string[] {
  return [...new Set(values)];
}

/** The switch that decides what a system call costs. */
function isolation({ mitigations }: Results['machine']): string {
  return /PTI/.test(mitigations.meltdown ?? '') ? 'with page-table isolation' : 'without page-table isolation';
}

/** What was measured on, and how quiet it was. */
export function machineLines({ machine, quietness }: Results): string[] {
  const { cpus, cpuModel, hypervisor, node, commit, tweed } = machine;
  const loads = quietness.loadAverage.map((load) => load.toFixed(2)).join(' ');
  const stolen = (quietness.stolen * 100).toFixed(1);
  return [
    machine.kernel,
    `${cpus} × ${cpuModel}${['', 'none'].includes(hypervisor) ? '' : ` (${hypervisor})`}, ${isolation(machine)}, Node ${node}, tweed ${commit || tweed}`,
    `load average before: ${loads}; busy CPUs before: ${quietness.busyBefore.toFixed(2)}; others during the run: ${quietness.others.toFixed(2)} CPUs; stolen by the hypervisor: ${stolen} %`,
  ];
}

const UNDERLAY_TITLES: Readonly<Record<string, string>> = {
  whole: 'the underlay passes super-packets whole',
  segmented: 'segmentation offloads of the underlay off',
};

/** The suite and the condition. */
export function suiteTitle(suite: string, underlay: string): string {
  const title = UNDERLAY_TITLES[underlay];
  return `${suite}${title === undefined ? '' : `: ${title}`}`;
}

function suiteHeading(suite: string, underlay: string): string {
  const text = suiteTitle(suite, underlay);
  return `══ ${text} ${'═'.repeat(Math.max(0, 76 - text.length))}`;
}

/** For each measurement one row a contender, one column a metric: median (smallest – largest). */
export function measurementTables(results: Results, suite: string, underlay: string): Table[] {
  const tables: Table[] = [];
  for (const { id, title, metrics } of results.measurements.filter((one) => one.suite === suite)) {
    const samples = results.samples.filter(
      (sample) => sample.suite === suite && sample.underlay === underlay && sample.measurement === id,
    );
    const rows = results.contenders
      .filter((contender) => samples.some((sample) => sample.contender === contender.id))
      .map((contender) => [
        contender.title + (contender.encrypted ? ' (encrypted)' : ''),
        ...metrics.map((metric) =>
          formatSeries(series({ samples }, { contender: contender.id }, metric.id), metric.digits),
        ),
      ]);
    if (rows.length > 0) tables.push({ title, header: ['', ...metrics.map(columnTitle)], rows, notes: [] });
  }
  return tables;
}

function columnTitle({ title, unit }: Metric): string {
  return `${title}, ${unit}`;
}

/** None where the run measured nothing that was promised. */
function targetTable(results: Results): string[] {
  const measured = checkTargets(results).filter(({ met }) => met !== null);
  const rows = measured.map(({ title, wanted, measured, met }) => [title, wanted, measured, met ? 'met' : 'MISSED']);
  return rows.length === 0
    ? []
    : [formatTable(['target; ratio of medians [95 % interval]', 'wanted', 'measured', ''], rows)];
}

function noiseLines(results: Results): string[] {
  return noiseChecks(results).map(
    ({ title, contender, ratio }) => `noise (${title}): ${contender} ÷ itself = ${formatEstimate(ratio, 3)}`,
  );
}

function failureLines({ failures }: Results): string {
  const lines = failures.map(
    ({ suite, underlay, measurement, contender, round, message }) =>
      `  ${suite} ${underlay} ${measurement}, ${contender}, round ${round + 1}: ${message}`,
  );
  return [`${failures.length} measurements failed:`, ...lines].join('\n');
}
