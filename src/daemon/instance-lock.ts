import fs from 'node:fs';
import path from 'node:path';
import { messageOf, TweedError } from '../base/errors.js';
import { type FileLock, lockFile } from '../linux/file-lock.js';

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

export type InstanceLock = FileLock;

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
  const lock = tryLock(file);
  if ('holder' in lock) throw new AlreadyRunningError(name, lock.holder === '' ? '' : ` (process ${lock.holder})`);
  return lock;
}

function tryLock(file: string): ReturnType<typeof lockFile> {
  try {
    const directory = path.dirname(file);
    if (!fs.existsSync(directory)) fs.mkdirSync(directory, { mode: 0o755 });
    return lockFile(file);
  } catch (error) {
    throw new LockError(file, messageOf(error), { cause: error });
  }
}
