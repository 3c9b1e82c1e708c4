import { messageOf } from './errors.js';
import type { Logger } from './log.js';

/**
 * Work that the overlay can do without for a while: a failure is logged and the work tried again later.
 *
 * What fails the same way round after round is logged once, and once more when it works again.
 */
export class Complaints {
  readonly #last = new Map<string, string>();

  constructor(private readonly log: Logger) {}

  /** True when the work succeeded. */
  async attempt(what: string, work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work();
    } catch (error) {
      const complaint = messageOf(error);
      if (this.#last.get(what) !== complaint) this.log.warn(`${what}: ${complaint} (will be tried again)`);
      this.#last.set(what, complaint);
      return false;
    }
    if (this.#last.delete(what)) this.log.info(`${what}: works again`);
    return true;
  }
}
