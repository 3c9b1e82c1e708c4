/**
 * Standard error, as a place for lines that may be lost: the overlay is worth more than its log.
 *
 * Theory of operation. A write that would wait is not made: whoever should read may have stopped, and the control thread
 * would stand still with it. So it is asked first whether there is room, and pieces are written that fit into it. What
 * cannot be written, for want of room or because the disk is full or the reader gone, waits in a queue of a bounded length
 * and is tried again with the next line and every second. So the log comes back by itself. Only what finds the queue full
 * is lost, and counted; how many were lost stands in the log at that place.
 */
import fs from 'node:fs';

/** The two calls that writing takes; a test scripts them. */
export interface OutputCalls {
  /** Writes what it can. @throws with a `code`, such as ENOSPC @returns the number of bytes that were taken */
  write(bytes: Uint8Array): number;
  /** Whether a write of a page or less would return at once. */
  hasRoom(): boolean;
}

/** How the log fares. */
export interface LogState {
  /** Lines that were lost since the start. */
  readonly lost: number;
  /** Lines that wait to be written. */
  readonly waiting: number;
  /** Why the latest write was not made; empty when it was. */
  readonly error: string;
}

/** As much as a pipe that has any room is sure to take: a page (pipe(7)). */
const PIECE = 4096;
/** Bytes of lines that wait. One line that is longer by itself is taken too, when nothing else waits. */
const QUEUE_BYTES = 2 ** 18;
const RETRY_MS = 1000;

const standardError: OutputCalls = { write: (bytes) => fs.writeSync(2, bytes), hasRoom: () => true };

export class LogOutput {
  readonly #calls: OutputCalls;
  /** The first of it may be what is left of a line. */
  readonly #queue: Uint8Array[] = [];
  #queued = 0;
  #lost = 0;
  /** How many of them the log tells of. */
  #told = 0;
  #error = '';
  #retry: NodeJS.Timeout | null = null;

  /** @param format makes of a line what is written */
  constructor(
    calls: OutputCalls = standardError,
    private readonly format: (line: string) => string = (line) => line,
  ) {
    this.#calls = calls;
  }

  get state(): LogState {
    return { lost: this.#lost, waiting: this.#queue.length, error: this.#error };
  }

  /** Takes text that ends with a line. Never throws, never waits. */
  write(text: string): void {
    this.flush();
    const bytes = Buffer.from(this.format(text));
    if (this.#queued > 0 && this.#queued + bytes.length > QUEUE_BYTES) {
      this.#lost++;
      return;
    }
    this.#add(this.#noticeOfLost());
    this.#add(bytes);
    this.flush();
  }

  /** Writes what can be written now. */
  flush(): void {
    while (this.#queue.length > 0) {
      const [bytes] = this.#queue as [Uint8Array];
      const written = this.#put(bytes.subarray(0, PIECE));
      if (written === 0) return this.#tryLater();
      this.#queued -= written;
      if (written === bytes.length) this.#queue.shift();
      else this.#queue[0] = bytes.subarray(written);
    }
    this.#error = '';
  }

  #add(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#queue.push(bytes);
    this.#queued += bytes.length;
  }

  #noticeOfLost(): Uint8Array {
    const lines = this.#lost - this.#told;
    this.#told = this.#lost;
    if (lines === 0) return new Uint8Array();
    const record = { level: 40, time: new Date().toISOString(), lines, msg: 'log lines were lost here' };
    return Buffer.from(this.format(`${JSON.stringify(record)}\n`));
  }

  #put(bytes: Uint8Array): number {
    try {
      if (this.#calls.hasRoom()) return this.#calls.write(bytes);
      this.#error = 'nobody reads it';
    } catch (error) {
      this.#error = (error as NodeJS.ErrnoException).code ?? String(error);
    }
    return 0;
  }

  #tryLater(): void {
    this.#retry ??= setTimeout(() => {
      this.#retry = null;
      this.flush();
    }, RETRY_MS).unref();
  }
}
