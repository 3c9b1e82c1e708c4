import { mkdir, mkdtemp, readdir, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { exec } from '../../../src/base/exec.js';
import { silentLogger } from '../../../src/base/log.js';
import { DirectoryRegistry } from '../../../src/subnet/directory/directory-registry.js';
import { readGenerations, writeGeneration } from '../../../src/subnet/directory/generations.js';
import { RegistryError } from '../../../src/subnet/errors.js';
import { assertBuilt } from '../../support/built.js';
import { host, type RegistryFixture, registrySuite, subnets } from '../../support/registry-suite.js';

async function directoryFixture(): Promise<RegistryFixture> {
  const directory = await mkdtemp(join(tmpdir(), 'tweed-registry-'));
  const subnets = join(directory, 'subnets');
  return {
    open: async () => new DirectoryRegistry({ directory, rescanMs: 1_000 }, silentLogger()),
    writeRaw: async (key, value) => {
      const present = (await readGenerations(subnets)).get(key) ?? null;
      await writeGeneration(subnets, key, present, value);
    },
    readRaw: async (key) => (await readGenerations(subnets)).get(key)?.text ?? null,
    forget: async (registry) => {
      for (let i = 0; i < 10; i++) await registry.list();
    },
    shortTtl: 0.3,
    destroy: () => rm(directory, { recursive: true }),
  };
}

/** Reserving before the first list needs the directory of the leases. */
registrySuite('directory registry', async () => {
  const fixture = await directoryFixture();
  await (await fixture.open()).list();
  return fixture;
});

it('takes a directory that is not there for an error, not for no leases', async () => {
  const registry = new DirectoryRegistry({ directory: '/nonexistent/tweed' }, silentLogger());
  await expect(registry.list()).rejects.toThrow(RegistryError);
  await expect(registry.getConfig()).rejects.toThrow(/check that it exists/);
});

it('reads a reservation that was made by hand, and a config written by hand', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tweed-registry-'));
  try {
    const registry = new DirectoryRegistry({ directory }, silentLogger());
    await registry.list();
    await writeFile(join(directory, 'config'), '{"Network":"10.5.0.0/16"}\n');
    await writeFile(join(directory, 'subnets', '10.5.9.0-24'), '{"PublicIP":"192.0.2.9"}\n');
    expect((await registry.getConfig()).json).toBe('{"Network":"10.5.0.0/16"}\n');
    const [lease] = (await registry.list()).leases;
    expect(lease).toMatchObject({ key: '10.5.9.0-24', reservation: true });
  } finally {
    await rm(directory, { recursive: true });
  }
});

it('what is no file, or too large, costs its key and no other', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tweed-registry-'));
  try {
    const registry = new DirectoryRegistry({ directory }, silentLogger());
    await registry.list();
    await registry.create(subnets('10.5.1.0/24'), host('192.0.2.1'), 60);
    const stray = (name: string) => join(directory, 'subnets', name);
    await mkdir(stray('10.5.9.0-24@7'));
    await exec(['mkfifo', stray('10.5.10.0-24')]);
    await symlink('10.5.11.0-24', stray('10.5.11.0-24'));
    await writeFile(stray('10.5.12.0-24'), ' '.repeat(2 << 20));
    await symlink('nowhere', stray('10.5.13.0-24'));
    const { leases, malformed } = await registry.list();
    expect(leases.map(({ key }) => key)).toEqual(['10.5.1.0-24']);
    const told = malformed.map(({ key, error }) => `${key} ${error.message}`).sort();
    expect(told).toEqual([
      expect.stringMatching(/^10\.5\.10\.0-24 .*is no regular file; correct or delete/),
      expect.stringMatching(/^10\.5\.11\.0-24 .*ELOOP/),
      expect.stringMatching(/^10\.5\.12\.0-24 .*has more than/),
      expect.stringMatching(/^10\.5\.9\.0-24 .*is no regular file; correct or delete/),
    ]);
    await rm(join(directory, 'config'), { force: true });
    await mkdir(join(directory, 'config'));
    await expect(registry.getConfig()).rejects.toThrow(/config is no regular file; delete it$/);
    await expect(registry.getConfig()).rejects.toThrow(RegistryError);
  } finally {
    await rm(directory, { recursive: true });
  }
});

it('counts every change of the config by many processes, also beside the lock of an older version', async () => {
  assertBuilt();
  const directory = await mkdtemp(join(tmpdir(), 'tweed-registry-'));
  try {
    await writeFile(join(directory, '.config.lock'), '');
    await utimes(join(directory, '.config.lock'), 0, 0);
    const registry = new DirectoryRegistry({ directory }, silentLogger());
    await registry.setConfig('0', null);
    const writer = fileURLToPath(new URL('support/config-writer.mjs', import.meta.url));
    const writers = Array.from({ length: 4 }, () => exec([process.execPath, writer, directory, '10']));
    await Promise.all(writers);
    expect((await registry.getConfig()).json).toBe('40');
    expect(await readdir(directory)).toContain('config@41');
    expect(await readdir(directory)).not.toContain('config@42');
  } finally {
    await rm(directory, { recursive: true });
  }
});

it('keeps the last generations of each lease and leaves no temporary files', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tweed-registry-'));
  try {
    const registry = new DirectoryRegistry({ directory }, silentLogger());
    let lease = await registry.create(subnets('10.5.1.0/24'), host('192.0.2.1'), 60);
    for (let i = 0; i < 5; i++) lease = await registry.renew(lease, host('192.0.2.1'), 60);
    const generations = [1, 2, 3, 4, 5, 6].map((number) => `10.5.1.0-24@${number}`);
    expect((await readdir(join(directory, 'subnets'))).sort()).toEqual(generations);
    const text = await readFile(join(directory, 'subnets', '10.5.1.0-24@6'), 'utf8');
    expect(text).toMatch(/^\{"PublicIP":"192\.0\.2\.1","PublicIPv6":null,"ExpiresAt":"[-\d]+T[:.\d]+Z"\}$/);
  } finally {
    await rm(directory, { recursive: true });
  }
});
