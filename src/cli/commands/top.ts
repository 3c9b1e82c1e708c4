import type { CommandModule } from 'yargs';
import { messageOf } from '../../base/errors.js';
import { printable, printableLines } from '../../base/printable.js';
import { readHostNames } from '../../operator/host-names.js';
import { fetchStatus } from '../../operator/status-client.js';
import { type Look, renderTop } from '../../operator/top.js';
import { OptionError } from '../flags.js';
import { repeatPage } from '../screen.js';
import { callersNamespace, type DaemonChoice, daemonChoiceOptions } from './shared.js';

export const command: CommandModule<object, DaemonChoice & { interval: number; count: number }> = {
  command: 'top',
  builder: (args) =>
    args
      .option('interval', {
        type: 'number',
        requiresArg: true,
        alias: 'i',
        default: 1,
        describe: 'seconds between two looks',
      })
      .option('count', {
        type: 'number',
        requiresArg: true,
        alias: 'c',
        default: 0,
        describe: 'end after so many pages; 0: when told to',
      })
      .options(daemonChoiceOptions),
  handler: async ({ interval, count, 'run-dir': runDir, ...choice }) => {
    if (!(interval >= 0.1 && interval <= 3600)) throw new OptionError('--interval: the value must be 0.1 to 3600');
    if (!(Number.isInteger(count) && count >= 0)) throw new OptionError('--count: the value must be 0 or more');
    const names = await readHostNames();
    const look = async (): Promise<Look> => {
      const status = await fetchStatus(runDir, { ...choice, namespace: callersNamespace(runDir) });
      return { status, at: performance.now() };
    };
    let before: Look | null = await look(); // where none answers at all, that is an error and no page
    await new Promise((resolve) => setTimeout(resolve, FIRST_MS));
    await repeatPage({
      intervalMs: interval * 1000,
      count,
      page: async (size) => {
        try {
          const after = await look();
          const page = renderTop({ before, after, names, size }, Date.now());
          before = after;
          return printableLines(size === null ? `${page}\n` : page);
        } catch (error) {
          return `${printable(messageOf(error))}\n`; // one that restarts comes back
        }
      },
    });
  },
};

/** Until the first page, which is to have rates too. Less would be a guess, more a wait. */
const FIRST_MS = 300;
