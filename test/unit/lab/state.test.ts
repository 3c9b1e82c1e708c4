import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { LabBusyError } from '../../../src/lab/errors.js';
import { isRoots, LabFiles } from '../../../src/lab/state.js';

let files: LabFiles;

beforeEach(async () => {
  files = await LabFiles.of(`test-${process.pid}-lock`);
});
afterEach(() => rm(`${files.folder}.lock`, { force: true }));

it('lets one command at a time change a lab, and says who it is', async () => {
  await files.locked(async () => {
    await expect(files.locked(async () => {})).rejects.toThrow(LabBusyError);
    await expect(files.locked(async () => {})).rejects.toThrow(`(pid ${process.pid}) is changing this lab`);
  });
  expect(await readdir(dirname(files.folder))).not.toContain(`${basename(files.folder)}.lock`);
});

it('is free again after work that failed, and after a command that was killed', async () => {
  await expect(files.locked(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
  await writeFile(`${files.folder}.lock`, '4711\n');
  expect(await files.locked(async () => 'done')).toBe('done');
});

it('tells a lab of root’s from none, for those who are not root', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tweed-roots-'));
  try {
    await mkdir(join(folder, 'one'));
    expect([await isRoots('one', folder), await isRoots('other', folder)]).toEqual([true, false]);
  } finally {
    await rm(folder, { recursive: true });
  }
});
