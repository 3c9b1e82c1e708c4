import type { CommandModule } from 'yargs';
import { readHostNames } from '../../operator/host-names.js';
import { type PingReport, pingPeers } from '../../operator/ping/ping.js';
import { renderMatrix } from '../../operator/ping/ping-text.js';
import { fetchStatus } from '../../operator/status-client.js';
import { exitCodes } from '../exit.js';
import { OptionError } from '../flags.js';
import { printJson, printText } from '../print.js';
import { type DaemonChoice, daemonChoiceOptions, jsonOption } from './shared.js';

/** Peers that are probed side by side. */
const AT_ONCE = 8;

export const command: CommandModule<object, DaemonChoice & { count: number; json: boolean }> = {
  command: 'test',
  builder: (args) =>
    args
      .option('count', {
        type: 'number',
        requiresArg: true,
        alias: 'c',
        default: 3,
        describe: 'probes of each half and size',
      })
      .option('json', jsonOption)
      .options(daemonChoiceOptions),
  handler: async ({ count, json, 'run-dir': runDir, ...choice }) => {
    if (!Number.isInteger(count) || count < 1 || count > 100)
      throw new OptionError('--count: the value must be 1 to 100');
    const probing = { count, intervalMs: 200, payload: null };
    const reports: PingReport[] = [];
    for await (const report of pingPeers(() => fetchStatus(runDir, { ...choice, namespace: 'own' }), probing, AT_ONCE))
      reports.push(report);
    if (json) printJson(reports);
    else printText(renderMatrix(reports, await readHostNames()));
    if (!reports.every(({ ok }) => ok)) process.exitCode = exitCodes.failed;
  },
};
