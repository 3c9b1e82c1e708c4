/** What `tweed doctor` says about one thing. */
export interface Finding {
  /** Stable kebab-case name of the check. */
  readonly id: string;
  readonly level: 'ok' | 'warn' | 'fail';
  /** One sentence: what was found and what it means. */
  readonly text: string;
  /** The command that mends it; empty when nothing needs mending. */
  readonly fix: string;
}

/** A question about facts that were gathered before. Every room can add checks over facts of its own. */
export interface Check<Facts> {
  readonly id: string;
  /** Null: the question does not arise here. */
  evaluate(facts: Facts): Omit<Finding, 'id'> | readonly Omit<Finding, 'id'>[] | null;
}

export function runChecks<Facts>(checks: readonly Check<Facts>[], facts: Facts): readonly Finding[] {
  return checks.flatMap(({ id, evaluate }) => {
    const findings = evaluate(facts) ?? [];
    return [findings].flat().map((finding) => ({ id, ...finding }));
  });
}

export function ok(text: string): Omit<Finding, 'id'> {
  return { level: 'ok', text, fix: '' };
}

export function warn(text: string, fix: string): Omit<Finding, 'id'> {
  return { level: 'warn', text, fix };
}

export function fail(text: string, fix: string): Omit<Finding, 'id'> {
  return { level: 'fail', text, fix };
}
