import fs from 'node:fs';
import { promisify } from 'node:util';
import { FileError } from './errors.js';

// Not fs/promises: it brings streams and the reader of a terminal's lines with it, for which Node 24 takes milliseconds.
const open = promisify(fs.open);
const fstat = promisify(fs.fstat);
const read = promisify(fs.read) as (fd: number, to: Buffer) => Promise<{ readonly bytesRead: number }>;
const close = promisify(fs.close);

/** What a small file of ours or of the operator's may hold, in bytes. */
const SMALL = 1 << 20;
/** What is read at once, in bytes. */
const CHUNK = 1 << 14;

/**
 * The text of a file from outside: a regular one of moderate size, so that a device, a pipe that nobody writes to, or a
 * file that somebody filled can neither stop the reader nor eat its memory.
 *
 * @param limit in bytes
 * @throws FileError, or the system's error (ENOENT and its like)
 */
export async function readTextFile(path: string, limit = SMALL): Promise<string> {
  const fd = await open(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK); // a pipe would wait for its writer
  try {
    if (!(await fstat(fd)).isFile()) throw new FileError(new Error(`${path} is no regular file`), 'name another');
    // Files of /proc and /sys say that their size is 0, so only reading tells.
    const chunks: Buffer[] = [];
    for (let total = 0; ; ) {
      const chunk = Buffer.allocUnsafe(CHUNK);
      const { bytesRead } = await read(fd, chunk);
      if (bytesRead === 0) return Buffer.concat(chunks).toString();
      chunks.push(chunk.subarray(0, bytesRead));
      total += bytesRead;
      if (total > limit) throw new FileError(new Error(`${path} has more than ${limit} bytes`), 'correct or delete it');
    }
  } finally {
    await close(fd);
  }
}
