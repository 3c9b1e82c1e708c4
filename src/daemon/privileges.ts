/** What the daemon keeps of root's privileges. */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Logger } from '../base/log.js';
import { kernelRelease, parseRelease } from '../linux/kernel-quirks.js';
import { control } from '../linux/libc.js';
import {
  CAPABILITIES,
  type Capability,
  disarmOthers,
  exceeds,
  lowerTo,
  mayAccess,
  othersDisarmed,
  type PrivilegeCalls,
  type Privileges,
  poolHas,
  protectMemory,
  readPrivileges,
  setOf,
  startAnew,
  useOnly,
} from '../linux/privileges.js';
import type { DaemonOptions } from './options.js';

/**
 * Devices, addresses, routes, rules and large socket buffers; iptables; a port below 1024, which the network configuration
 * may name.
 */
const NEEDED: readonly Capability[] = ['NET_ADMIN', 'NET_RAW', 'NET_BIND_SERVICE'];

/**
 * Of a kernel path. Without CAP_PERFMON the verifier forbids its programs the arithmetic of pointers, and to read what connection
 * tracking knows of a packet. Before Linux 6.6 a program comes to its device by a mounted bpffs, and before 5.8 both were part
 * of CAP_SYS_ADMIN.
 */
function neededByKernelPath(release: string): readonly Capability[] {
  const [major, minor] = parseRelease(release);
  return major > 6 || (major === 6 && minor >= 6) ? ['BPF', 'PERFMON'] : ['BPF', 'PERFMON', 'SYS_ADMIN'];
}

/** What the daemon will do that takes privileges. */
export interface Needs {
  readonly read: readonly string[];
  readonly written: readonly string[];
  readonly also: readonly Capability[];
}

/** Set for the second start, which must not lead to a third. */
const MARK = 'TWEED_STARTED_ANEW';

/**
 * Gives up what is not needed, unless the service manager has seen to that. Before anything has been read or written through
 * Node's pool. Where it takes a new start of this program, under the same process id, this does not return the first time.
 *
 * @param read files that will be read later
 * @param written directories that will be written to, or that will be made
 * @param also what the options need besides
 * @throws SystemCallError
 */
export async function dropPrivileges(
  { read, written, also }: Needs,
  calls: PrivilegeCalls = control,
  has: Privileges = readPrivileges(),
): Promise<void> {
  const again = process.env[MARK] !== undefined;
  delete process.env[MARK];
  if (again || !exceeds(has, setOf([...NEEDED, ...also]))) return protectMemory(calls);
  useOnly(setOf(NEEDED), has, calls);
  const kept = [...NEEDED, ...also];
  // Root has to ask for what is not root's: a checkout in somebody's home, a key of etcd's own user.
  if (!read.every((file) => mayAccess(file, fs.constants.R_OK, calls))) kept.push('DAC_READ_SEARCH');
  if (!written.every((place) => mayAccess(existing(place), fs.constants.W_OK, calls))) kept.push('DAC_OVERRIDE');
  useOnly(has.effective, has, calls);
  const set = setOf(kept);
  if (!exceeds(has, set)) return protectMemory(calls);
  const alone = disarmOthers(has, calls);
  lowerTo(set, has, calls);
  if (alone && othersDisarmed() && (await poolHas(set & has.permitted))) return protectMemory(calls);
  await startAnew({ [MARK]: '1' }, calls);
}

/** One line about what the process may do. */
export function logPrivileges(log: Logger, has: Privileges = readPrivileges()): void {
  const named = Object.entries(CAPABILITIES).filter(([, bit]) => (has.effective >> BigInt(bit)) & 1n);
  const others = has.effective & ~setOf(Object.keys(CAPABILITIES) as Capability[]);
  const capabilities = named.map(([name]) => name);
  log.info({ capabilities, others: others !== 0n, noNewPrivileges: has.noNewPrivileges }, 'privileges');
}

/** What the options name, and what they ask for. */
export function needsOf(options: DaemonOptions, release = kernelRelease()): Needs {
  const { keyFile, certFile, caFile, endpoints } = options.registry;
  const directories = endpoints.filter((each) => each.startsWith('file://')).map((each) => fileURLToPath(each));
  return {
    read: [
      ...[process.execPath, process.argv[1] ?? '', keyFile ?? '', certFile ?? '', caFile ?? ''],
      options.wireguard.keyFile,
    ].filter((file) => file !== '' && fs.existsSync(file)),
    written: [
      options.runDirectory,
      ...[options.subnetFile, options.wireguard.keyFile].map((file) => path.dirname(file)),
      options.wireguard.socketDirectory,
      ...directories,
    ],
    also: options.udp.kernelPath === 'off' ? [] : neededByKernelPath(release),
  };
}

/** The directory, or the nearest one above it that is there. */
function existing(directory: string): string {
  let place = directory;
  while (!fs.existsSync(place) && place !== path.dirname(place)) place = path.dirname(place);
  return place;
}
