import type { Logger } from './log.js';

/** So many subjects with one and the same trouble get a line each; more share one. */
const LINES = 10;

/** What is wrong with whom, said once for as long as it stays the same. */
export class StandingComplaints {
  #standing: ReadonlyMap<string, string> = new Map();

  constructor(
    private readonly log: Logger,
    /** What the subjects are called in the log, such as `subnet`. */
    private readonly field: string,
  ) {}

  /** All that is wrong now, by subject. Whatever was not wrong before, or for another reason, is logged. */
  update(current: ReadonlyMap<string, string>): void {
    const news = new Map<string, string[]>();
    for (const [subject, text] of current) {
      if (this.#standing.get(subject) === text) continue;
      news.set(text, [...(news.get(text) ?? []), subject]);
    }
    for (const [text, subjects] of news) {
      if (subjects.length <= LINES) for (const subject of subjects) this.log.warn({ [this.field]: subject }, text);
      else this.log.warn({ [`${this.field}s`]: subjects.slice(0, LINES), count: subjects.length }, text);
    }
    this.#standing = new Map(current);
  }
}
