import type { Clock } from './clock.js';
import type { Logger } from './log.js';

/** A problem that lasts is written when it begins, with each reason that is new, and again once in a while. */
export class WaitLog {
  /** What was written since the problem began. */
  readonly #reasons = new Set<string>();
  #since = 0;
  #written = 0;

  constructor(
    private readonly log: Logger,
    private readonly clock: Clock,
    private readonly reminderMs = 60_000,
  ) {}

  problem(reason: string, message: string, fields: Record<string, unknown> = {}): void {
    const now = this.clock.monotonic();
    if (this.#reasons.size === 0) this.#since = now;
    const isNew = !this.#reasons.has(reason);
    if (!isNew && now - this.#written < this.reminderMs) return;
    this.#reasons.add(reason);
    this.#written = now;
    const forSeconds = Math.round((now - this.#since) / 1000);
    if (isNew) this.log.warn({ ...fields, reason }, message);
    else this.log.warn({ ...fields, reason, forSeconds }, `still: ${message}`);
  }

  /** The problem is over; says so if there was one. */
  solved(message: string): void {
    if (this.#reasons.size === 0) return;
    this.log.info({ afterSeconds: Math.round((this.clock.monotonic() - this.#since) / 1000) }, message);
    this.#reasons.clear();
  }
}
