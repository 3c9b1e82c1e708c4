/** This host's private key, where flannel keeps it: base64, mode 0400, made when it is absent, kept ever after. */
import { randomBytes } from 'node:crypto';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createFile, makeDirectory } from '../../base/atomic-file.js';
import { FileError, TweedError } from '../../base/errors.js';
import { formatKey, KEY_BYTES, PrivateKey, parseKey } from '../../wireguard/keys.js';

const READABLE_BY_OTHERS = 0o077;

/** A private key that cannot be relied upon. */
export class KeyFileError extends TweedError {
  constructor(path: string, what: string, advice: string) {
    super('WIREGUARD_KEY_FILE', `the private key in ${path} ${what}; ${advice}`);
  }
}

/** @throws KeyFileError, FileError */
export async function loadPrivateKey(path: string): Promise<PrivateKey> {
  return (await readPrivateKey(path)) ?? (await makePrivateKey(path));
}

async function makePrivateKey(path: string): Promise<PrivateKey> {
  const key = new PrivateKey(new Uint8Array(randomBytes(KEY_BYTES)));
  try {
    await makeDirectory(dirname(path));
    if (await createFile(path, formatKey(key.secret.bytes), 0o400)) return key;
  } catch (error) {
    throw new FileError(error, 'give another key file (-wireguard-key-file)');
  }
  // somebody else made it at the same moment
  key.zero();
  const theirs = await readPrivateKey(path);
  if (theirs === null) throw new KeyFileError(path, 'comes and goes', 'see who else writes there');
  return theirs;
}

/** Null when there is none. */
async function readPrivateKey(path: string): Promise<PrivateKey | null> {
  const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw new FileError(error, 'make it readable for this process, or remove it for a new one');
  });
  if (file === null) return null;
  try {
    const { mode, uid } = await file.stat();
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
    const text = (await file.readFile('utf8')).trim();
    try {
      return new PrivateKey(parseKey(text, 'private key'));
    } catch {
      throw new KeyFileError(path, 'is no key', 'remove it for a new one, or put in what "wg genkey" prints');
    }
  } finally {
    await file.close();
  }
}
