import { stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { makeDirectory } from '../base/atomic-file.js';
import { packageFile } from '../base/package.js';
import type { DaemonStatus } from '../observe/status.js';
import { fetchStatus } from '../operator/status-client.js';
import { type HostSubnet, parseSubnetFile } from './containers.js';
import { LabDaemonError, LabError, LabTimeoutError } from './errors.js';
import { namespaceOf } from './names.js';
import { readIfThere } from './namespace.js';
import type { LabOptions } from './options.js';
import { patient } from './patience.js';
import { isAlive, livePid, startDetached } from './process.js';
import { registryEndpoint } from './registry.js';
import type { HostState, LabFiles } from './state.js';
import { waitFor } from './wait.js';

/** The built command, also when this file itself runs from its source. */
const program = fileURLToPath(packageFile('dist/cli/tweed.cjs'));

/** A daemon that has no subnet by then does not get one by waiting. */
const patienceMs = 20_000;

/** The words that run a host's daemon: flanneld's own options, and a run directory for each host. */
export function daemonCommand(options: LabOptions, files: LabFiles, host: HostState): string[] {
  const own = options.daemonCommand.length === 0;
  return [
    ...(own
      ? [process.execPath, program, 'run', ...ownFolders(options, files.runFolder(host.name))]
      : options.daemonCommand),
    ...['--etcd-endpoints', registryEndpoint(options, files), '--iface', 'eth0'],
    ...['--subnet-file', files.subnetFile(host.name), '--ip-masq'],
    ...(host.daemonArgs ?? options.daemonArgs),
  ];
}

/** What hosts would otherwise share, since the lab gives them networks of their own but no file systems. */
function ownFolders({ backend }: LabOptions, folder: string): string[] {
  const words = ['--run-dir', folder];
  if (backend !== 'wireguard') return words;
  return [...words, '--wireguard-key-file', `${folder}/wgkey`, '--wireguard-socket-dir', `${folder}/wireguard`];
}

/** Starts the daemon of a host unless it is running, and waits until it has written its subnet file anew. */
export async function startDaemon(
  options: LabOptions,
  files: LabFiles,
  host: HostState,
  signal?: AbortSignal,
): Promise<void> {
  const recordPath = files.record(host.name);
  if ((await livePid(recordPath)) !== null) return;
  await makeDirectory(files.runFolder(host.name));
  const before = await stampOf(files.subnetFile(host.name));
  const namespace = namespaceOf(options.name, { kind: 'host', host: host.name });
  const argv = daemonCommand(options, files, host);
  const record = await startDetached(namespace, argv, files.log(host.name), recordPath);
  const written = async () => {
    if ((await stampOf(files.subnetFile(host.name))) !== before) return true;
    if (await isAlive(record)) return false;
    throw new LabDaemonError(host.name, 'ended', await tailOf(files.log(host.name)));
  };
  try {
    await waitFor('its subnet file', written, { timeoutMs: patienceMs, signal });
  } catch (error) {
    if (!(error instanceof LabTimeoutError)) throw error;
    const told = `wrote no subnet file in ${patient(patienceMs) / 1000} s`;
    throw new LabDaemonError(host.name, told, await tailOf(files.log(host.name)));
  }
}

/** Inode and time of the last change: a file that is replaced atomically has another inode each time. */
async function stampOf(path: string): Promise<string> {
  try {
    const { ino, mtimeMs } = await stat(path);
    return `${ino} ${mtimeMs}`;
  } catch {
    return 'none';
  }
}

/** The path of a log with its last lines, for the end of an error. */
export async function tailOf(path: string): Promise<string> {
  const text = ((await readIfThere(path)) ?? '').trimEnd();
  if (text === '') return `${path}, which is empty: it did not get as far as its first line`;
  return `${path}, which ends with:\n${text.split('\n').slice(-5).join('\n')}`;
}

export async function readSubnet(files: LabFiles, host: string): Promise<HostSubnet> {
  const path = files.subnetFile(host);
  const text = await readIfThere(path);
  if (text === null) {
    throw new LabError(
      'LAB_SUBNET_FILE',
      `${path} is not there; is the daemon of ${host} up? See \`tweed lab status\``,
    );
  }
  return parseSubnetFile(text);
}

/** What the daemon of a host says of itself; null when none answers. */
export async function daemonStatus(files: LabFiles, host: string): Promise<DaemonStatus | null> {
  try {
    return await fetchStatus(files.runFolder(host));
  } catch {
    return null;
  }
}
