import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { exec } from '../../src/base/exec.js';

/** Where `ip netns` keeps one mount for each named namespace. */
const FOLDER = '/run/netns';

/** All namespaces whose name starts so. */
export async function listNamespaces(prefix: string): Promise<string[]> {
  try {
    return (await readdir(FOLDER)).filter((name) => name.startsWith(prefix));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []; // none was ever made on this machine
    throw error;
  }
}

export async function createNamespaces(names: readonly string[]): Promise<void> {
  await exec(['ip', '-batch', '-'], { input: names.map((name) => `netns add ${name}\n`).join('') });
}

/** Ends the processes in these namespaces and deletes them. Those that are gone already are passed over. */
export async function deleteNamespaces(names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  for (const pid of await processesInside(names)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {} // it ended by itself
  }
  await exec(['ip', '-force', '-batch', '-'], {
    input: names.map((name) => `netns delete ${name}\n`).join(''),
    tolerate: true,
  });
}

/** The words that start a program inside a namespace. The program replaces `ip`, so its pid is that of the child. */
export function inside(namespace: string, argv: readonly string[]): string[] {
  return ['ip', 'netns', 'exec', namespace, ...argv];
}

export function spawnInside(namespace: string, argv: readonly string[], options: SpawnOptions): ChildProcess {
  const [program, ...args] = inside(namespace, argv) as [string, ...string[]];
  return spawn(program, args, options);
}

/** Runs many `ip` commands inside a namespace, in one process; the first that fails ends it. */
export async function ipInside(namespace: string, lines: readonly string[]): Promise<void> {
  await exec(['ip', '-n', namespace, '-batch', '-'], { input: lines.map((line) => `${line}\n`).join('') });
}

/** Writes one value to switches of /proc/sys/net inside a namespace: paths such as `ipv4/ip_forward`. */
export async function setSysctls(namespace: string, value: string, switches: readonly string[]): Promise<void> {
  const paths = switches.map((path) => `/proc/sys/net/${path}`);
  await exec(inside(namespace, ['tee', ...paths]), { input: value });
}

async function processesInside(names: readonly string[]): Promise<number[]> {
  const inodes = new Set<number>();
  for (const name of names) {
    try {
      inodes.add((await stat(join(FOLDER, name))).ino);
    } catch {} // gone meanwhile: it has no processes
  }
  const found: number[] = [];
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      if (inodes.has((await stat(`/proc/${entry}/ns/net`)).ino)) found.push(Number(entry));
    } catch {} // ended meanwhile, or a zombie, which has no namespace any more
  }
  return found;
}

/** Bytes and packets that an interface of a namespace has received and sent. */
export async function linkCounters(namespace: string, link: string): Promise<LinkCounters> {
  const { stdout } = await exec(['ip', '-n', namespace, '-json', '-statistics', 'link', 'show', 'dev', link]);
  const [{ stats64 }] = JSON.parse(stdout) as [
    { stats64: Record<'rx' | 'tx', { bytes: number; packets: number; dropped: number }> },
  ];
  return {
    rxBytes: stats64.rx.bytes,
    rxPackets: stats64.rx.packets,
    txBytes: stats64.tx.bytes,
    txPackets: stats64.tx.packets,
    txDropped: stats64.tx.dropped,
  };
}

export interface LinkCounters {
  readonly rxBytes: number;
  readonly rxPackets: number;
  readonly txBytes: number;
  readonly txPackets: number;
  readonly txDropped: number;
}

/** The counters of one protocol in /proc/net/snmp, as a process in the namespace sees it. */
export async function snmpCounters(pid: number, protocol: string): Promise<Record<string, number>> {
  const text = await readFile(`/proc/${pid}/net/snmp`, 'utf8');
  const [names, values] = text
    .split('\n')
    .filter((line) => line.startsWith(`${protocol}: `))
    .map((line) => line.split(' ').slice(1));
  return Object.fromEntries((names ?? []).map((name, i) => [name, Number(values?.[i])]));
}
