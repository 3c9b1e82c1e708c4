// Kernels of Debian's archive, unpacked and not installed, by an apt of our own: this machine's sources stay as they are.
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { SetupError } from '../run.mjs';
import { output } from './output.mjs';

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
/** Packages are kept here; when it is empty they are fetched again. */
const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'tweed', 'kernels');

/**
 * @typedef {object} Kernel one of test/kernels/kernels.json
 * @property {string} name its branch, such as `6.1`
 * @property {string} package Debian's package that leads to the newest kernel of the branch
 * @property {string[]} suites where that package is looked for
 *
 * @typedef {object} Unpacked
 * @property {string} image the path of the kernel
 * @property {string} modules the folder lib/modules/RELEASE
 * @property {string} version the stable release, such as `6.1.192`
 */

/** Where this machine's own apt gets Debian from. */
function mirrors() {
  const listed = output(['apt-get', 'indextargets', '--format', '$(REPO_URI) $(CODENAME)', 'Created-By: Packages']);
  const pairs = listed.split('\n').map((line) => line.split(' '));
  const find = (pattern, otherwise) => pairs.find(([, suite]) => pattern.test(suite))?.[0] ?? otherwise;
  return {
    main: find(/^[a-z]+$/, 'http://deb.debian.org/debian/'),
    security: find(/^[a-z]+-security$/, 'http://deb.debian.org/debian-security/'),
  };
}

/**
 * Fetches the newest kernel of each branch and unpacks it below `folder`.
 *
 * @param {Kernel[]} kernels
 * @returns {Map<string, Unpacked>} by name
 */
export function fetchKernels(kernels, folder) {
  if (!existsSync(keyring)) throw new SetupError(`${keyring} is missing; install debian-archive-keyring`);
  const apt = openApt(join(folder, 'apt'), [...new Set(kernels.flatMap(({ suites }) => suites))]);
  return new Map(kernels.map((kernel) => [kernel.name, unpack(kernel, apt, join(folder, kernel.name))]));
}

function openApt(folder, suites) {
  for (const name of ['lists/partial', 'cache/archives/partial']) mkdirSync(join(folder, name), { recursive: true });
  const { main, security } = mirrors();
  const line = (suite) => `deb [signed-by=${keyring}] ${suite.endsWith('-security') ? security : main} ${suite} main\n`;
  writeFileSync(join(folder, 'sources.list'), suites.map(line).join(''));
  writeFileSync(join(folder, 'status'), '');
  const settings = {
    'Dir::Etc::sourcelist': join(folder, 'sources.list'),
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::State::lists': join(folder, 'lists'),
    'Dir::State::status': join(folder, 'status'),
    'Dir::Cache': join(folder, 'cache'),
    'Acquire::Languages': 'none',
    'APT::Sandbox::User': '',
  };
  const words = ['-qq', ...Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])];
  const apt = (program, args, options) => output([program, ...words, ...args], options);
  apt('apt-get', ['update']);
  return apt;
}

/** @returns {Unpacked} */
function unpack({ name, package: meta, suites }, apt, folder) {
  const versions = apt('apt-cache', ['madison', meta])
    .split('\n')
    .map((line) => line.split('|')[1]?.trim() ?? '')
    .filter((version) => version.startsWith(`${name}.`))
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  const version = versions.at(-1);
  if (version === undefined) throw new SetupError(`${suites.join(' and ')} have no ${meta} ${name}`);
  const described = apt('apt-cache', ['show', `${meta}=${version}`]);
  const [, image] = /^Depends: (\S+)/m.exec(described) ?? [];
  if (image === undefined) throw new SetupError(`${meta} ${version} leads to no kernel`);
  mkdirSync(cache, { recursive: true });
  const kept = () => readdirSync(cache).find((file) => file.startsWith(`${image}_`) && file.includes(version));
  if (kept() === undefined) apt('apt-get', ['download', image], { cwd: cache });
  const deb = kept();
  if (deb === undefined) throw new SetupError(`apt brought no ${image} ${version}`);
  output(['dpkg-deb', '-x', join(cache, deb), folder]);
  // Since Debian 13 packages name the folder where it really is.
  if (!existsSync(join(folder, 'lib'))) renameSync(join(folder, 'usr/lib'), join(folder, 'lib'));
  const [release = ''] = readdirSync(join(folder, 'lib/modules'));
  output(['depmod', '-b', folder, release]);
  const modules = join(folder, 'lib/modules', release);
  return { image: join(folder, 'boot', `vmlinuz-${release}`), modules, version: version.replace(/-.*/, '') };
}

/** What leads to the disk: virtio and ext4, whichever of them are modules. */
const diskModules = ['virtio_pci', 'virtio_blk', 'ext4', 'crc32c_generic', 'crc32c_cryptoapi'];

/**
 * Makes an initial RAM disk: busybox, the disk's modules, and an init that goes on with the disk's own.
 *
 * @param {Unpacked} kernel
 * @param {string} init the script
 * @returns {string} its path
 */
export function makeInitrd({ modules }, init) {
  const release = basename(modules);
  const base = join(modules, '../../..');
  const folder = join(base, 'initrd');
  mkdirSync(join(folder, 'bin'), { recursive: true });
  mkdirSync(join(folder, 'modules'));
  cpSync('/usr/bin/busybox', join(folder, 'bin/busybox'), { dereference: true });
  cpSync(init, join(folder, 'init'));
  chmodSync(join(folder, 'init'), 0o755);
  const order = [];
  for (const name of diskModules) {
    const needed = output(['modprobe', '-d', base, '-S', release, '--show-depends', name], { tolerate: true });
    for (const [, path] of needed.matchAll(/^insmod (\S+)/gm)) {
      const file = basename(path).replace(/\.xz$/, '');
      if (order.includes(file)) continue;
      order.push(file);
      const bytes = output(path.endsWith('.xz') ? ['xz', '-dc', path] : ['cat', path], { encoding: 'buffer' });
      writeFileSync(join(folder, 'modules', file), bytes);
    }
  }
  writeFileSync(join(folder, 'order'), order.map((file) => `${file}\n`).join(''));
  const archive = join(base, 'initrd.img');
  output(['sh', '-c', `find . | cpio -o -H newc --quiet > ${archive}`], { cwd: folder });
  return archive;
}
