import { randomBytes } from 'node:crypto';
import { link, mkdir, open, rename, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/**
 * Makes a directory and those above it, as far as they are missing. Node's own way of this never returns where a name
 * cannot be made though its parent is there, as below /proc.
 *
 * @param mode of what is made
 */
export async function makeDirectory(path: string, mode = 0o755): Promise<void> {
  const attempt = () => mkdir(path, { mode }).catch((error: NodeJS.ErrnoException) => error);
  let refusal = await attempt();
  if (refusal?.code === 'ENOENT' && dirname(path) !== path) {
    await makeDirectory(dirname(path), mode);
    refusal = await attempt();
  }
  if (refusal === undefined) return;
  const isThere = await stat(path).catch(() => null);
  if (isThere?.isDirectory() !== true) throw refusal;
}

/**
 * Replaces a file so that a reader sees the old text or the new one, never a part, even after a power cut.
 * Missing directories are made (0755), the file gets `mode`.
 */
export async function replaceFile(path: string, text: string, mode = 0o644): Promise<void> {
  await makeDirectory(dirname(path));
  const temporary = await writeTemporary(path, text, mode);
  try {
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw about(path, temporary, error);
  }
}

/** Makes a complete file unless one of this name exists; says whether it did. Atomic across processes. */
export async function createFile(path: string, text: string, mode = 0o644): Promise<boolean> {
  const temporary = await writeTemporary(path, text, mode);
  try {
    await link(temporary, path); // unlike rename, refuses to replace
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw about(path, temporary, error);
  } finally {
    await unlink(temporary);
  }
}

/** Beside `path`, and to be moved there. */
async function writeTemporary(destination: string, text: string, mode: number): Promise<string> {
  const path = join(dirname(destination), `.tmp-${process.pid}-${randomBytes(6).toString('hex')}`);
  const file = await open(path, 'wx', mode).catch((error: unknown) => {
    throw about(destination, path, error);
  });
  try {
    await file.chmod(mode); // the mode given to open is narrowed by the umask
    await file.writeFile(text);
    await file.sync();
  } catch (error) {
    await unlink(path).catch(() => {});
    throw error;
  } finally {
    await file.close();
  }
  return path;
}

/**
 * The system's error, about the file that was meant. A name made at random would make of each failure another one, and who
 * says things once would say them all.
 */
function about(path: string, temporary: string, error: unknown): unknown {
  if (error instanceof Error) {
    error.message = error.message.replace(`'${temporary}' -> `, '').replaceAll(temporary, path);
  }
  return error;
}
