import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { tailOf } from '../../../src/lab/daemon.js';
import { readPatience } from '../../../src/lab/patience.js';

it('is a factor that the environment gives', () => {
  expect([undefined, '', '1', '2.5', '60'].map((text) => readPatience(text))).toEqual([1, 1, 1, 2.5, 60]);
  for (const text of ['0', '0.5', '-1', 'x', '1e9', 'NaN']) expect(() => readPatience(text)).toThrow(/TWEED_PATIENCE=/);
});

it('tells how a log ends, and of one that is empty or was never made', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tweed-log-'));
  const path = join(folder, 'host1.log');
  try {
    expect(await tailOf(path)).toBe(`${path}, which is empty: it did not get as far as its first line`);
    await writeFile(path, '1\n2\n3\n4\n5\n6\n');
    expect(await tailOf(path)).toBe(`${path}, which ends with:\n2\n3\n4\n5\n6`);
    await writeFile(path, '\n');
    expect(await tailOf(path)).toContain('which is empty');
  } finally {
    await rm(folder, { recursive: true });
  }
});
