import type { Logger } from '../base/log.js';
import type { Clock } from './clock.js';

/** A problem that lasts is written when it begins or changes, and again once in a while. */
export class WaitLog {
  #reason = '';
  #since = 0;
  #written = 0;

  constructor(
    private readonly log: Logger,
    private readonly clock: Clock,
    private readonly reminderMs = 60_000,
  ) {}

  problem(reason: string, message: string, fields: Record<string, unknown> = {}): void {
    const now = this.clock.monotonic();
    const isNew = reason !== this.#reason;
    if (!isNew && now - this.#written < this.reminderMs) return;
    if (isNew) this.#since = now;
    this.#reason = reason;
    this.#written = now;
    const seconds = Math.round((now - this.#since) / 1000);
    this.log.warn(
      { ...fields, reason, ...(isNew ? {} : { forSeconds: seconds }) },
      isNew ? message : `still: ${message}`,
    );
  }

  /** The problem is over; says so if there was one. */
  solved(message: string): void {
    if (this.#reason === '') return;
    this.log.info({ afterSeconds: Math.round((this.clock.monotonic() - this.#since) / 1000) }, message);
    this.#reason = '';
  }
}
