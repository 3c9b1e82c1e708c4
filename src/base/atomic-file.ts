import { randomBytes } from 'node:crypto';
import { link, mkdir, open, rename, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/**
 * Replaces a file so that a reader sees the old text or the new one, never a part, even after a power cut.
 * Missing directories are made (0755), the file gets `mode`.
 */
export async function replaceFile(path: string, text: string, mode = 0o644): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  const temporary = await writeTemporary(dirname(path), text, mode);
  try {
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw error;
  }
}

/** Makes a complete file unless one of this name exists; says whether it did. Atomic across processes. */
export async function createFile(path: string, text: string, mode = 0o644): Promise<boolean> {
  const temporary = await writeTemporary(dirname(path), text, mode);
  try {
    await link(temporary, path); // unlike rename, refuses to replace
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    await unlink(temporary);
  }
}

async function writeTemporary(directory: string, text: string, mode: number): Promise<string> {
  const path = join(directory, `.tmp-${process.pid}-${randomBytes(6).toString('hex')}`);
  const file = await open(path, 'wx', mode);
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
