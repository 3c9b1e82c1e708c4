import { randomBytes } from 'node:crypto';
import type { Run } from '../../../src/routes/ip.js';
import { exec } from '../../support/exec.js';

/** A network namespace of a test. */
export interface TestNamespace {
  readonly name: string;
  /** Runs a program inside. */
  readonly run: Run;
  /** Runs a program inside and returns what it printed. */
  print(...argv: string[]): Promise<string>;
  remove(): Promise<void>;
}

export async function makeNamespace(): Promise<TestNamespace> {
  const name = `twr-${randomBytes(4).toString('hex')}`;
  await exec(['ip', 'netns', 'add', name]);
  const run: Run = (argv, options) => exec(['ip', 'netns', 'exec', name, ...argv], options);
  await run(['ip', 'link', 'set', 'lo', 'up']);
  return {
    name,
    run,
    print: async (...argv) => (await run(argv)).stdout,
    remove: async () => {
      await exec(['ip', 'netns', 'del', name]);
    },
  };
}

/** Wraps a `Run` and writes down every argument vector. */
export function recording(run: Run): { readonly run: Run; readonly started: string[] } {
  const started: string[] = [];
  return {
    started,
    run: (argv, options) => {
      started.push(argv.join(' '));
      return run(argv, options);
    },
  };
}

/** Why this variant cannot be tested here; null when it can. */
export async function unusableIptables(program: string): Promise<string | null> {
  const probe = await makeNamespace();
  try {
    for (const table of ['nat', 'filter']) await probe.run([program, '-t', table, '-S']);
    return null;
  } catch (thrown) {
    return String(thrown);
  } finally {
    await probe.remove();
  }
}
