import { mkdir, writeFile } from 'node:fs/promises';
import os from 'node:os';
import { join } from 'node:path';
import yargs from 'yargs';
import { hideBin } from 'yargs/helpers';
import { cLoop } from './contenders/c-loop.js';
import type { Contender } from './contenders/contender.js';
import { batched, dgram } from './contenders/node-engines.js';
import { direct } from './contenders/direct.js';
import { tweed, tweedOff } from './contenders/tweed.js';
import { vxlan } from './contenders/vxlan.js';
import { machineTime } from './harness/cpu.js';
import { busyCpus, describeMachine } from './harness/machine.js';
import { project } from './harness/paths.js';
import { streamProgress } from './harness/progress.js';
import { type ContenderInfo, type Failure, type Results, type Sample, SCHEMA } from './harness/results.js';
import { plannedSteps, type RoundsPlan, runRounds } from './harness/rounds.js';
import { type UnderlayState, underlayStates } from './network/pair.js';
import { Site } from './network/site.js';
import { AGAIN, terminalReport } from './report/terminal.js';
import { throughputMeasurements } from './suites/throughput.js';
import type { Place } from './suites/traffic.js';

const all: readonly Contender[] = [direct, vxlan, tweed, tweedOff, cLoop, dgram, batched];

const options = await yargs(hideBin(process.argv))
  .scriptName('npm run bench --')
  .usage('Usage: $0 [suite…] [options]\n\nSuites: throughput')
  .option('rounds', { type: 'number', default: 5, describe: 'rounds of every measurement' })
  .option('seconds', { type: 'number', default: 3, describe: 'length of each traffic test' })
  .option('underlay', { type: 'string', choices: underlayStates, array: true, default: [...underlayStates] })
  .option('contenders', { type: 'string', array: true, default: all.map(({ id }) => id) })
  .option('measurements', { type: 'string', array: true, describe: 'only these, by id' })
  .strictOptions()
  .parseAsync();

const abort = new AbortController();
process.once('SIGINT', () => abort.abort());
process.once('SIGTERM', () => abort.abort());

const progress = streamProgress(process.stderr);
const startedAt = new Date();
const started = performance.now();
const machine = await describeMachine();
const busyBefore = await busyCpus(1000);
const loadAverage = os.loadavg();
const machineBefore = await machineTime();
const site = await Site.open();
const infos: ContenderInfo[] = [];
const samples: Sample[] = [];
const failures: Failure[] = [];
const measurements = throughputMeasurements(options.seconds).filter(
  ({ id }) => options.measurements === undefined || options.measurements.includes(id),
);
try {
  for (const contender of all.filter(({ id }) => options.contenders.includes(id))) {
    const { id, title, description, encrypted } = contender;
    const unavailable = await contender.unavailable();
    if (unavailable === '') await site.add(contender);
    else progress.note(`• without ${title}: ${unavailable}`);
    const features = (await site.entries.find((entry) => entry.id === id)?.place.running.features?.()) ?? {};
    infos.push({ id, title, description, encrypted, features, unavailable });
  }
  const twin = site.entries.find(({ id }) => id === 'tweed');
  const entries = twin === undefined ? site.entries : [...site.entries, { ...twin, id: `${twin.id}${AGAIN}` }];
  const plans = options.underlay.map(
    (underlay): RoundsPlan<Place> => ({
      suite: 'throughput',
      underlay,
      rounds: options.rounds,
      entries,
      measurements,
      skip: (measurement, contender) => contender.endsWith(AGAIN) && !['tcp-1', 'ping'].includes(measurement),
    }),
  );
  const totals = plans.map(plannedSteps);
  progress.begin(
    totals.reduce((sum, { steps }) => sum + steps, 0),
    totals.reduce((sum, { seconds }) => sum + seconds, 0),
  );
  for (const plan of plans) {
    for (const { place } of site.entries) await place.pair.setUnderlay(plan.underlay as UnderlayState);
    const result = await runRounds(plan, {
      progress,
      signal: abort.signal,
      now: () => Math.round(performance.now() - started),
    });
    samples.push(...result.samples);
    failures.push(...result.failures);
    if (abort.signal.aborted) break;
  }
} finally {
  progress.end();
  await site.close();
}
const machineAfter = await machineTime();
const seconds = (performance.now() - started) / 1000;
const results: Results = {
  schema: SCHEMA,
  startedAt: startedAt.toISOString(),
  seconds,
  complete: !abort.signal.aborted,
  options: { rounds: options.rounds, seconds: options.seconds, underlay: options.underlay },
  machine,
  quietness: {
    busyBefore,
    loadAverage,
    stolen: (machineAfter.stolen - machineBefore.stolen) / (seconds * machine.cpus),
  },
  contenders: infos,
  measurements: measurements.map(({ id, title, metrics }) => ({ suite: 'throughput', id, title, metrics })),
  samples,
  failures,
};
const folder = join(project, 'results');
await mkdir(folder, { recursive: true });
const file = join(folder, `${startedAt.toISOString().replaceAll(':', '-').replace(/\..*/, '')}.json`);
await writeFile(file, `${JSON.stringify(results)}\n`);
process.stdout.write(`${terminalReport(results)}\n\n${file}\n`);
