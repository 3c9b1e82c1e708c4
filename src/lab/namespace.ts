import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ExecOptions, type ExecResult, exec as execOnce } from '../base/exec.js';
import { patient } from './patience.js';

/** `exec` with the patience of this machine. */
function exec(argv: readonly string[], options?: ExecOptions): Promise<ExecResult> {
  return execOnce(argv, { timeoutMs: patient(30_000), ...options });
}

// Where `ip netns` keeps one mount for each named namespace.
export const namespaceFolder = '/run/netns';

/** A network namespace: its name for `ip netns`, the pid of a process that lives in it, or null for our own. */
export type Namespace = string | number | null;

/** The names of all network namespaces that `ip netns` knows. */
export async function listNamespaces(): Promise<string[]> {
  try {
    return await readdir(namespaceFolder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []; // no namespace was ever made on this machine
    throw error;
  }
}

export async function createNamespaces(names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  await exec(['ip', '-batch', '-'], { input: names.map((name) => `netns add ${name}\n`).join('') });
}

/**
 * Do new namespaces have IPv6? A kernel without it has not the switch, and a machine may have it switched off for all that is
 * new, in ways of its own (`ipv6.disable_ipv6=1`, `net.core.devconf_inherit_init_net`): so one is made, and looked at.
 */
export async function haveIpv6(): Promise<boolean> {
  const argv = ['unshare', '--net', 'cat', '/proc/sys/net/ipv6/conf/default/disable_ipv6'];
  const { status, stdout } = await exec(argv, { tolerate: true });
  return status === 0 && stdout.trim() === '0';
}

/** Gives a namespace one more name, under which it is entered and deleted as any other: a mount, as those of `ip netns` are. */
export async function shareNamespace(existing: string, name: string): Promise<void> {
  const path = join(namespaceFolder, name);
  await writeFile(path, '', { flag: 'wx' });
  await exec(['mount', '--bind', join(namespaceFolder, existing), path]);
}

/** Deletes them; those that are already gone are passed over. */
export async function deleteNamespaces(names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  const input = names.map((name) => `netns delete ${name}\n`).join('');
  await exec(['ip', '-force', '-batch', '-'], { input, tolerate: true });
}

/** The words that start a program inside a namespace. The program replaces `ip`, so its pid is that of the child. */
export function inside(namespace: Namespace, argv: readonly string[]): string[] {
  if (namespace === null) return [...argv];
  if (typeof namespace === 'number') return ['nsenter', `--net=/proc/${namespace}/ns/net`, ...argv];
  return ['ip', 'netns', 'exec', namespace, ...argv];
}

/** Runs a program inside a namespace and waits for its end, as `exec` does. */
export function execInside(namespace: string, argv: readonly string[], options?: ExecOptions): Promise<ExecResult> {
  return exec(inside(namespace, argv), options);
}

/** Starts a program inside a namespace. */
export function spawnInside(namespace: string, argv: readonly string[], options: SpawnOptions): ChildProcess {
  const [program, ...args] = inside(namespace, argv);
  return spawn(program, args, options);
}

/** Runs many `ip` commands inside a namespace, in one process; the first that fails ends it. */
export async function ipInside(namespace: Namespace, lines: readonly string[]): Promise<void> {
  await exec([...ipCommand(namespace), '-batch', '-'], { input: lines.map((line) => `${line}\n`).join('') });
}

/** The words that make `ip` work in a namespace. */
export function ipCommand(namespace: Namespace): string[] {
  return typeof namespace === 'string' ? ['ip', '-n', namespace] : inside(namespace, ['ip']);
}

/**
 * Writes one value to switches of /proc/sys/net inside a namespace.
 *
 * @param switches paths below /proc/sys/net, such as `ipv4/ip_forward`.
 */
export async function setSysctls(namespace: string, value: string, switches: readonly string[]): Promise<void> {
  const paths = switches.map((path) => `/proc/sys/net/${path}`);
  await execInside(namespace, ['tee', ...paths], { input: value });
}

/** The pids of all processes that live in these namespaces, or are just being started in one of them. */
export async function processesInside(names: readonly string[]): Promise<number[]> {
  const inodes = new Set<number>();
  for (const name of names) {
    try {
      inodes.add((await stat(join(namespaceFolder, name))).ino);
    } catch {} // gone meanwhile: it has no processes
  }
  const found: number[] = [];
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const inode = (await stat(`/proc/${entry}/ns/net`)).ino;
      if (inodes.has(inode) || names.includes(await entering(entry))) found.push(Number(entry));
    } catch {} // ended meanwhile, or a zombie, which has no namespace any more
  }
  return found;
}

/** The namespace that an `ip netns exec` is about to enter; empty for any other process. */
async function entering(pid: string): Promise<string> {
  const [program = '', ...words] = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0');
  const isEntering = /(^|\/)ip$/.test(program) && words[0] === 'netns' && words[1] === 'exec';
  return isEntering ? (words[2] ?? '') : '';
}

/** Reads a small file of the machine; null when it is not there. */
export async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
