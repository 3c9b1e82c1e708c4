import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { LabError } from './errors.js';
import { isCheckout } from './hints.js';

/** Folders that hold ip and iptables but are not in every user's PATH. */
const systemFolders = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

export async function isInstalled(program: string): Promise<boolean> {
  const folders = [...(process.env.PATH ?? '').split(delimiter), ...systemFolders];
  for (const folder of folders) {
    try {
      await access(join(folder, program), constants.X_OK);
      return true;
    } catch {} // not in this one
  }
  return false;
}

/** Debian's names of the packages that the lab's programs are in; other distributions' are mostly alike. */
const packageOf: Readonly<Record<string, string>> = {
  etcd: 'etcd-server',
  ip: 'iproute2',
  'iptables-save': 'iptables',
  ping: 'iputils-ping',
  tee: 'coreutils',
  unshare: 'util-linux',
};

/** What is missing, and how it is had: a checkout's script installs it, a package's dependencies leave some of it out. */
export function notInstalled(programs: readonly string[], bySelf = isCheckout()): string {
  const packages = [...new Set(programs.map((program) => packageOf[program] ?? program))].join(' ');
  const script = bySelf ? ', or run `npm run lab`, which does' : '';
  return `not installed: ${programs.join(', ')}; install them (Debian: apt-get install ${packages})${script}`;
}

/** @throws LabError that names every program that is missing. */
export async function requirePrograms(programs: readonly string[]): Promise<void> {
  const missing: string[] = [];
  for (const program of programs) if (!(await isInstalled(program))) missing.push(program);
  if (missing.length > 0) throw new LabError('LAB_TOOLS', notInstalled(missing));
}

export function requireRoot(): void {
  if (process.getuid?.() !== 0) {
    throw new LabError('LAB_ROOT', 'network namespaces need root; run the command again with sudo');
  }
}
