import { readdir, readFile } from 'node:fs/promises';
import os from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { exec } from '../../src/base/exec.js';
import { machineTime } from './cpu.js';
import { project } from './paths.js';
import type { Machine } from './results.js';

const MITIGATIONS = '/sys/devices/system/cpu/vulnerabilities';
/** What changes how fast packets move, of the machine as a whole. */
const SYSCTLS = [
  'net/core/rmem_max',
  'net/core/wmem_max',
  'net/core/netdev_max_backlog',
  'net/ipv4/tcp_congestion_control',
];

/** Everything about this machine that a reader needs in order to judge the numbers. */
export async function describeMachine(): Promise<Machine> {
  const [cpu] = os.cpus();
  const { version } = JSON.parse(await readFile(join(project, 'package.json'), 'utf8')) as { version: string };
  return {
    kernel: `${os.type()} ${os.release()} ${os.version()} ${os.machine()}`,
    cpuModel: cpu?.model ?? '',
    cpus: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    hypervisor: await firstLine(['systemd-detect-virt', '--vm']), // not the container, which it names first otherwise
    node: process.version,
    tweed: version,
    commit: await firstLine(['git', '-C', project, 'describe', '--always', '--dirty', '--abbrev=12']),
    iperf3: await firstLine(['iperf3', '--version']),
    mitigations: await readMitigations(),
    sysctls: Object.fromEntries(
      await Promise.all(SYSCTLS.map(async (path) => [path.replaceAll('/', '.'), await readWord(`/proc/sys/${path}`)])),
    ),
  };
}

/** The first line that a program prints; empty when it is not there or fails. */
async function firstLine(argv: readonly string[]): Promise<string> {
  try {
    const { stdout } = await exec(argv, { tolerate: true });
    return stdout.split('\n')[0]?.trim() ?? '';
  } catch {
    return '';
  }
}

async function readMitigations(): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  let names: string[] = [];
  try {
    names = await readdir(MITIGATIONS);
  } catch {} // this kernel does not tell
  for (const name of names.sort()) {
    const state = await readWord(join(MITIGATIONS, name));
    if (state !== 'Not affected') found[name] = state;
  }
  return found;
}

async function readWord(path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch {
    return '';
  }
}

/** How many CPUs are busy right now, while we do nothing: what others take. */
export async function busyCpus(milliseconds: number): Promise<number> {
  const before = await machineTime();
  const started = performance.now();
  await delay(milliseconds);
  const after = await machineTime();
  return ((after.busy - before.busy) * 1000) / (performance.now() - started);
}
