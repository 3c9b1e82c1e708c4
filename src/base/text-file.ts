import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { FileError } from './errors.js';

/** What a small file of ours or of the operator's may hold, in bytes. */
const SMALL = 1 << 20;

/**
 * The text of a file from outside: a regular one of moderate size, so that a device, a pipe that nobody writes to, or a
 * file that somebody filled can neither stop the reader nor eat its memory.
 *
 * @param limit in bytes
 * @throws FileError, or the system's error (ENOENT and its like)
 */
export async function readTextFile(path: string, limit = SMALL): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK); // a pipe would wait for its writer
  try {
    if (!(await file.stat()).isFile()) throw new FileError(new Error(`${path} is no regular file`), 'name another');
    // Files of /proc and /sys say that their size is 0, so only reading tells; `end` is the last byte that is read.
    const chunks: Buffer[] = await file.createReadStream({ end: limit, autoClose: false }).toArray();
    const bytes = Buffer.concat(chunks);
    if (bytes.length > limit)
      throw new FileError(new Error(`${path} has more than ${limit} bytes`), 'correct or delete it');
    return bytes.toString();
  } finally {
    await file.close();
  }
}
