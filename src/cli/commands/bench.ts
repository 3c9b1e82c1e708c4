import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { TweedError } from '../../base/errors.js';

/** The benchmark is no part of what hosts need; it is compiled beside the product, by its first run. */
const program = fileURLToPath(new URL('../../../dist-bench/bench/main.js', import.meta.url));

/** Hands everything to the benchmark and returns its status. */
export async function runBenchCommand(args: readonly string[]): Promise<number> {
  if (!existsSync(program)) {
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
      const child = spawn(process.execPath, [program, ...args], { stdio: 'inherit' });
      child.once('error', reject);
      child.once('close', (status) => resolve(status ?? 1));
    });
  } finally {
    process.off('SIGINT', ignore);
  }
}
