import { execFileSync } from 'node:child_process';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createFile, makeDirectory, replaceFile } from '../../../src/base/atomic-file.js';
import { FileError } from '../../../src/base/errors.js';
import { readTextFile } from '../../../src/base/text-file.js';

let directory: string;
beforeEach(async () => {
  directory = await fs.mkdtemp(path.join(os.tmpdir(), 'tweed-files-'));
});
afterEach(() => fs.rm(directory, { recursive: true }));

describe('a file that cannot be made', () => {
  it('is named in the error, and nothing that another try would name otherwise', async () => {
    const busy = path.join(directory, 'busy');
    await fs.mkdir(path.join(busy, 'x'), { recursive: true });
    const told = [replaceFile(busy, ''), createFile('/proc/self/none', '')].map((failed) =>
      failed.then(String, (error: Error) => error.message),
    );
    expect(await Promise.all(told)).toEqual([
      expect.stringMatching(new RegExp(`^(EISDIR|ENOTEMPTY|EEXIST): .*, rename '${busy}'$`)),
      expect.stringMatching(/^(ENOENT|EACCES|EPERM): .*, open '\/proc\/self\/none'$/),
    ]);
    expect(await fs.readdir(directory)).toEqual(['busy']);
  });
});

describe('making a directory', () => {
  it('makes what is missing above it, and is content with what is there', async () => {
    const deep = path.join(directory, 'a/b/c');
    await makeDirectory(deep, 0o700);
    await makeDirectory(deep);
    expect((await fs.stat(deep)).mode & 0o777).toBe(0o700);
    await makeDirectory('/');
  });

  it('works when several do it at once, and through a symbolic link', async () => {
    const deep = path.join(directory, 'a/b/c/d');
    await Promise.all(Array.from({ length: 20 }, () => makeDirectory(deep)));
    await fs.symlink(deep, path.join(directory, 'link'));
    await makeDirectory(path.join(directory, 'link/e'));
    await makeDirectory(path.join(directory, 'link'));
  });

  it.each(['/proc/x/y/z', '/proc/self/nothing'])('says no to %s instead of trying for ever', async (place) => {
    await expect(makeDirectory(place)).rejects.toThrow(/ENOENT|EACCES|EPERM/);
    await expect(replaceFile(`${place}/file`, 'text')).rejects.toThrow(/ENOENT|EACCES|EPERM/);
  });

  it('says no where a file is in the way', async () => {
    const file = path.join(directory, 'file');
    await fs.writeFile(file, '');
    await expect(makeDirectory(file)).rejects.toThrow('EEXIST');
    await expect(makeDirectory(path.join(file, 'below'))).rejects.toThrow('ENOTDIR');
  });
});

describe('reading a text file', () => {
  it('reads it whole, up to its limit', async () => {
    const file = path.join(directory, 'file');
    const text = 'zwölf Boxkämpfer\n'.repeat(10_000);
    await fs.writeFile(file, text);
    expect(await readTextFile(file)).toBe(text);
    expect(await readTextFile(file, Buffer.byteLength(text))).toBe(text);
    await expect(readTextFile(file, Buffer.byteLength(text) - 1)).rejects.toThrow(/has more than \d+ bytes; correct/);
  });

  it('reads what the kernel makes up', async () => {
    expect(await readTextFile('/proc/self/status')).toContain('VmRSS');
  });

  it('refuses what never ends, what would wait, and what is no file', async () => {
    const pipe = path.join(directory, 'pipe');
    execFileSync('mkfifo', [pipe]);
    for (const place of ['/dev/zero', pipe, directory]) await expect(readTextFile(place)).rejects.toThrow(FileError);
    await expect(readTextFile(path.join(directory, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
