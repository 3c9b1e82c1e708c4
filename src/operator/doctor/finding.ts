/** What `tweed doctor` says about one thing. */
export interface Finding {
  /** Stable kebab-case name of the check. */
  readonly id: string;
  readonly level: 'ok' | 'warn' | 'fail' | 'skip';
  /** One sentence: what was found and what it means. */
  readonly text: string;
  /** The command that mends it; empty when nothing needs mending. */
  readonly fix: string;
}

export type Judgement = Omit<Finding, 'id'>;

/** Answers a question from facts that were gathered before; null when the question does not arise here. */
export type Judge<Facts> = (facts: Facts) => Judgement | readonly Judgement[] | null;

/** By id, in the order in which they are shown. */
export type Checks<Facts> = Readonly<Record<string, Judge<Facts>>>;

export function runChecks<Facts>(checks: Checks<Facts>, facts: Facts): readonly Finding[] {
  return Object.entries(checks).flatMap(([id, judge]) =>
    [judge(facts) ?? []].flat().map((judgement) => ({ id, ...judgement })),
  );
}

export const ok = (text: string): Judgement => ({ level: 'ok', text, fix: '' });
/** It may not be looked at. */
export const skip = (text: string): Judgement => ({ level: 'skip', text, fix: '' });
export const warn = (text: string, fix: string): Judgement => ({ level: 'warn', text, fix });
export const fail = (text: string, fix: string): Judgement => ({ level: 'fail', text, fix });
