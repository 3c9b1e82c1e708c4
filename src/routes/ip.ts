import { type ExecResult, exec } from '../base/exec.js';

/** Runs `ip` with the given words. Throws ExecError with the kernel's own words when it refuses. */
export function ip(...words: string[]): Promise<ExecResult> {
  return exec(['ip', ...words]);
}

/** Runs `ip -json …` and returns what it printed, parsed. The caller knows the shape it asked for. */
export async function ipJson<T>(...words: string[]): Promise<T> {
  const { stdout } = await exec(['ip', '-json', ...words]);
  return JSON.parse(stdout.trim() || '[]') as T;
}

/** Runs many `ip` commands in one process; the first that fails ends it. */
export async function ipBatch(lines: readonly string[]): Promise<void> {
  if (lines.length > 0) await exec(['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
}
