// The root of the guest: programs of Debian 12 that are unpacked and not installed, Node, and the built checkout, as the
// image of a disk. No script of a package runs, nothing is mounted and no rights are needed.
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ensureNode } from '../nodes.mjs';
import { npm, project, run, SetupError } from '../run.mjs';
import { unpack } from './debian-archive.mjs';
import { output } from './output.mjs';

export const rootSuites = ['bookworm', 'bookworm-security'];
const basics = [
  'bash',
  'dash',
  'coreutils',
  'util-linux',
  'mount',
  'grep',
  'sed',
  'hostname',
  'kmod',
  'procps',
  'netbase',
];
const network = ['iproute2', 'iptables', 'nftables', 'iputils-ping', 'tcpdump', 'ethtool', 'iperf3', 'wireguard-tools'];
const others = ['etcd-server', 'etcd-client', 'openssl', 'busybox-static', 'libstdc++6', 'libatomic1'];
const unneeded = ['doc', 'man', 'locale', 'info', 'lintian', 'bash-completion', 'zoneinfo', 'i18n', 'perl'];

/** Names that Debian's own scripts would link. */
const links = ['iptables', 'iptables-save', 'iptables-restore', 'ip6tables', 'ip6tables-save', 'ip6tables-restore'];

/** The newest Node that is an npm package for it and that the project supports. */
const nodeForArm64 = '22';

/** @param {import('./debian-archive.mjs').DebianArchive} archive of `rootSuites` */
export function unpackSystem(root, archive) {
  for (const name of ['bin', 'sbin', 'lib']) {
    mkdirSync(join(root, 'usr', name), { recursive: true });
    symlinkSync(`usr/${name}`, join(root, name));
  }
  mkdirSync(join(root, 'usr/lib64'));
  symlinkSync('usr/lib64', join(root, 'lib64'));
  const excluded = unneeded.map((name) => `./usr/share/${name}`);
  for (const deb of archive.fetch([...basics, ...network, ...others])) unpack(deb, root, excluded);
  for (const name of links) symlinkSync(name.replace('tables', 'tables-nft'), join(root, 'usr/sbin', name));
  for (const name of ['proc', 'sys', 'dev', 'run', 'tmp', 'results', 'root', 'opt', 'usr/lib/modules']) {
    mkdirSync(join(root, name), { recursive: true });
  }
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/bash\n');
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\n');
  writeFileSync(join(root, 'etc/hosts'), '127.0.0.1 localhost\n');
}

/** Copies the Node of this process with what it is linked to, or one for the other architecture. */
export async function copyNode(root, architecture) {
  if (architecture === 'arm64') {
    cpSync(await ensureNode(nodeForArm64, 'arm64'), join(root, 'usr/bin/node'));
    return;
  }
  cpSync(process.execPath, join(root, 'usr/bin/node'), { dereference: true });
  for (const [, path] of output(['ldd', process.execPath]).matchAll(/(\/\S+) \(0x/g)) {
    const target = join(root, path);
    if (existsSync(target)) continue;
    mkdirSync(dirname(target), { recursive: true });
    cpSync(path, target, { dereference: true });
  }
}

const copied = ['.ci', 'bench', 'bin', 'dist', 'docs', 'packaging', 'scripts', 'src', 'test'];
const copiedFiles = ['package-lock.json', 'package.json', 'tsconfig.json', 'tsconfig.test.json', 'vitest.config.ts'];
/** Large, and no test in the guest looks at them. */
const unneededModules = ['@biomejs', '@observablehq', 'assemblyscript', 'binaryen', 'dependency-cruiser', 'typescript'];

/** Copies the built checkout to /opt/tweed of the guest, with the node packages of its architecture. */
export async function copyCheckout(root, architecture) {
  const target = join(root, 'opt/tweed');
  mkdirSync(target);
  for (const name of [...copied, ...copiedFiles]) {
    cpSync(join(project, name), join(target, name), { recursive: true, preserveTimestamps: true });
  }
  if (architecture === 'arm64') {
    const words = ['ci', '--ignore-scripts', '--cpu=arm64', '--os=linux', '--libc=glibc', '--no-audit', '--no-fund'];
    const status = await run(npm(...words, '--loglevel=error'), { cwd: target });
    if (status !== 0) throw new SetupError('npm ci for arm64 failed; its messages are above');
  } else {
    const modules = realpathSync(join(project, 'node_modules'));
    cpSync(modules, join(target, 'node_modules'), { recursive: true, verbatimSymlinks: true });
  }
  for (const name of unneededModules) rmSync(join(target, 'node_modules', name), { recursive: true, force: true });
  // mke2fs keeps whole seconds only, by which the tests would take the build for an older one.
  const stamp = await import(pathToFileURL(join(target, 'scripts/support/build-stamp.mjs')).href);
  for (const path of Object.keys(stamp.listSources())) {
    const seconds = Math.floor(statSync(join(target, path)).mtimeMs / 1000);
    utimesSync(join(target, path), seconds, seconds);
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

/** @returns {string} the path of the image */
export function makeImage(root) {
  const image = `${root}.img`;
  const kibibytes = Number(output(['du', '-sk', root]).split('\t')[0]);
  const size = `${Math.ceil((kibibytes * 1.25) / 1024) + 256}M`;
  output(['mke2fs', '-q', '-t', 'ext4', '-d', root, image, size]);
  return image;
}
