import { setTimeout as sleep } from 'node:timers/promises';
import type { CommandModule } from 'yargs';
import { messageOf } from '../../base/errors.js';
import { fetchStatus } from '../../operator/status-client.js';
import { renderStatus } from '../../operator/status-text.js';
import { exitCodes } from '../exit.js';
import { runDirectoryOption } from './shared.js';

interface StatusArguments {
  readonly 'run-dir': string;
  readonly json: boolean;
  readonly watch: boolean;
  readonly ready: boolean;
}

const CLEAR_SCREEN = '\x1b[H\x1b[2J\x1b[3J';
const REFRESH_MS = 1000;

export const statusCommand: CommandModule<object, StatusArguments> = {
  command: 'status',
  describe: 'show the lease, the peers and their traffic, drops and features of the running daemon',
  builder: (args) =>
    args
      .option('run-dir', runDirectoryOption)
      .option('json', {
        type: 'boolean',
        default: false,
        describe: 'print JSON; its members are in docs/operations.md',
      })
      .option('ready', { type: 'boolean', default: false, describe: 'end with status 1 unless the overlay is up' })
      .option('watch', { type: 'boolean', default: false, describe: 'again every second, until interrupted' }),
  handler: async ({ 'run-dir': runDir, json, watch, ready }) => {
    const show = async () => {
      const status = await fetchStatus(runDir);
      process.exitCode = ready && !status.ready ? exitCodes.failed : exitCodes.done;
      return json ? `${JSON.stringify(status, null, watch ? 0 : 2)}\n` : renderStatus(status, Date.now());
    };
    if (!watch) {
      process.stdout.write(await show());
      return;
    }
    for (;;) {
      // A daemon that restarts comes back; watching goes on meanwhile.
      const screen = await show().catch((error: unknown) => `${messageOf(error)}\n`);
      process.stdout.write(process.stdout.isTTY && !json ? CLEAR_SCREEN + screen : screen);
      await sleep(REFRESH_MS);
    }
  },
};
