/** One host of the compose lab, from the inside: what runs in each of its Docker containers. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { watch } from 'node:fs';
import { rm, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeDirectory } from '../../base/atomic-file.js';
import { packageFile } from '../../base/package.js';
import { Serial } from '../../base/serial.js';
import { DEFAULT_SUBNET_FILE } from '../../subnet/subnet-env.js';
import { type ContainerNamespace, parseSubnetFile } from '../containers.js';
import { LabError } from '../errors.js';
import { containerName } from '../names.js';
import { namespaceFolder, readIfThere } from '../namespace.js';
import { attach } from '../places.js';

const program = fileURLToPath(packageFile('dist/cli/tweed.cjs'));

/** All that the daemon needs. What the host needs besides, to make namespaces, it does not pass on. */
const daemonCapabilities = ['net_admin'];

/** A container behind the host: a network namespace, and a process that keeps it. */
interface Container extends ContainerNamespace<number> {
  readonly process: ChildProcess;
}

/**
 * Runs the daemon, makes the containers, and joins them to each other as the daemon's subnet file says, now and whenever
 * it changes. Ends when the daemon does.
 *
 * @param stop aborted: the daemon is asked to end
 * @returns the daemon's exit status
 */
export async function runDockerHost(
  containers: number,
  daemonArgs: readonly string[],
  stop: AbortSignal,
): Promise<number> {
  const made: Container[] = [];
  try {
    for (let number = 1; number <= containers; number++) made.push(await makeContainer(number));
    return await runJoined(made, startDaemon(daemonArgs), stop);
  } finally {
    for (const { process } of made) process.stdin?.end();
  }
}

async function runJoined(containers: readonly Container[], daemon: ChildProcess, stop: AbortSignal): Promise<number> {
  const ended = once(daemon, 'close') as Promise<[number | null]>;
  const end = () => daemon.kill('SIGTERM');
  stop.addEventListener('abort', end);
  let failure: unknown;
  const unwatch = await keepJoined(containers, (error) => {
    failure ??= error;
    end();
  });
  if (stop.aborted) end();
  const [status] = await ended;
  unwatch();
  stop.removeEventListener('abort', end);
  if (failure !== undefined) throw failure;
  return status ?? 1;
}

function startDaemon(args: readonly string[]): ChildProcess {
  // Root keeps those capabilities only that are in the bounding set (capabilities(7)).
  const kept = `-all,${daemonCapabilities.map((name) => `+${name}`).join(',')}`;
  const words = [`--bounding-set=${kept}`, '--inh-caps=-all', process.execPath, program, 'run', ...args];
  return spawn('setpriv', words, { stdio: ['ignore', 'inherit', 'inherit'] });
}

/**
 * Without `ip netns add`, which mounts: a container may not mount where AppArmor guards it. The namespace is found by the
 * pid of a process that lives in it, and for people by a link where `ip netns` has its names.
 */
async function makeContainer(number: number): Promise<Container> {
  const name = containerName(number);
  // It says a word once it is inside, and ends with us: its standard input ends then.
  const child = spawn('unshare', ['--net', 'sh', '-c', 'echo inside; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const inside = await Promise.race([
    once(child.stdout, 'data').then(() => true),
    once(child, 'close').then(() => false),
  ]);
  if (!inside) {
    throw new LabError(
      'LAB_CONTAINER',
      'cannot make a network namespace; start this Docker container with --cap-add SYS_ADMIN',
    );
  }
  const link = join(namespaceFolder, name);
  await makeDirectory(namespaceFolder);
  await rm(link, { force: true }); // of this host's former life
  await symlink(`/proc/${child.pid}/ns/net`, link);
  return { name, number, namespace: child.pid as number, process: child };
}

/** Joins the containers whenever the subnet file changes, and now if there is one. Returns what ends that. */
async function keepJoined(containers: readonly Container[], onFailed: (error: unknown) => void): Promise<() => void> {
  const folder = dirname(DEFAULT_SUBNET_FILE);
  await makeDirectory(folder);
  const serial = new Serial();
  const join = () =>
    serial
      .run(async () => {
        const text = await readIfThere(DEFAULT_SUBNET_FILE);
        if (text !== null) await attach(null, containers, parseSubnetFile(text));
      })
      .catch(onFailed);
  const watcher = watch(folder, join);
  watcher.on('error', onFailed);
  await join();
  return () => watcher.close();
}
