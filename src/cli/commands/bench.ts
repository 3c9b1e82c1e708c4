import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { TweedError } from '../../base/errors.js';
import { benchProgram } from '../bench-program.js';
import { printOut } from '../print.js';

/** What is to be said of it where it is not built; there it says more itself. */
export const benchUsage =
  'Usage: tweed bench [options]\n\nMeasures what a tunnel costs on this machine. It is part of a checkout and not of the packages: npm run bench there.\n';

/** Hands everything to the benchmark and returns its status. */
export async function runBenchCommand(args: readonly string[]): Promise<number> {
  if (!existsSync(benchProgram)) {
    if (args.some((word) => ['--help', '-help', '-h'].includes(word))) {
      printOut(benchUsage);
      return 0;
    }
    throw new TweedError(
      'NO_BENCH',
      'the benchmark is not built here; run `npm run bench` in a checkout of the project',
    );
  }
  // Ctrl-C reaches the benchmark too, which ends in its own order; we wait for that
  const ignore = (): void => {};
  process.on('SIGINT', ignore);
  try {
    return await new Promise((resolve, reject) => {
      const child = spawn(process.execPath, [benchProgram, ...args], { stdio: 'inherit' });
      child.once('error', reject);
      child.once('close', (status) => resolve(status ?? 1));
    });
  } finally {
    process.off('SIGINT', ignore);
  }
}
