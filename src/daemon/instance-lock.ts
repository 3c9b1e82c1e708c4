import fs from 'node:fs';
import path from 'node:path';
import { messageOf, TweedError } from '../base/errors.js';
import { EWOULDBLOCK, LOCK_EX, LOCK_NB } from '../linux/constants.js';
import { SystemCallError } from '../linux/errno.js';
import { control } from '../linux/libc.js';

/** Where the locks are: one place for all daemons of a host, whatever their options say, that only root can write to. */
export const LOCK_DIRECTORY = '/run/tweed';

/** Another daemon has what only one can have. */
export class AlreadyRunningError extends TweedError {
  constructor(name: string, holder: string) {
    super(
      'ALREADY_RUNNING',
      `another tweed${holder} already serves the ${name} in this network namespace; stop it first, or give each daemon its own network (-etcd-prefix) and device (-device)`,
    );
  }
}

/** The lock could not even be tried. */
export class LockError extends TweedError {
  constructor(file: string, reason: string, options?: ErrorOptions) {
    super('LOCK_FAILED', `cannot lock ${file}: ${reason}; run as root, with ${path.dirname(file)} writable`, options);
  }
}

export interface InstanceLock {
  release(): void;
}

/**
 * Makes sure that one daemon at most serves something of this network namespace: `device flannel0`, or `network
 * 10.5.0.0/16`.
 *
 * The lock is flock(2) on a file of root's, named by the network namespace, which vanishes with the process however it
 * ends. Nobody else can take it, and nobody can keep its holder from giving it back.
 *
 * @throws AlreadyRunningError, LockError
 */
export function lockInstance(name: string, directory = LOCK_DIRECTORY): InstanceLock {
  const namespace = fs.statSync('/proc/self/ns/net').ino;
  const file = path.join(directory, `${name.replaceAll(/[^\w.-]/g, '-')}.${namespace}.lock`);
  for (;;) {
    const fd = openLock(file);
    try {
      if (control.flock(fd, LOCK_EX | LOCK_NB) < 0) {
        const errno = control.errno();
        if (errno !== EWOULDBLOCK) throw new SystemCallError(`flock ${file}`, errno, 'look at the file system');
        throw new AlreadyRunningError(name, holderOf(fd));
      }
      // its holder removes the file: what was locked may be gone by now, and another file be there for others to lock
      if (fs.fstatSync(fd).ino !== fs.statSync(file, { throwIfNoEntry: false })?.ino) {
        fs.closeSync(fd);
        continue;
      }
      fs.ftruncateSync(fd);
      fs.writeSync(fd, `${process.pid}\n`, 0);
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
    return {
      release: () => {
        fs.rmSync(file, { force: true });
        fs.closeSync(fd);
      },
    };
  }
}

function openLock(file: string): number {
  const { O_RDWR, O_CREAT, O_NOFOLLOW } = fs.constants;
  try {
    const directory = path.dirname(file);
    if (!fs.existsSync(directory)) fs.mkdirSync(directory, { mode: 0o755 });
    return fs.openSync(file, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
  } catch (error) {
    throw new LockError(file, messageOf(error), { cause: error });
  }
}

/** ` (process 123)`, or nothing when the holder has not written it yet. */
function holderOf(fd: number): string {
  const text = Buffer.alloc(16);
  const length = fs.readSync(fd, text, 0, text.length, 0);
  const holder = text.toString('latin1', 0, length).trim();
  return /^\d+$/.test(holder) ? ` (process ${holder})` : '';
}
