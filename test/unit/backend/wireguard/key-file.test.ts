import { chmod, mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadPrivateKey } from '../../../../src/backend/wireguard/key-file.js';
import { exec } from '../../../../src/base/exec.js';
import { formatKey } from '../../../../src/wireguard/keys.js';

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tweed-key-'));
  file = join(folder, 'flannel', 'wgkey');
});
afterEach(() => rm(folder, { recursive: true }));

async function put(text: string, mode = 0o400): Promise<void> {
  file = join(folder, 'wgkey');
  await writeFile(file, text);
  await chmod(file, mode);
}

describe('the key file', () => {
  it('is made when it is absent, for its owner alone, and kept', async () => {
    const { key, isNew } = await loadPrivateKey(file);
    expect(isNew).toBe(true);
    expect((await stat(file)).mode & 0o777).toBe(0o400);
    expect(await readFile(file, 'utf8')).toBe(formatKey(key.secret.bytes));
    const again = await loadPrivateKey(file);
    expect([again.key.publicKey, again.isNew]).toEqual([key.publicKey, false]);
  });

  it('made by many at the same time, it is one key', async () => {
    const keys = await Promise.all(Array.from({ length: 8 }, () => loadPrivateKey(file)));
    expect(new Set(keys.map(({ key }) => formatKey(key.publicKey))).size).toBe(1);
    expect(keys.filter(({ isNew }) => isNew)).toHaveLength(1);
  });

  it('a line of "wg genkey" is one', async () => {
    const text = formatKey(new Uint8Array(32).fill(8));
    await put(`${text}\n`);
    expect(formatKey((await loadPrivateKey(file)).key.secret.bytes)).toMatch(/^CAgI/);
  });

  it.each([0o404, 0o440, 0o410, 0o644])('mode %o is refused with the reason and the remedy', async (mode) => {
    await put(formatKey(new Uint8Array(32)), mode);
    await expect(loadPrivateKey(file)).rejects.toThrow(
      `the private key in ${file} is open to others (mode 0${mode.toString(8)}); remove it for a new one, or chmod 400 ${file}`,
    );
  });

  it('what is no key is refused, and not repeated', async () => {
    await put('almost a secret');
    const error = await loadPrivateKey(file).catch((thrown) => thrown);
    expect(error.code).toBe('WIREGUARD_KEY_FILE');
    expect(error.message).toContain('is no key');
    expect(error.message).not.toContain('secret');
  });

  it.each([
    ['a folder', () => Promise.resolve(folder)],
    ['a device', () => Promise.resolve('/dev/zero')],
    [
      'a pipe',
      async () => {
        const pipe = join(folder, 'pipe');
        await exec(['mkfifo', '-m', '400', pipe]);
        return pipe;
      },
    ],
  ])('%s in its place is refused', async (_name, make) => {
    await expect(loadPrivateKey(await make())).rejects.toMatchObject({ code: 'WIREGUARD_KEY_FILE' });
  });

  it('a file without an end is not read to its end', async () => {
    await put(`${formatKey(new Uint8Array(32).fill(8))} and more`);
    await truncate(file, 2 ** 40);
    await expect(loadPrivateKey(file)).rejects.toThrow('is no key');
  });
});
