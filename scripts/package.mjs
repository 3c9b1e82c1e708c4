// npm run package [-- --architecture amd64|arm64] [--output FOLDER]: what hosts install tweed from, made of this checkout: the
// tarball that `npm pack` makes, and a Debian package of the same files.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { controlFile, koffiBinary, md5sums } from './support/debian.mjs';
import { project, SetupError, say } from './support/run.mjs';
import { main, setupProject } from './support/setup.mjs';

await main(async (argv) => {
  const { values } = parseArgs({
    args: argv,
    options: {
      architecture: { type: 'string', default: { x64: 'amd64' }[process.arch] ?? process.arch },
      output: { type: 'string', default: join(project, 'packages') },
    },
  });
  await setupProject();
  const folder = resolve(values.output);
  mkdirSync(folder, { recursive: true });
  const scratch = mkdtempSync(join(tmpdir(), 'tweed-package-'));
  try {
    const tarball = packTarball(folder);
    say(`✓ ${tarball}`);
    say(`✓ ${buildDebian(tarball, values.architecture, folder, scratch)}`);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  return 0;
});

function packTarball(folder) {
  const said = output('npm', 'pack', '--silent', '--pack-destination', folder);
  return join(folder, said.trim().split('\n').at(-1));
}

function buildDebian(tarball, architecture, folder, scratch) {
  const root = join(scratch, 'root');
  const library = join(root, 'usr/lib/tweed');
  const documents = join(root, 'usr/share/doc/tweed');
  const put = (text, path, mode = 0o644) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text, { mode });
  };
  const move = (from, path) => {
    put(readFileSync(join(library, from)), path);
    rmSync(join(library, from), { recursive: true });
  };

  mkdirSync(library, { recursive: true });
  output('tar', '-xzf', tarball, '-C', library, '--strip-components=1', '--no-same-owner');
  const { version, description, license } = JSON.parse(readFileSync(join(library, 'package.json'), 'utf8'));
  installKoffi(join(library, 'node_modules'), architecture, scratch);

  // Everything has its place in Debian; what npm has in one folder goes there.
  cpSync(join(library, 'docs'), join(documents, 'docs'), { recursive: true });
  rmSync(join(library, 'docs'), { recursive: true });
  move('README.md', 'usr/share/doc/tweed/README.md');
  move('packaging/tweed.service', 'usr/lib/systemd/system/tweed.service');
  move('packaging/tweed.env', 'etc/tweed.env');
  move('dist/completion/tweed.bash', 'usr/share/bash-completion/completions/tweed');
  put(gzipSync(readFileSync(join(library, 'dist/man/tweed.8')), { level: 9 }), 'usr/share/man/man8/tweed.8.gz');
  for (const gone of ['dist/man', 'dist/completion']) rmSync(join(library, gone), { recursive: true });
  const others = readFileSync(join(library, 'dist/THIRD-PARTY.txt'), 'utf8');
  put(`tweed: ${license} (/usr/share/common-licenses/Apache-2.0)\n\n${others}`, 'usr/share/doc/tweed/copyright');
  rmSync(join(library, 'dist/THIRD-PARTY.txt'));
  mkdirSync(join(root, 'usr/bin'), { recursive: true });
  symlinkSync('../lib/tweed/bin/tweed', join(root, 'usr/bin/tweed'));

  const scripts = join(library, 'packaging/debian');
  for (const name of readdirSync(scripts)) put(readFileSync(join(scripts, name)), `DEBIAN/${name}`, 0o755);
  rmSync(scripts, { recursive: true });
  if (existsSync(join(library, 'packaging'))) {
    cpSync(join(library, 'packaging'), join(documents, 'examples'), { recursive: true });
    rmSync(join(library, 'packaging'), { recursive: true });
  }
  put('/etc/tweed.env\n', 'DEBIAN/conffiles');
  put(md5sums(root), 'DEBIAN/md5sums');
  const size = Math.ceil(Number(output('du', '-sb', '--exclude=DEBIAN', root).split('\t')[0]) / 1024);
  put(controlFile({ version, description, architecture, size }), 'DEBIAN/control');
  normaliseModes(root);

  const target = join(folder, `tweed_${version}_${architecture}.deb`);
  output('dpkg-deb', '--root-owner-group', '-Zxz', '--build', root, target);
  return target;
}

/** koffi, and its binary for the architecture: from here if this machine has it, else from the registry by the lock's sum. */
function installKoffi(modules, architecture, scratch) {
  const { name, version, integrity } = koffiBinary(project, architecture);
  mkdirSync(modules, { recursive: true });
  // what it runs, without what it is compiled from
  const filter = (source) =>
    statSync(source).isDirectory() ? !/\/(doc|vendor|native)$/.test(source) : /\.(c?js|json)$|LICENSE/.test(source);
  cpSync(join(project, 'node_modules/koffi'), join(modules, 'koffi'), { recursive: true, filter });
  const here = join(project, 'node_modules', name);
  const target = join(modules, name);
  if (existsSync(here)) cpSync(here, target, { recursive: true });
  else fetchBinary(`${name}@${version}`, integrity, target, scratch);
  // Debian's libc is the GNU one
  for (const entry of readdirSync(target))
    if (entry.startsWith('musl_')) rmSync(join(target, entry), { recursive: true });
}

function fetchBinary(name, integrity, target, scratch) {
  const file = output('npm', 'pack', '--silent', '--pack-destination', scratch, name).trim();
  const [algorithm, wanted] = integrity.split(/-(.*)/s);
  const path = join(scratch, file);
  const found = output('openssl', 'dgst', `-${algorithm}`, '-binary', path, { encoding: 'buffer' });
  if (found.toString('base64') !== wanted) throw new SetupError(`${name} is not what package-lock.json names`);
  mkdirSync(target, { recursive: true });
  output('tar', '-xzf', path, '-C', target, '--strip-components=1', '--no-same-owner');
}

/** Whatever the umask and the checkout's owner were. */
function normaliseModes(root) {
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath ?? entry.path, entry.name);
    if (entry.isSymbolicLink()) continue;
    chmodSync(path, entry.isDirectory() || statSync(path).mode & 0o100 ? 0o755 : 0o644);
  }
  chmodSync(root, 0o755);
}

function output(program, ...words) {
  const settings = typeof words.at(-1) === 'object' ? words.pop() : { encoding: 'utf8' };
  const { status, stdout, stderr, error } = spawnSync(program, words, {
    cwd: project,
    maxBuffer: 1 << 26,
    ...settings,
  });
  if (error?.code === 'ENOENT') throw new SetupError(`${program} is not installed`);
  if (status !== 0) throw new SetupError(`${program} ${words[0]} failed: ${String(stderr).trim()}`);
  return stdout;
}
