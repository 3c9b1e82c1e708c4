// A kernel of Debian's archive, and the initial RAM disk that leads it to the guest's disk.
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { SetupError } from '../run.mjs';
import { unpack } from './debian-archive.mjs';
import { output } from './output.mjs';

/**
 * @typedef {object} Kernel one of test/kernels/kernels.json
 * @property {string} name
 * @property {string} branch such as `6.1`
 * @property {'amd64' | 'arm64'} architecture
 * @property {string} package Debian's package that leads to the newest kernel of the branch
 * @property {string[]} suites where that package is looked for
 * @property {string} what whose kernel it is
 *
 * @typedef {object} Unpacked
 * @property {string} image the path of the kernel
 * @property {string} modules the folder lib/modules/RELEASE
 * @property {string} version the stable release, such as `6.1.192`
 */

/**
 * Fetches the newest kernel of the branch and unpacks it into `folder`.
 *
 * @param {Kernel} kernel
 * @param {import('./debian-archive.mjs').DebianArchive} archive
 * @returns {Unpacked}
 */
export function unpackKernel({ branch, package: meta, suites }, archive, folder) {
  const version = archive.versions(meta).findLast((one) => one.startsWith(`${branch}.`));
  if (version === undefined) throw new SetupError(`${suites.join(' and ')} have no ${meta} ${branch}`);
  mkdirSync(folder);
  // Image and modules can be packages of their own; all have the release in their name.
  for (const deb of archive.fetch([`${meta}=${version}`], /^linux-[a-z]+-\d/)) unpack(deb, folder);
  // Since Debian 13 packages name the folder where it really is, and depmod looks in /lib.
  if (!existsSync(join(folder, 'lib'))) renameSync(join(folder, 'usr/lib'), join(folder, 'lib'));
  const [release = ''] = readdirSync(join(folder, 'lib/modules'));
  output(['depmod', '-b', folder, release]);
  const modules = join(folder, 'lib/modules', release);
  const image = [join(folder, 'boot', `vmlinuz-${release}`), join(modules, 'vmlinuz')].find((path) => existsSync(path));
  if (image === undefined)
    throw new SetupError(`${meta} ${version} brought no kernel; see where its packages keep it now`);
  return { image, modules, version: version.replace(/-.*/, '') };
}

/** What leads to the disk, whichever of it are modules. */
const diskModules = ['virtio_pci', 'virtio_blk', 'ext4', 'crc32c_generic'];

/**
 * Makes an initial RAM disk: busybox, the disk's modules, and an init that goes on with the disk's own.
 *
 * @param {Unpacked} kernel
 * @param {{ init: string, busybox: string }} files the script, and a static busybox of the guest's architecture
 * @returns {string} its path
 */
export function makeInitrd({ modules }, { init, busybox }) {
  const release = basename(modules);
  const base = join(modules, '../../..');
  const folder = join(base, 'initrd');
  mkdirSync(join(folder, 'bin'), { recursive: true });
  mkdirSync(join(folder, 'modules'));
  cpSync(busybox, join(folder, 'bin/busybox'), { dereference: true });
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
  output(['sh', '-c', `find . | cpio -o -H newc --quiet > "${archive}"`], { cwd: folder });
  return archive;
}
