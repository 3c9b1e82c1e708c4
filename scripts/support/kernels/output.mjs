import { spawnSync } from 'node:child_process';
import { SetupError } from '../run.mjs';

/**
 * Runs a program to its end. The words of one that fails become the error.
 *
 * @param {string[]} argv
 * @param {{ cwd?: string, input?: string, encoding?: 'utf8' | 'buffer', tolerate?: boolean }} [options]
 *   tolerate: a failure is no error
 * @returns {any} what it printed
 */
export function output([program, ...args], { tolerate = false, encoding = 'utf8', ...options } = {}) {
  const { status, error, stdout, stderr } = spawnSync(program, args, { encoding, maxBuffer: 256 << 20, ...options });
  if (status !== 0 && !tolerate) {
    throw new SetupError(`${program} ${args.at(-1)} failed: ${error?.message ?? String(stderr).trim()}`);
  }
  return stdout ?? '';
}
