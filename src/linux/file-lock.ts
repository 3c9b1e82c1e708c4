import fs from 'node:fs';
import path from 'node:path';
import { messageOf, TweedError } from '../base/errors.js';
import { EWOULDBLOCK, LOCK_EX, LOCK_NB } from './constants.js';
import { errnoName } from './errno.js';
import { control } from './libc.js';

/** Somebody else has the lock. */
export class LockHeldError extends TweedError {
  /** @param holder the process that has it; null when it has not written its number yet */
  constructor(
    file: string,
    readonly holder: number | null,
  ) {
    super(
      'LOCK_HELD',
      `${file} is locked by ${holder === null ? 'another process' : `process ${holder}`}; wait for it`,
    );
  }
}

/** The lock could not even be tried. */
export class LockError extends TweedError {
  constructor(file: string, reason: string, options?: ErrorOptions) {
    super('LOCK_FAILED', `cannot lock ${file}: ${reason}; run as root, with ${path.dirname(file)} writable`, options);
  }
}

export interface FileLock {
  /** Does nothing the second time. */
  release(): void;
}

/**
 * Takes a lock that vanishes with the process, however that ends: flock(2) on a file of its own, in which its holder's
 * number stands. Child processes do not inherit it, and nobody can keep its holder from giving it back.
 *
 * @throws LockHeldError, LockError
 */
export function lockFile(file: string): FileLock {
  for (;;) {
    const fd = openLock(file);
    try {
      if (control.flock(fd, LOCK_EX | LOCK_NB) < 0) {
        const errno = control.errno();
        throw errno === EWOULDBLOCK ? new LockHeldError(file, holderOf(fd)) : new LockError(file, errnoName(errno));
      }
      // its holder removes the file: what was locked may be gone by now, and another file be there for others to lock
      if (fs.fstatSync(fd).ino !== fs.statSync(file, { throwIfNoEntry: false })?.ino) {
        fs.closeSync(fd);
        continue;
      }
      fs.ftruncateSync(fd);
      nameHolder(fd);
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
    let held = true;
    return {
      release: () => {
        if (!held) return; // by now the descriptor's number may be another file's
        held = false;
        fs.rmSync(file, { force: true });
        fs.closeSync(fd);
      },
    };
  }
}

/** For messages. The lock is held all the same where a full disk has no room for the number. */
function nameHolder(fd: number): void {
  try {
    fs.writeSync(fd, `${process.pid}\n`, 0);
  } catch {} // nobody is told the number, that is all
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

/** The process that has a lock, or had it when it was killed; null when none has it. */
export function lockHolder(file: string): number | null {
  try {
    const fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW);
    try {
      return holderOf(fd);
    } finally {
      fs.closeSync(fd);
    }
  } catch {
    return null;
  }
}

function holderOf(fd: number): number | null {
  const text = Buffer.alloc(16);
  const length = fs.readSync(fd, text, 0, text.length, 0);
  return Number.parseInt(text.toString('latin1', 0, length), 10) || null;
}
