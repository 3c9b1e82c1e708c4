import fs from 'node:fs';
import { EWOULDBLOCK, LOCK_EX, LOCK_NB } from './constants.js';
import { SystemCallError } from './errno.js';
import { control } from './libc.js';

/** A file that one process at most can have locked. It is gone when the process is, however it ended. */
export interface FileLock {
  /** Does nothing the second time. */
  release(): void;
}

/**
 * Locks the file by flock(2), and writes this process's id into it. The file is made if need be; on release it is removed.
 *
 * @returns the lock; or, where somebody else has it, the id of the process that has, empty while it is not written yet
 * @throws an error of Node's when the file cannot be opened; SystemCallError when locks do not work there
 */
export function lockFile(file: string): FileLock | { readonly holder: string } {
  const { O_RDWR, O_CREAT, O_NOFOLLOW } = fs.constants;
  for (;;) {
    const fd = fs.openSync(file, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
    try {
      if (control.flock(fd, LOCK_EX | LOCK_NB) < 0) {
        const errno = control.errno();
        if (errno !== EWOULDBLOCK) throw new SystemCallError(`flock ${file}`, errno, 'look at the file system');
        const holder = holderOf(fd);
        fs.closeSync(fd);
        return { holder };
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

function holderOf(fd: number): string {
  const text = Buffer.alloc(16);
  const length = fs.readSync(fd, text, 0, text.length, 0);
  const holder = text.toString('latin1', 0, length).trim();
  return /^\d+$/.test(holder) ? holder : '';
}
