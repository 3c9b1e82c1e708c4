import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exec } from '../../src/base/exec.js';
import { sourceFile } from '../harness/paths.js';
import type { Contender } from './contender.js';
import { startEngines } from './engine.js';

export const MTU = 1472;

/** @returns the program's path */
export async function compileCLoop(folder: string): Promise<string> {
  const program = join(folder, 'c-loop');
  await exec(['gcc', '-O2', '-Wall', '-Wextra', '-o', program, sourceFile('engines/c-loop.c')]);
  return program;
}

/** A plain C loop on the same wire format, where a C compiler is installed. */
export const cLoop: Contender = {
  id: 'c-loop',
  title: 'plain C loop',
  description:
    'bench/engines/c-loop.c on the same wire format: one thread, poll, one packet per read, sendto, recv and write; gcc -O2, buffers as large as the daemon’s; MTU 1472',
  encrypted: false,
  mtu: MTU,
  async unavailable() {
    try {
      await exec(['gcc', '--version']);
      return '';
    } catch {
      return 'gcc is not installed';
    }
  },
  async start(pair) {
    const folder = await mkdtemp(join(tmpdir(), 'tweed-bench-'));
    try {
      const program = await compileCLoop(folder);
      return await startEngines(pair, MTU, (...settings) => [program, ...settings]);
    } finally {
      await rm(folder, { recursive: true, force: true }); // the running programs keep theirs
    }
  },
};
