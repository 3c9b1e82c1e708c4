/**
 * Errors that nobody foresaw.
 *
 * What may go wrong has an error class of ours or an errno, and is dealt with where it occurs. Anything else is a bug. It
 * costs the one thing that was being worked on, is counted and logged with its stack, and never ends the daemon: a host
 * that forwards is worth more than a process that is certain of itself.
 */
import { TweedError } from './errors.js';
import type { Logger } from './log.js';

/** A storm of them fills no disk: so many lines a minute, then their number. */
const LINES_PER_MINUTE = 100;
const MINUTE_MS = 60_000;

/** Neither an error of ours nor one of the operating system's. */
export function isUnforeseen(error: unknown): boolean {
  if (error instanceof TweedError) return false;
  // Node's own complaints about arguments have a code too, and are bugs.
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code !== 'string' || code.startsWith('ERR_');
}

export class UnforeseenErrors {
  #log: Pick<Logger, 'error'> | null = null;
  #count = 0;
  #minute = Number.NEGATIVE_INFINITY;
  #lines = 0;
  #untold = 0;

  constructor(private readonly now: () => number = () => performance.now()) {}

  /** How many there were in this process. */
  get count(): number {
    return this.#count;
  }

  /** Where they are written from now on. */
  logTo(log: Pick<Logger, 'error'> | null): void {
    this.#log = log;
  }

  /** Counts one and writes it down. Never throws. @param where what was being done */
  note(where: string, error: unknown): void {
    this.#count++;
    const now = this.now();
    if (now - this.#minute >= MINUTE_MS) {
      this.#minute = now;
      this.#lines = 0;
    }
    if (++this.#lines > LINES_PER_MINUTE) {
      this.#untold++;
      return;
    }
    const fields = { where, ...(this.#untold === 0 ? {} : { untold: this.#untold }), error: stackOf(error) };
    this.#untold = 0;
    try {
      this.#log?.error(
        fields,
        'something went wrong that should not be possible; going on without it, please report it',
      );
    } catch {
      // a log that cannot be written is no reason to end
    }
  }

  /** Does what must not throw; what is thrown is noted. @returns the result, or undefined when something was thrown */
  guard<Result>(where: string, work: () => Result): Result | undefined {
    try {
      return work();
    } catch (error) {
      this.note(where, error);
      return undefined;
    }
  }

  /** Those that nothing caught, of this whole process; what it was doing otherwise goes on. @returns how to let go of it */
  catchAll(): () => void {
    const note = (error: unknown, origin: string) => this.note(origin, error);
    process.on('uncaughtException', note); // of rejections that nobody handled, too
    return () => process.off('uncaughtException', note);
  }
}

/** The process's own. */
export const unforeseen = new UnforeseenErrors();

function stackOf(error: unknown): string {
  try {
    return error instanceof Error ? (error.stack ?? String(error)) : String(error);
  } catch {
    return 'something that cannot even be shown'; // an object without a prototype, for one
  }
}
