/** This host's private key, where flannel keeps it: base64, mode 0400, made when it is absent, kept ever after. */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createFile, makeDirectory } from '../../base/atomic-file.js';
import { FileError, TweedError } from '../../base/errors.js';
import { formatKey, KEY_BYTES, PrivateKey, parseKey } from '../../wireguard/keys.js';

const { O_NONBLOCK, O_RDONLY } = constants;
const READABLE_BY_OTHERS = 0o077;
/** More than a key and the white space around it; of a longer file no more is read. */
const MOST_BYTES = 256;

/** A private key that cannot be relied upon. */
export class KeyFileError extends TweedError {
  constructor(path: string, what: string, advice: string) {
    super('WIREGUARD_KEY_FILE', `the private key in ${path} ${what}; ${advice}`);
  }
}

export interface LoadedKey {
  readonly key: PrivateKey;
  /** It was made just now, so nobody has a session with it. */
  readonly isNew: boolean;
}

/** @throws KeyFileError, FileError */
export async function loadPrivateKey(path: string): Promise<LoadedKey> {
  const kept = await readPrivateKey(path);
  return kept === null ? makePrivateKey(path) : { key: kept, isNew: false };
}

async function makePrivateKey(path: string): Promise<LoadedKey> {
  const key = new PrivateKey(new Uint8Array(randomBytes(KEY_BYTES)));
  try {
    await makeDirectory(dirname(path));
    if (await createFile(path, formatKey(key.secret.bytes), 0o400)) return { key, isNew: true };
  } catch (error) {
    throw new FileError(error, 'give another key file (-wireguard-key-file)');
  }
  // somebody else made it at the same moment
  key.zero();
  const theirs = await readPrivateKey(path);
  if (theirs === null) throw new KeyFileError(path, 'comes and goes', 'see who else writes there');
  return { key: theirs, isNew: false };
}

/** The file's text, bounded. */
async function readShort(file: FileHandle): Promise<string> {
  const buffer = Buffer.alloc(MOST_BYTES);
  try {
    const { bytesRead } = await file.read(buffer, 0, MOST_BYTES, 0);
    return buffer.toString('latin1', 0, bytesRead).trim();
  } finally {
    buffer.fill(0);
  }
}

/** Null when there is none. */
async function readPrivateKey(path: string): Promise<PrivateKey | null> {
  // a pipe in its place would make the open wait for a writer
  const file = await open(path, O_RDONLY | O_NONBLOCK).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw new FileError(error, 'make it readable for this process, or remove it for a new one');
  });
  if (file === null) return null;
  try {
    const stats = await file.stat();
    const { mode, uid } = stats;
    if (!stats.isFile()) throw new KeyFileError(path, 'is no file', 'give another key file (-wireguard-key-file)');
    if ((mode & READABLE_BY_OTHERS) !== 0) {
      const octal = (mode & 0o777).toString(8).padStart(4, '0');
      throw new KeyFileError(
        path,
        `is open to others (mode ${octal})`,
        `remove it for a new one, or chmod 400 ${path}`,
      );
    }
    if (uid !== 0 && uid !== process.getuid?.()) {
      throw new KeyFileError(path, `belongs to user ${uid}`, `remove it for a new one, or chown root ${path}`);
    }
    const text = await readShort(file);
    try {
      return new PrivateKey(parseKey(text, 'private key'));
    } catch {
      throw new KeyFileError(path, 'is no key', 'remove it for a new one, or put in what "wg genkey" prints');
    }
  } finally {
    await file.close();
  }
}
