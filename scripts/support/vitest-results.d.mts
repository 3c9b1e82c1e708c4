export interface Rules {
  readonly status: number;
  readonly floor: number;
  readonly skips: readonly { readonly tests: string; readonly why: string }[];
  readonly ci: boolean;
}
export function judgeResults(
  results: object | null,
  rules: Rules,
): { counts: { passed: number; failed: number; skipped: number }; remarks: string[] };

export interface Outcome {
  readonly status: number;
  readonly results: object | null;
}
export function worthSecondGo(results: object | null): string[];
export function mergeSecondGo(first: Outcome, second: Outcome): { outcome: Outcome; remarks: string[] };
