import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { assertBuilt } from '../../support/built.js';

const program = (name: string) => fileURLToPath(new URL(`../../../dist/cli/${name}.cjs`, import.meta.url));
const witness = fileURLToPath(new URL('./support/module-witness.mjs', import.meta.url));

/** Runs a program to its end and tells of which packages, and of which of the product's rooms, it loaded something. */
function loaded(name: string, ...argv: string[]) {
  const { stderr, stdout, status } = spawnSync(process.execPath, ['--import', witness, program(name), ...argv], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH },
  });
  const urls = stderr.split('\n').flatMap((line) => /^loads (.*)$/.exec(line)?.[1] ?? []);
  const bundled = urls.filter((url) => url.startsWith('file:') && url.includes('/dist/'));
  // the bundler says before each module where it came from; the packages may lie elsewhere, behind a link
  const origins = bundled.flatMap(
    (url) => readFileSync(fileURLToPath(url), 'utf8').match(/^\/\/ (?:src|(?:\.\.\/\S*)?node_modules)\/\S+$/gm) ?? [],
  );
  const names = [...urls, ...origins].flatMap(
    (text) => /node_modules\/((?:@[^/]+\/)?[^/]+)|^\/\/ src\/(\w+)/.exec(text)?.slice(1) ?? [],
  );
  expect(origins).not.toEqual([]); // or the witness saw nothing
  return { status, stdout, packages: new Set(names.filter((found) => found !== undefined)) };
}

beforeAll(() => assertBuilt());

describe('a command loads what it needs and no more', () => {
  it.each([
    ['tweed', '--version'],
    ['tweed', '--help'],
    ['tweed', 'run', '--help'],
    ['flanneld', '-version'],
    ['flanneld', '-check'],
  ])('%s %s %s', (name, ...argv) => {
    const { status, packages } = loaded(name, ...argv.filter((word) => word !== undefined));
    expect(status).toBe(0);
    for (const heavy of ['yargs', 'etcd3', 'koffi', 'daemon', 'encap', 'lab']) expect(packages).not.toContain(heavy);
  });

  it('tweed status, without yargs and etcd', () => {
    const { status, packages } = loaded('tweed', 'status', '--run-dir=/nonexistent');
    expect(status).toBe(1);
    for (const heavy of ['yargs', 'etcd3', 'koffi', 'encap', 'lab']) expect(packages).not.toContain(heavy);
  });

  it('tweed leases in a directory, with yargs and without etcd', () => {
    const { packages } = loaded('tweed', 'leases', '--etcd-endpoints=file:///nonexistent');
    expect(packages).toContain('yargs');
    for (const heavy of ['etcd3', 'koffi', 'daemon', 'encap', 'lab']) expect(packages).not.toContain(heavy);
  });

  it('tweed leases in etcd, with etcd', () => {
    expect(loaded('tweed', 'leases', '--etcd-endpoints=http://127.0.0.1:1').packages).toContain('etcd3');
  });
});
