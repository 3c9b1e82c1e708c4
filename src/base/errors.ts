/**
 * The root of every error that tweed raises on purpose.
 *
 * `code` is stable: scripts and tests may compare it. The message says what is wrong and ends with what to do about it.
 */
export class TweedError extends Error {
  constructor(
    readonly code: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** A file that somebody named cannot be read or written. */
export class FileError extends TweedError {
  /** @param advice what to do about it */
  constructor(cause: unknown, advice: string) {
    super('FILE', `${messageOf(cause)}; ${advice}`, { cause });
  }
}

/**
 * The text of anything that was thrown, for a log line or for the end of another error's message. Never empty: an error
 * without a text, as Node makes of several failed connections, has those it is made of, or its code or name.
 */
export function messageOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  if (thrown.message !== '') return thrown.message;
  if (thrown instanceof AggregateError && thrown.errors.length > 0) return thrown.errors.map(messageOf).join(', ');
  return (thrown as NodeJS.ErrnoException).code ?? thrown.name;
}
