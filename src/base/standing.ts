/**
 * What is wrong for as long as it lasts, said once.
 *
 * A trouble begins when a subject is first said to be wrong and ends when it is said to be right. It is logged when it
 * begins, once for each reason that is new since, and as a reminder after one minute, two, four, … up to an hour; its end
 * is logged too. So a check that fails every five seconds leaves a few lines, and none is missing that tells something.
 *
 * One object for one kind of thing: `attempt` has what was tried for its subjects, `update` whatever its caller counts,
 * `problem` and `solved` a single one.
 */

import { type Clock, systemClock } from './clock.js';
import { messageOf } from './errors.js';
import type { Logger } from './log.js';
import { isUnforeseen, unforeseen } from './unforeseen.js';

interface Trouble {
  /** As it was last reported. */
  reason: string;
  /** Milliseconds of the monotonic clock. */
  readonly since: number;
  /** The reasons that were written. */
  readonly said: Set<string>;
  remindAt: number;
  pause: number;
}

type Word = 'news' | 'reminder' | 'nothing';
type Fields = Readonly<Record<string, unknown>>;

/** So many subjects with one and the same text get a line each; more share one. */
const LINES = 10;
const FIRST_REMINDER_MS = 60_000;
const LAST_REMINDER_MS = 3_600_000;
/** A reason with a number in it can be new each time; so many are remembered. */
const REASONS = 32;

export class Standing {
  readonly #troubles = new Map<string, Trouble>();

  constructor(
    private readonly log: Logger,
    private readonly clock: Pick<Clock, 'monotonic'> = systemClock,
  ) {}

  /**
   * Does what is done again and again; a failure is logged, not thrown. True when it succeeded.
   *
   * @param signal once it is aborted, a failure is none: the work was broken off
   */
  async attempt(what: string, work: () => Promise<unknown>, signal?: AbortSignal): Promise<boolean> {
    try {
      await work();
    } catch (error) {
      if (signal?.aborted) return false;
      const reason = messageOf(error);
      const word = this.#note(what, reason);
      if (word === 'news' && isUnforeseen(error)) unforeseen.note(what, error); // with its stack
      this.#write(word, [what], {}, `${what}: ${reason} (will be tried again)`);
      return false;
    }
    this.#over([what], {}, `${what}: works again`);
    return true;
  }

  /** Does what is done only once, such as a stop; a failure is logged, not thrown. True when it succeeded. */
  async once(what: string, work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if (isUnforeseen(error)) unforeseen.note(what, error);
      this.log.warn(`${what}: ${messageOf(error)}`);
      return false;
    }
  }

  /** The one thing that this object is about goes wrong for this reason, which the log has as a field. */
  problem(reason: string, message: string, fields: Fields = {}): void {
    this.#write(this.#note('', reason), [''], { ...fields, reason }, message);
  }

  /** The problem is over. */
  solved(message: string): void {
    this.#over([''], {}, message);
  }

  /** What is wrong now, in words, as the log has it. */
  get troubles(): readonly string[] {
    return [...this.#troubles].map(([subject, { reason }]) => (subject === '' ? reason : `${subject}: ${reason}`));
  }

  /**
   * All that is wrong now, by subject, in words. Whoever is not among them any longer is right.
   *
   * @param field what a subject is called in the log, such as `subnet`
   */
  update(current: ReadonlyMap<string, string>, field: string): void {
    const over = new Map<string, string[]>();
    const news = new Map<string, string[]>();
    const reminders = new Map<string, string[]>();
    for (const [subject, { reason }] of this.#troubles) if (!current.has(subject)) gather(over, reason, subject);
    for (const [subject, reason] of current) {
      const word = this.#note(subject, reason);
      if (word !== 'nothing') gather(word === 'news' ? news : reminders, reason, subject);
    }
    for (const [subjects, reason] of lines(over)) this.#over(subjects, named(field, subjects), `no longer: ${reason}`);
    for (const [subjects, reason] of lines(news)) this.#write('news', subjects, named(field, subjects), reason);
    for (const [subjects, reason] of lines(reminders)) {
      this.#write('reminder', subjects, named(field, subjects), reason);
    }
  }

  /** What is to be said of a subject that is wrong. */
  #note(subject: string, reason: string): Word {
    const now = this.clock.monotonic();
    const trouble = this.#troubles.get(subject);
    if (trouble === undefined) {
      const pause = FIRST_REMINDER_MS;
      this.#troubles.set(subject, { reason, since: now, said: new Set([reason]), remindAt: now + pause, pause });
      return 'news';
    }
    trouble.reason = reason;
    const isNew = !trouble.said.has(reason);
    if (!isNew && now < trouble.remindAt) return 'nothing';
    if (!isNew) trouble.pause = Math.min(trouble.pause * 2, LAST_REMINDER_MS);
    trouble.remindAt = now + trouble.pause;
    if (trouble.said.size >= REASONS) trouble.said.clear();
    trouble.said.add(reason);
    return isNew ? 'news' : 'reminder';
  }

  #write(word: Word, subjects: readonly string[], fields: Fields, message: string): void {
    if (word === 'news') this.log.warn(fields, message);
    if (word === 'reminder') this.log.warn({ ...fields, forSeconds: this.#secondsOf(subjects) }, `still: ${message}`);
  }

  #over(subjects: readonly string[], fields: Fields, message: string): void {
    if (!subjects.some((subject) => this.#troubles.has(subject))) return;
    this.log.info({ ...fields, afterSeconds: this.#secondsOf(subjects) }, message);
    for (const subject of subjects) this.#troubles.delete(subject);
  }

  /** How long the first of them has been wrong. */
  #secondsOf(subjects: readonly string[]): number {
    const now = this.clock.monotonic();
    let first = now;
    for (const subject of subjects) first = Math.min(first, this.#troubles.get(subject)?.since ?? now);
    return Math.round((now - first) / 1000);
  }
}

function gather(groups: Map<string, string[]>, text: string, subject: string): void {
  const subjects = groups.get(text);
  if (subjects === undefined) groups.set(text, [subject]);
  else subjects.push(subject);
}

/** Subjects that get a line together, with their text. */
function* lines(groups: ReadonlyMap<string, readonly string[]>): Generator<[readonly string[], string]> {
  for (const [text, subjects] of groups) {
    if (subjects.length > LINES) yield [subjects, text];
    else for (const subject of subjects) yield [[subject], text];
  }
}

function named(field: string, subjects: readonly string[]): Fields {
  return subjects.length === 1
    ? { [field]: subjects[0] }
    : { [`${field}s`]: subjects.slice(0, LINES), count: subjects.length };
}
