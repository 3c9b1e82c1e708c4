import { once } from 'node:events';
import { createInterface } from 'node:readline/promises';
import type { Argv, CommandModule } from 'yargs';
import { TweedError } from '../../base/errors.js';
import { defaultLabName } from '../../lab/names.js';
import { lineProgress } from '../../lab/progress.js';
import { chooseStops, formatStops, formatTourResult, walkTour } from '../../lab/tour/tour.js';
import { printText, standardOutput } from '../print.js';
import { interruption } from './interruption.js';

interface TourArguments {
  readonly name: string;
  readonly stops?: string[];
  readonly list: boolean;
  readonly pause: boolean;
  readonly keep: boolean;
}

/** The lab that the tour makes where no name is given: never one that somebody works with. */
const tourLabName = 'tour';

/** Waits for Enter on the terminal. Ctrl-C there is the signal's; where input ends (Ctrl-D) nothing waits any longer. */
function openPauses(signal: AbortSignal): { pause: () => Promise<void>; close: () => void } {
  const reader = createInterface({ input: process.stdin, output: process.stdout });
  reader.on('SIGINT', () => process.emit('SIGINT'));
  let open = true;
  const closed = once(reader, 'close').then(() => {
    open = false;
  });
  return {
    pause: async () => {
      signal.throwIfAborted();
      if (!open) return;
      try {
        await Promise.race([reader.question('\n      … Enter', { signal }), closed]);
      } catch (error) {
        signal.throwIfAborted();
        // newer versions of Node tell the end of input so
        if ((error as Error).name !== 'AbortError') throw error;
        open = false;
      }
    },
    close: () => reader.close(),
  };
}

/** `tweed lab tour`: how container networks work, shown on a lab of its own. */
export const labTourCommand: CommandModule<{ name: string }, TourArguments> = {
  command: 'tour [stops..]',
  describe: 'Learn how container networks work, from the namespace to the overlay, on labs of its own',
  builder: (yargs) =>
    yargs
      .positional('stops', { type: 'string', array: true, describe: 'Only these; all of them otherwise' })
      .option('list', { type: 'boolean', default: false, describe: 'List the stops' })
      .option('pause', {
        type: 'boolean',
        default: false,
        describe: 'Wait for Enter before what breaks, and between the stops',
      })
      .option('keep', {
        type: 'boolean',
        default: false,
        describe: 'Leave the labs up afterwards, to go on by hand',
      }) as unknown as Argv<TourArguments>,
  handler: async ({ name, stops = [], list, pause, keep }) => {
    if (list) {
      printText(`${formatStops()}\n`);
      return;
    }
    const chosen = chooseStops(stops);
    if (pause && !process.stdin.isTTY)
      throw new TweedError('LAB_OPTION', '--pause waits for Enter, and nobody can press it here; leave it out');
    const { signal, release } = interruption();
    const pauses = pause ? openPauses(signal) : null;
    try {
      const result = await walkTour(chosen, {
        name: name === defaultLabName ? tourLabName : name,
        keep,
        write: (line) => printText(`${line}\n`),
        ...(pauses && { pause: pauses.pause }),
        progress: lineProgress(standardOutput()),
        signal,
      });
      printText(`\n${formatTourResult(result)}\n`);
      if (result.failed.length > 0) process.exitCode = 1;
    } finally {
      pauses?.close();
      release();
    }
  },
};
