/**
 * Giving up what a process may do (capabilities(7)).
 *
 * Theory of operation. Capabilities belong to threads, and so does no_new_privs; a thread can change its own only. Node has
 * made six threads beside the main one before a program's first line runs: V8's helpers, a timer's, the one that waits for
 * SIGUSR1. What reaches those is libc's setresuid, which POSIX wants for the whole process: libc does it in each thread, and from
 * a thread that stops being root the kernel takes all capabilities. So `disarmOthers` makes all threads a user that nobody is,
 * and the calling one, which has asked to keep its capabilities on the way, root again. The others need none: they compute. They
 * cannot be given no_new_privs or a smaller bounding set, and run no program that those would keep something from. Every
 * thread that is made later has what the one has that makes it: `lowerTo` comes before the first.
 *
 * Node's pool, whose threads read and write files, must be among those. CommonJS programs (scripts/support/bundle.mjs) do not use it
 * for their own modules, but NODE_OPTIONS can make Node do so. Then, and where a process is not root or may not become
 * somebody else, there is execve(2): it ends all threads and goes on with the caller's capabilities as the ceiling of the
 * new program's. It is the same process, at the cost of Node's start once more: `lowerTo`, then `startAnew`.
 */
import fs from 'node:fs';
import { constants } from 'node:os';
import { EINVAL, F_SETFD } from './constants.js';
import { SystemCallError } from './errno.js';
import { passedOn } from './inheritance.js';
import { control } from './libc.js';

/** linux/capability.h */
export const CAPABILITIES = {
  DAC_OVERRIDE: 1,
  DAC_READ_SEARCH: 2,
  NET_BIND_SERVICE: 10,
  NET_ADMIN: 12,
  NET_RAW: 13,
  SYS_ADMIN: 21,
  PERFMON: 38,
  BPF: 39,
} as const;
export type Capability = keyof typeof CAPABILITIES;

const LINUX_CAPABILITY_VERSION_3 = 0x2008_0522;
const CAPABILITY_BITS = 64n;

// linux/prctl.h
const PR_SET_DUMPABLE = 4;
const PR_SET_KEEPCAPS = 8;
const PR_CAPBSET_DROP = 24;
const PR_SET_NO_NEW_PRIVS = 38;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_LOWER = 3;

// linux/fcntl.h
const AT_FDCWD = -100;
const AT_EACCESS = 0x200;

/**
 * A user that nobody is, of a range that is kept free (https://systemd.io/UIDS-GIDS). Not 65534: whoever runs as that could signal
 * the threads.
 */
const NO_USER = 4_000_000_000;

const SIG_DFL = 0;
const SIG_IGN = 1;

/** What a thread may do, as sets of bits. */
export interface Privileges {
  readonly inheritable: bigint;
  readonly permitted: bigint;
  readonly effective: bigint;
  readonly bounding: bigint;
  readonly ambient: bigint;
  readonly noNewPrivileges: boolean;
  /** As its real, its effective and its saved user. */
  readonly root: boolean;
}

export type PrivilegeCalls = Pick<
  typeof control,
  'prctl' | 'capset' | 'setresuid' | 'setresuidOfThread' | 'faccessat' | 'fcntl' | 'signal' | 'execve' | 'errno'
>;

export function setOf(names: readonly Capability[]): bigint {
  return names.reduce((set, name) => set | (1n << BigInt(CAPABILITIES[name])), 0n);
}

/** Reads /proc/PID/status (proc(5)). */
export function parsePrivileges(status: string): Privileges {
  const field = (name: string) => new RegExp(`^${name}:\\s*(\\w+)$`, 'm').exec(status)?.[1] ?? '0';
  const set = (name: string) => BigInt(`0x${field(name)}`);
  return {
    inheritable: set('CapInh'),
    permitted: set('CapPrm'),
    effective: set('CapEff'),
    bounding: set('CapBnd'),
    ambient: set('CapAmb'),
    noNewPrivileges: field('NoNewPrivs') === '1',
    root: /^Uid:\t0\t0\t0\t/m.test(status),
  };
}

/** Has it something beyond the set, or could it get it by running another program? */
export function exceeds(has: Privileges, kept: bigint): boolean {
  const any = has.inheritable | has.permitted | has.effective | has.bounding | has.ambient;
  return (any & ~kept) !== 0n || !has.noNewPrivileges;
}

/** Lowers what the calling thread may use now; the rest can be taken back. @throws SystemCallError */
export function useOnly(set: bigint, has: Privileges, calls: PrivilegeCalls = control): void {
  capset({ ...has, effective: has.permitted & set }, calls);
}

/** May this thread read a file, or write to it (access(2)'s R_OK and W_OK), with what it uses now? */
export function mayAccess(path: string, mode: number, calls: PrivilegeCalls = control): boolean {
  return calls.faccessat(AT_FDCWD, path, mode, AT_EACCESS) === 0;
}

/** Lowers what the calling thread, and whatever program it runs, can ever have to the set. @throws SystemCallError */
export function lowerTo(kept: bigint, has: Privileges, calls: PrivilegeCalls = control): void {
  for (let bit = 0n; bit < CAPABILITY_BITS; bit++) {
    if (((kept >> bit) & 1n) === 1n) continue;
    if (((has.ambient >> bit) & 1n) === 1n) calls.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, Number(bit), 0, 0);
    // without CAP_SETPCAP it stays in the bounding set, but no_new_privs keeps every program from getting it
    if (calls.prctl(PR_CAPBSET_DROP, Number(bit), 0, 0, 0) < 0 && calls.errno() === EINVAL) break; // the kernel knows no more
  }
  if (calls.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
    throw new SystemCallError('prctl(PR_SET_NO_NEW_PRIVS)', calls.errno(), 'start with -drop-privileges=false');
  }
  const { inheritable, permitted } = has;
  capset({ inheritable: inheritable & kept, permitted: permitted & kept, effective: permitted & kept }, calls);
}

/**
 * Leaves all threads but the calling one without capabilities.
 *
 * @returns false when that cannot be had this way; then nothing has changed
 * @throws SystemCallError
 */
export function disarmOthers(has: Privileges, calls: PrivilegeCalls = control): boolean {
  // what is inheritable would stay with the others, what is ambient would go from this one
  if (!has.root || has.inheritable !== 0n || has.ambient !== 0n) return false;
  if (calls.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) return false;
  const left = calls.setresuid(NO_USER, NO_USER, NO_USER) === 0; // not without CAP_SETUID, nor where no such user is mapped
  if (left) {
    useOnly(has.permitted, has, calls); // kept were those that it may use, not those that it uses
    if (calls.setresuidOfThread(0, 0, 0) < 0) {
      throw new SystemCallError('setresuid', calls.errno(), 'start with -drop-privileges=false');
    }
  }
  calls.prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
  return left;
}

/** Has no thread of this process any capability but the main one? */
export function othersDisarmed(): boolean {
  const others = fs.readdirSync('/proc/self/task').filter((thread) => Number(thread) !== process.pid);
  return others.every((thread) => {
    const { inheritable, permitted, effective, ambient } = readPrivileges(`/proc/self/task/${thread}/status`);
    return (inheritable | permitted | effective | ambient) === 0n;
  });
}

/** Does a thread of Node's pool have what the set has? Makes the pool where there is none. */
export function poolHas(set: bigint): Promise<boolean> {
  return new Promise((resolve) => {
    fs.readFile('/proc/thread-self/status', 'utf8', (error, status) =>
      resolve(error === null && parsePrivileges(status).effective === set),
    );
  });
}

/** @param file /proc/…/status of a thread */
export function readPrivileges(file = '/proc/self/status'): Privileges {
  return parsePrivileges(fs.readFileSync(file, 'utf8'));
}

/** struct __user_cap_data_struct: effective, permitted, inheritable; the lower 32 bits of each, then the upper. */
function capset(
  { effective, permitted, inheritable }: Pick<Privileges, 'effective' | 'permitted' | 'inheritable'>,
  calls: PrivilegeCalls,
): void {
  const header = new Uint8Array(8);
  new DataView(header.buffer).setUint32(0, LINUX_CAPABILITY_VERSION_3, true);
  const data = new Uint8Array(24);
  const view = new DataView(data.buffer);
  for (const [i, set] of [effective, permitted, inheritable].entries()) {
    view.setUint32(i * 4, Number(set & 0xffff_ffffn), true);
    view.setUint32(12 + i * 4, Number(set >> 32n), true);
  }
  if (calls.capset(header, data) < 0) {
    throw new SystemCallError('capset', calls.errno(), 'start with -drop-privileges=false');
  }
}

/**
 * Runs this program again in place of itself: same process id, same arguments, all threads new. On the way SIGUSR1 is
 * ignored, until Node holds it back (bin/tweed does the same); SIGTERM and SIGINT end the process, and one that has come but
 * was not told to its handler yet is told before.
 *
 * @param environment what is to be added to it
 * @throws SystemCallError; else it does not return
 */
export async function startAnew(
  environment: Readonly<Record<string, string>>,
  calls: PrivilegeCalls = control,
): Promise<never> {
  for (const fd of [0, 1, 2, ...passedOn(process.env)]) calls.fcntl(fd, F_SETFD, 0); // Node lets them close
  const { SIGUSR1, SIGTERM, SIGINT } = constants.signals;
  calls.signal(SIGUSR1, SIG_IGN);
  for (const signal of [SIGTERM, SIGINT]) calls.signal(signal, SIG_DFL);
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve))); // a turn of the event loop from its start
  const variables = Object.entries({ ...process.env, ...environment }).map(([name, value]) => `${name}=${value}`);
  const argv = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  calls.execve(process.execPath, [...argv, null], [...variables, null]);
  throw new SystemCallError(`execve ${process.execPath}`, calls.errno(), 'start with -drop-privileges=false');
}

/** No core file, and nobody of the same user may look into the process's memory (ptrace(2)). For the whole process. */
export function protectMemory(calls: PrivilegeCalls = control): void {
  calls.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}
