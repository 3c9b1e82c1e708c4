import fs from 'node:fs';
import path from 'node:path';
import { TweedError } from '../base/errors.js';
import { type FileLock, LockHeldError, lockFile } from '../linux/file-lock.js';

/** Where the locks are: one place for all daemons of a host, whatever their options say, that only root can write to. */
const LOCK_DIRECTORY = '/run/tweed';

/** Another daemon has what only one can have. */
export class AlreadyRunningError extends TweedError {
  /** Its process; null when it has not written its number yet. */
  readonly holder: number | null;

  constructor(name: string, { holder }: LockHeldError) {
    const who = holder === null ? '' : ` (process ${holder})`;
    super(
      'ALREADY_RUNNING',
      `another tweed${who} already serves the ${name} in this network namespace; stop it first, or give each daemon its own network (-etcd-prefix) and device (-device)`,
    );
    this.holder = holder;
  }
}

/**
 * Makes sure that one daemon at most serves something of this network namespace, by which the file is named: `device
 * flannel0`, or `network 10.5.0.0/16`.
 *
 * @throws AlreadyRunningError, LockError
 */
export function lockInstance(name: string, directory = LOCK_DIRECTORY): FileLock {
  const namespace = fs.statSync('/proc/self/ns/net').ino;
  try {
    return lockFile(path.join(directory, `${name.replaceAll(/[^\w.-]/g, '-')}.${namespace}.lock`));
  } catch (error) {
    throw error instanceof LockHeldError ? new AlreadyRunningError(name, error) : error;
  }
}
