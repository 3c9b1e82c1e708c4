import { chown, mkdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import yargs from 'yargs';
import { hideBin } from 'yargs/helpers';
import { messageOf, TweedError } from '../src/base/errors.js';
import { exec } from '../src/base/exec.js';
import { contenders } from './contenders/all.js';
import { peerPackages } from './contenders/peers/all.js';
import { project } from './harness/paths.js';
import { streamProgress } from './harness/progress.js';
import { underlayStates } from './network/pair.js';
import { compareReport } from './report/compare.js';
import { htmlReport } from './report/html/report.js';
import { loadResults } from './report/load.js';
import { terminalReport } from './report/terminal.js';
import { runBenchmark, suiteIds } from './run.js';
import type { Settings } from './suites/suite.js';

const INTERRUPTED = 130;

await yargs(hideBin(process.argv))
  .scriptName('npm run bench --')
  .usage('Usage: $0 [suite…] [options]\n\nMeasures what a tunnel in user space costs, on this machine.')
  .command(
    '$0 [suites..]',
    'run the benchmark; all suites unless some are named',
    (command) =>
      command
        .positional('suites', { type: 'string', array: true, choices: suiteIds, default: [...suiteIds] })
        .option('quick', { type: 'boolean', default: false, describe: 'a first answer in less than three minutes' })
        .option('rounds', { type: 'number', default: 5, describe: 'rounds of every measurement' })
        .option('seconds', { type: 'number', default: 1, describe: 'length of a traffic test' })
        .option('underlay', { choices: underlayStates, array: true, describe: 'only under this condition' })
        .option('contenders', { choices: contenders.map(({ id }) => id), array: true, describe: 'only these' })
        .option('measurements', { type: 'string', array: true, describe: 'only these, by id' })
        .option('install-peers', { type: 'boolean', default: false, describe: 'install other tunnels with apt' })
        .option('output', { type: 'string', default: join(project, 'results'), describe: 'folder for the results' }),
    async (options) => {
      if (options.installPeers) await installPeers();
      const settings: Settings = {
        quick: options.quick,
        rounds: options.rounds,
        seconds: options.seconds,
        underlays: options.underlay ?? (options.quick ? ['whole'] : underlayStates),
        contenders: options.contenders ?? null,
        measurements: options.measurements ?? null,
      };
      process.exitCode = await measure(options.suites, settings, options.output);
    },
  )
  .command(
    'compare <before> <after>',
    'say what changed between two results files, and whether it is more than noise',
    (command) =>
      command
        .positional('before', { type: 'string', demandOption: true })
        .positional('after', { type: 'string', demandOption: true }),
    async ({ before, after }) => {
      process.stdout.write(`${compareReport(await loadResults(before), await loadResults(after))}\n`);
    },
  )
  .command(
    'report <results>',
    'write the HTML report of a results file anew, and print its tables',
    (command) => command.positional('results', { type: 'string', demandOption: true }),
    async ({ results: path }) => {
      const results = await loadResults(path);
      const report = path.replace(/(\.json)?$/, '.html');
      await writeFile(report, htmlReport(results, basename(path)));
      process.stdout.write(`${terminalReport(results)}\n\n${report}\n`);
    },
  )
  .check(({ rounds, seconds }) => {
    for (const [name, value] of Object.entries({ rounds, seconds })) {
      if (value !== undefined && (!Number.isInteger(value) || Number(value) < 1)) {
        throw new Error(`--${name} is ${value}; give a whole number from 1 on`);
      }
    }
    return true;
  })
  .strict()
  .wrap(100)
  .fail((message, error) => {
    process.stderr.write(`✗ ${error === undefined ? `${message}; see --help` : messageOf(error)}\n`);
    if (error !== undefined && !(error instanceof TweedError)) process.stderr.write(`${error.stack}\n`);
    process.exit(1);
  })
  .parseAsync();

async function measure(suites: readonly string[], settings: Settings, folder: string): Promise<number> {
  const abort = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => abort.abort());
  const progress = streamProgress(process.stderr);
  const results = await runBenchmark(suites, settings, { progress, signal: abort.signal });
  await mkdir(folder, { recursive: true });
  await giveToUser(folder);
  const file = join(folder, `${results.startedAt.replaceAll(':', '-').replace(/\..*/, '')}.json`);
  const report = file.replace(/\.json$/, '.html');
  await writeFile(file, `${JSON.stringify(results)}\n`);
  await writeFile(report, htmlReport(results, basename(file)));
  for (const path of [file, report]) await giveToUser(path);
  process.stdout.write(`${terminalReport(results)}\n\n${file}\n${report}\n`);
  return abort.signal.aborted ? INTERRUPTED : 0;
}

async function installPeers(): Promise<void> {
  process.stderr.write(`• installing with apt: ${peerPackages.join(' ')}\n`);
  const installer = join(project, 'scripts/support/install-tools.mjs');
  const { stderr } = await exec([process.execPath, installer, ...peerPackages], { tolerate: true, timeoutMs: 600_000 });
  if (stderr !== '') process.stderr.write(stderr);
}

/** What root wrote for somebody who used sudo is theirs. */
async function giveToUser(path: string): Promise<void> {
  const { SUDO_UID: user, SUDO_GID: group } = process.env;
  if (process.getuid?.() === 0 && user !== undefined && group !== undefined)
    await chown(path, Number(user), Number(group));
}
