import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll } from 'vitest';
import { LabBusyError } from '../../../src/lab/errors.js';
import { Lab } from '../../../src/lab/lab.js';
import { listNamespaces } from '../../../src/lab/namespace.js';
import type { LabOptions } from '../../../src/lab/options.js';
import { LabFiles } from '../../../src/lab/state.js';

/** A tour makes further labs, with what they are for behind the name. */
const testLab = /^test-(\d+)-\d+(-[a-z]+)?$/;
let made = 0;

/** A name that no other lab has, and that tells which process made it. */
export function uniqueLabName(): string {
  return `test-${process.pid}-${++made}`;
}

/** Removes labs of test runs that were killed before they could do so themselves. */
export async function sweepLabs(): Promise<void> {
  const folder = dirname((await LabFiles.of('any')).folder);
  const folders = await readdir(folder).catch(() => []);
  const names = [
    ...folders,
    ...(await listNamespaces()).map((name) => name.replace(/-(switch|internet|etcd|host.*)$/, '')),
  ];
  for (const name of new Set(names)) {
    const maker = testLab.exec(name)?.[1];
    if (maker !== undefined && !isRunning(Number(maker))) await Lab.down(name).catch(unlessBusy);
  }
}

/** Another test run may be sweeping the same lab. */
function unlessBusy(error: unknown): void {
  if (!(error instanceof LabBusyError)) throw error;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/**
 * One lab for all tests of the surrounding `describe` (or of the file). It is taken down whatever happens, and the logs
 * of its daemons are printed when a test fails.
 *
 * @param options where they choose no family, it is IPv4 alone: a test that is not about families need not do all twice
 * @returns what gives the lab, once the tests run
 */
export function useLab(options: Partial<LabOptions> = {}): () => Lab {
  const name = options.name ?? uniqueLabName();
  let lab: Lab | undefined;
  beforeAll(async () => {
    const chosen = options.ipFamilies ?? options.underlayFamily;
    lab = await Lab.up({ ...options, ...(chosen === undefined && { ipFamilies: 'ipv4' as const }), name });
  });
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(await logsOf(name));
  });
  afterAll(async () => {
    await lab?.close();
    await Lab.down(name);
  });
  return () => {
    if (lab === undefined) throw new Error('the lab is up only while tests run');
    return lab;
  };
}

/** The last lines of all logs of a lab. */
export async function logsOf(name: string, lines = 40): Promise<string> {
  const { logs } = await LabFiles.of(name);
  const parts: string[] = [];
  for (const entry of await readdir(logs).catch(() => [])) {
    const text = await readFile(join(logs, entry), 'utf8');
    parts.push(`── ${entry}`, ...text.trimEnd().split('\n').slice(-lines), '');
  }
  return parts.join('\n');
}
