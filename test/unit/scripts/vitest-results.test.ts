import { describe, expect, it } from 'vitest';
import { judgeResults, type Rules } from '../../../scripts/support/vitest-results.mjs';

/** A report of one file with these tests, as vitest writes it. */
function report(tests: Readonly<Record<string, 'passed' | 'failed' | 'skipped' | 'todo'>>, suiteStatus = 'passed') {
  const assertionResults = Object.entries(tests).map(([fullName, status]) => ({ fullName, status }));
  const count = (wanted: string) => assertionResults.filter(({ status }) => status === wanted).length;
  return {
    numPassedTests: count('passed'),
    numFailedTests: count('failed'),
    numPendingTests: count('skipped'),
    numTodoTests: count('todo'),
    testResults: [{ status: suiteStatus, assertionResults }],
  };
}

const rules: Rules = { status: 0, floor: 0, skips: [{ tests: '^old ', why: 'not built' }], ci: true };
const judge = (results: object | null, more: Partial<Rules> = {}) => judgeResults(results, { ...rules, ...more });

describe('the outcome of a run', () => {
  it('is good when enough tests passed', () => {
    expect(judge(report({ a: 'passed', b: 'passed' }), { floor: 2 })).toEqual({
      counts: { passed: 2, failed: 0, skipped: 0 },
      remarks: [],
    });
  });

  it.each([
    ['too few tests', report({ a: 'passed' }), { floor: 2 }, /1 tests, and must be 2/],
    ['no tests', report({}), { floor: 1 }, /0 tests/],
    ['no result', null, { status: 1 }, /without a result/],
    ['no result, although it says that all is well', null, { floor: 1 }, /without a result/],
    ['a skipped test that is not listed', report({ a: 'passed', b: 'skipped' }), {}, /skipped: b, which CI may not/],
    ['a test that nobody wrote yet', report({ b: 'todo' }), {}, /skipped: b/],
    ['a failed test', report({ a: 'passed', b: 'failed' }), {}, undefined],
    ['a file that could not be loaded', report({}, 'failed'), {}, undefined],
    ['an error outside any test', report({ a: 'passed' }), { status: 1 }, undefined],
  ])('is bad with %s', (_, results, more, remark) => {
    const { counts, remarks } = judge(results, more);
    expect(counts.failed).toBe(1);
    if (remark !== undefined) expect(remarks.join('\n')).toMatch(remark);
  });

  it('names what was skipped and may be, and outside CI everything', () => {
    const results = report({ 'old tables': 'skipped', 'new tables': 'skipped', a: 'passed' });
    expect(judge(report({ 'old tables': 'skipped' }))).toEqual({
      counts: { passed: 0, failed: 0, skipped: 1 },
      remarks: ['• skipped: old tables (not built)'],
    });
    expect(judge(results, { ci: false })).toEqual({
      counts: { passed: 1, failed: 0, skipped: 2 },
      remarks: ['• skipped: old tables (not built)', '• skipped: new tables'],
    });
  });

  it('is good without a test where only other files were asked for', () => {
    expect(judge(null).counts).toEqual({ passed: 0, failed: 0, skipped: 0 });
  });

  it('counts skipped tests as found', () => {
    expect(judge(report({ 'old tables': 'skipped', a: 'passed' }), { floor: 2 }).counts.failed).toBe(0);
  });
});
