// The root of the guest: programs of this machine's own Debian, Node and the built checkout, as an image of a disk.
// Copied rather than bootstrapped: that takes seconds instead of minutes, and everything is there already.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { project, SetupError } from '../run.mjs';
import { output } from './output.mjs';

/** Debian packages that the guest needs besides the tools of the tests, each with what it depends on. */
const basics = ['bash', 'coreutils', 'util-linux', 'mount', 'grep', 'sed', 'mawk', 'findutils', 'hostname', 'kmod'];
const unneeded = /^\/usr\/share\/(doc|man|locale|info|lintian|bash-completion|zoneinfo|i18n|common-licenses)\//;
/** Large, and no test in the guest looks at them. */
const unneededModules = ['@biomejs', '@observablehq', 'assemblyscript', 'binaryen', 'dependency-cruiser', 'typescript'];

/**
 * @param {string} root folder that is made
 * @param {string[]} packages of Debian, which must be installed here
 */
export function copySystem(root, packages) {
  mkdirSync(root);
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    if (existsSync(`/${name}`) && lstatSync(`/${name}`).isSymbolicLink()) symlinkSync(`usr/${name}`, join(root, name));
  }
  const files = output(['dpkg-query', '-L', ...closure([...basics, ...packages])]).split('\n');
  copyFiles(root, [...files.filter((path) => path.startsWith('/') && !unneeded.test(path)), ...alternatives()]);
  for (const name of ['protocols', 'services', 'passwd', 'group', 'nsswitch.conf', 'hosts', 'alternatives']) {
    if (existsSync(`/etc/${name}`))
      cpSync(`/etc/${name}`, join(root, 'etc', name), { recursive: true, verbatimSymlinks: true });
  }
  // Node may be no package of Debian's, so the loader itself is asked what it needs.
  const libraries = output(['ldd', process.execPath]).matchAll(/(\/\S+) \(0x/g);
  copyFiles(
    root,
    [...libraries].flatMap(([, path]) => [path, realpathSync(path)]),
  );
  cpSync(process.execPath, join(root, 'usr/bin/node'), { dereference: true });
  for (const name of ['proc', 'sys', 'dev', 'run', 'tmp', 'results', 'root', 'opt', 'var/lib', 'usr/lib/modules']) {
    mkdirSync(join(root, name), { recursive: true });
  }
}

/** The packages with all that they depend on, as far as it is installed. */
function closure(wanted) {
  const format = '${Status}\t${binary:Package}\t${Provides}\t${Pre-Depends}, ${Depends}\n';
  const names = (list) =>
    list
      .split(/[,|]/)
      .map((one) => one.trim().replace(/[ (:].*$/, ''))
      .filter(Boolean);
  const installed = new Map();
  for (const line of output(['dpkg-query', '-W', '-f', format]).split('\n')) {
    const [status = '', name = '', provides = '', depends = ''] = line.split('\t');
    if (!status.endsWith(' installed')) continue;
    for (const known of [name.replace(/:.*/, ''), ...names(provides)]) {
      installed.set(known, [...(installed.get(known) ?? []), { name, depends: names(depends) }]);
    }
  }
  const missing = wanted.filter((name) => !installed.has(name));
  if (missing.length > 0) throw new SetupError(`not installed: ${missing.join(', ')}`);
  const found = new Set();
  const visit = (wantedName) => {
    for (const { name, depends } of installed.get(wantedName) ?? []) {
      if (found.has(name)) continue;
      found.add(name);
      depends.forEach(visit);
    }
  };
  wanted.forEach(visit);
  return [...found];
}

/** Names such as iptables, which belong to no package. */
function alternatives() {
  return ['/usr/bin', '/usr/sbin'].flatMap((folder) =>
    readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isSymbolicLink())
      .map(({ name }) => join(folder, name))
      .filter((path) => readlinkSync(path).startsWith('/etc/alternatives/')),
  );
}

/** Copies files and links to the same place below `root`. */
function copyFiles(root, paths) {
  const real = new Set();
  for (const path of paths) {
    try {
      const own = join(realpathSync(dirname(path)), basename(path));
      if (!lstatSync(own).isDirectory()) real.add(own);
    } catch {} // a file that the machine's owner has removed, such as documentation
  }
  const input = [...real].map((path) => path.slice(1)).join('\0');
  const packed = spawnSync('tar', ['-C', '/', '-c', '--null', '--no-recursion', '-T', '-'], {
    input,
    maxBuffer: 2 ** 31 - 1,
  });
  output(['tar', '-C', root, '-x'], { input: packed.stdout });
}

/** Copies the built checkout to /opt/tweed of the guest. */
export async function copyCheckout(root) {
  const target = join(root, 'opt/tweed');
  mkdirSync(target);
  for (const name of [
    '.ci',
    'bench',
    'dist',
    'docs',
    'package-lock.json',
    'package.json',
    'packaging',
    'scripts',
    'src',
    'test',
    'tsconfig.json',
    'tsconfig.test.json',
    'vitest.config.ts',
  ]) {
    cpSync(join(project, name), join(target, name), { recursive: true, preserveTimestamps: true });
  }
  const modules = realpathSync(join(project, 'node_modules'));
  mkdirSync(join(target, 'node_modules'));
  for (const name of readdirSync(modules).filter((one) => !one.startsWith('.') && !unneededModules.includes(one))) {
    cpSync(join(modules, name), join(target, 'node_modules', name), { recursive: true, verbatimSymlinks: true });
  }
  // mke2fs keeps whole seconds only, by which the tests would take the build for an older one.
  const stamp = await import(pathToFileURL(join(target, 'scripts/support/build-stamp.mjs')).href);
  for (const path of Object.keys(stamp.listSources())) {
    const { mtimeMs } = statSync(join(target, path));
    utimesSync(join(target, path), Math.floor(mtimeMs / 1000), Math.floor(mtimeMs / 1000));
  }
  stamp.writeStamp(stamp.listSources(), true);
}

/** Copies what the guest does by itself, and what it is told. @param {Record<string, string>} settings */
export function copyGuest(root, settings) {
  const folder = join(root, 'guest');
  cpSync(join(project, 'test/kernels/guest'), folder, { recursive: true });
  for (const name of readdirSync(folder)) chmodSync(join(folder, name), 0o755);
  const lines = Object.entries(settings).map(([name, value]) => `export ${name}='${value}'\n`);
  writeFileSync(join(folder, 'settings'), lines.join(''));
}

/** @returns {string} the path of the image, without mounting anything */
export function makeImage(root) {
  const image = `${root}.img`;
  const kibibytes = Number(output(['du', '-sk', root]).split('\t')[0]);
  output(['mke2fs', '-q', '-t', 'ext4', '-d', root, image, `${Math.ceil((kibibytes * 1.25) / 1024) + 256}M`]);
  return image;
}
