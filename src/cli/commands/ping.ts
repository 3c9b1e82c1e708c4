import type { CommandModule } from 'yargs';
import { TweedError } from '../../base/errors.js';
import { pingPeer, renderPing } from '../../operator/ping.js';
import { findTarget, resolveTarget } from '../../operator/probe.js';
import { fetchStatus } from '../../operator/status-client.js';
import { exitCodes } from '../exit.js';
import { OptionError } from '../flags.js';
import { runDirectoryOption } from './shared.js';

interface PingArguments {
  readonly target: string;
  readonly count: number;
  readonly json: boolean;
  readonly 'run-dir': string;
}

export const command: CommandModule<object, PingArguments> = {
  command: 'ping <target>',
  builder: (args) =>
    args
      .positional('target', {
        type: 'string',
        demandOption: true,
        describe: "a peer's public address or name, its subnet, or an address in the overlay",
      })
      .option('count', { type: 'number', alias: 'c', default: 3, describe: 'probes of each half' })
      .option('json', { type: 'boolean', default: false, describe: 'print JSON' })
      .option('run-dir', runDirectoryOption),
  handler: async ({ target, count, json, 'run-dir': runDir }) => {
    if (!Number.isInteger(count) || count < 1 || count > 100)
      throw new OptionError('--count: the value must be 1 to 100');
    const text = await resolveTarget(target);
    const found = findTarget(text, await fetchStatus(runDir));
    if (found.kind === 'unknown') throw new TweedError('NO_ROUTE', `${found.reason}; "tweed status" lists the peers`);
    if (found.kind === 'own') {
      process.stdout.write(`${target} is in ${found.subnet}, this host's own subnet: no overlay is involved\n`);
      return;
    }
    const report = await pingPeer(() => fetchStatus(runDir), found.peer, found.overlayAddress, count);
    process.stdout.write(json ? `${JSON.stringify(report, null, 2)}\n` : renderPing(report));
    if (!report.ok) process.exitCode = exitCodes.failed;
  },
};
