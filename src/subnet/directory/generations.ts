import { readdir, stat, unlink } from 'node:fs/promises';
import { uptime } from 'node:os';
import { join } from 'node:path';
import { createFile } from '../../base/atomic-file.js';
import { FileError, messageOf } from '../../base/errors.js';
import { readTextFile } from '../../base/text-file.js';

/**
 * Compare-and-swap on plain files, without locks, for several processes on one directory.
 *
 * A value is kept in files called `NAME@1`, `NAME@2`, …; the highest number is its present generation, and a file never
 * changes once it has its name. To replace generation n, a writer makes n + 1, which only one can. Deleting writes a
 * generation too (a tombstone).
 *
 * A generation outlives its successors by `KEPT_MS`. So for that long after n was read, whoever makes n + 1 is its one
 * successor, however many have built on it before the writer looks again. A writer who was asleep for longer may have made
 * the file anew after n + 1 had come and gone: if it finds a higher number, it has lost.
 *
 * `NAME` without a number is made by hand; it is the present text as long as it is younger than the highest number, which is
 * kept to be replaced.
 */
export interface Generation {
  readonly name: string;
  readonly number: number;
  /** Null for a tombstone; empty for what cannot be read. */
  readonly text: string | null;
  /** Why its file cannot be read, though it is there: it is a directory, a pipe, too large. */
  readonly fault?: string;
  /** When it was the present one at the latest, by `sinceBootMs`. */
  readonly seenAt: number;
}

const TOMBSTONE = 'deleted\n';
const SCANS = 5;
/** What the system says of a single file: a link that leads to itself, one of another user, a socket, a device. */
const UNREADABLE = ['ELOOP', 'EACCES', 'ENXIO', 'ENODEV'];
/** How long a generation is kept after it was made, milliseconds by the file system's clock. */
const KEPT_MS = 60_000;

/** The present generation of every value in the directory, tombstones included. */
export async function readGenerations(directory: string): Promise<Map<string, Generation>> {
  for (let scan = 1; ; scan++) {
    const seenAt = sinceBootMs();
    const numbers = new Map<string, number[]>();
    for (const { name, number } of await listFiles(directory))
      numbers.set(name, [...(numbers.get(name) ?? []), number]);
    const read = await Promise.all([...numbers].map(([name, all]) => readPresent(directory, name, all, seenAt)));
    // A file that went away between listing and reading has a successor, unless someone deletes files by hand.
    if (read.includes(null) && scan < SCANS) continue;
    return new Map(read.filter((generation) => generation !== null).map((generation) => [generation.name, generation]));
  }
}

/** The present generation of one value; null when there is none. */
export async function readGeneration(directory: string, name: string): Promise<Generation | null> {
  for (let scan = 1; ; scan++) {
    const seenAt = sinceBootMs();
    const numbers = await numbersOf(directory, name);
    const generation = numbers.length === 0 ? null : await readPresent(directory, name, numbers, seenAt);
    if (generation !== null || numbers.length === 0 || scan === SCANS) return generation;
  }
}

/**
 * Writes the generation after `present` (null when there is none yet); a null text makes a tombstone.
 *
 * @param keptMs for tests: how long generations are kept
 * @returns the generation written, or null when somebody else was faster.
 */
export async function writeGeneration(
  directory: string,
  name: string,
  present: Generation | null,
  text: string | null,
  keptMs = KEPT_MS,
): Promise<Generation | null> {
  const number = (present?.number ?? 0) + 1;
  const path = (of: number) => join(directory, fileName(name, of));
  if (!(await createFile(path(number), text ?? TOMBSTONE))) return null;
  // Half of the time, as the file system's clock may be another machine's.
  const isSuccessor = present !== null && sinceBootMs() - present.seenAt < keptMs / 2;
  const seenAt = sinceBootMs();
  const numbers = await numbersOf(directory, name);
  const isPresent = Math.max(...numbers) === number;
  if (isPresent) await removeOld(path, numbers, number, keptMs);
  else if (!isSuccessor) await unlink(path(number)).catch(() => {});
  return isPresent || isSuccessor ? { name, number, text, seenAt } : null;
}

/** Removes the generations before `present` that nobody can count on any more, and what was made by hand before it. */
async function removeOld(path: (of: number) => string, numbers: readonly number[], present: number, keptMs: number) {
  // ctime: the moment of the link that gave the file its name; its text may have been written before that.
  const madeAt = async (of: number) => (await stat(path(of))).ctimeMs;
  const now = await madeAt(present).catch(() => 0);
  for (const number of numbers.filter((other) => other < present)) {
    const kept = number > 0 && (await madeAt(number).catch(() => now)) > now - keptMs;
    if (!kept) await unlink(path(number)).catch(() => {});
  }
}

/** Milliseconds on a clock that only goes forward, also while the machine sleeps. */
function sinceBootMs(): number {
  return uptime() * 1000;
}

async function numbersOf(directory: string, name: string): Promise<number[]> {
  return (await listFiles(directory)).filter((file) => file.name === name).map(({ number }) => number);
}

/**
 * A value replaced while a large directory is read may show neither its old nor its new file; two readings cannot both miss
 * it.
 */
async function listFiles(directory: string): Promise<{ name: string; number: number }[]> {
  const files = new Set([...(await readdir(directory)), ...(await readdir(directory))]);
  return [...files].map(splitFileName).filter(({ name }) => name !== '');
}

/** The one that counts of a value's files, which have these numbers; null when it has gone away. */
async function readPresent(
  directory: string,
  name: string,
  numbers: readonly number[],
  seenAt: number,
): Promise<Generation | null> {
  const number = Math.max(...numbers);
  const path = (of: number) => join(directory, fileName(name, of));
  try {
    let source = number;
    if (number > 0 && numbers.includes(0)) {
      const [byHand, byUs] = await Promise.all([stat(path(0)), stat(path(number))]);
      if (byHand.mtimeMs > byUs.mtimeMs) source = 0;
    }
    const text = await readTextFile(path(source));
    return { name, number, text: text === TOMBSTONE ? null : text, seenAt };
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return null;
    // It costs this value, not those beside it. Whatever else goes wrong is the directory's.
    if (error instanceof FileError) return { name, number, text: '', fault: messageOf(error.cause), seenAt };
    if (UNREADABLE.includes(code)) return { name, number, text: '', fault: messageOf(error), seenAt };
    throw error;
  }
}

function fileName(name: string, number: number): string {
  return number === 0 ? name : `${name}@${number}`;
}

/** The name is empty for files that are none of ours: temporary and hidden ones. */
function splitFileName(file: string): { name: string; number: number } {
  if (file.startsWith('.')) return { name: '', number: 0 };
  const match = /^(.+)@([1-9]\d{0,14})$/.exec(file);
  return match === null ? { name: file, number: 0 } : { name: match[1], number: Number(match[2]) };
}
