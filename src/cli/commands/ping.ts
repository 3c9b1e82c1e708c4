import type { CommandModule } from 'yargs';
import { TweedError } from '../../base/errors.js';
import { pingPeer, renderPing } from '../../operator/ping.js';
import { findTarget, resolveTarget } from '../../operator/probe.js';
import { fetchStatus } from '../../operator/status-client.js';
import { exitCodes } from '../exit.js';
import { OptionError } from '../flags.js';
import { printJson, printText } from '../print.js';
import { type DaemonChoice, daemonChoiceOptions, jsonOption } from './shared.js';

export const command: CommandModule<object, DaemonChoice & { target: string; count: number; json: boolean }> = {
  command: 'ping <target>',
  builder: (args) =>
    args
      .positional('target', {
        type: 'string',
        demandOption: true,
        describe: "a peer's public address or name, its subnet, or an address in the overlay",
      })
      .option('count', { type: 'number', alias: 'c', default: 3, describe: 'probes of each half' })
      .option('json', jsonOption)
      .options(daemonChoiceOptions),
  handler: async ({ target, count, json, 'run-dir': runDir, ...choice }) => {
    if (!Number.isInteger(count) || count < 1 || count > 100)
      throw new OptionError('--count: the value must be 1 to 100');
    const status = () => fetchStatus(runDir, choice);
    const text = await resolveTarget(target);
    const found = findTarget(text, await status());
    if (found.kind === 'unknown') throw new TweedError('NO_ROUTE', `${found.reason}; "tweed status" lists the peers`);
    if (found.kind === 'own') {
      printText(`${target} is in ${found.subnet}, this host's own subnet: no overlay is involved\n`);
      return;
    }
    const report = await pingPeer(status, found.peer, found.overlayAddress, count);
    if (json) printJson(report);
    else printText(renderPing(report));
    if (!report.ok) process.exitCode = exitCodes.failed;
  },
};
