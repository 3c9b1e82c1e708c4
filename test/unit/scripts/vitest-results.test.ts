import { describe, expect, it } from 'vitest';
import { judgeResults, mergeSecondGo, type Rules, worthSecondGo } from '../../../scripts/support/vitest-results.mjs';

/** A report of one file with these tests, as vitest writes it. */
function report(
  tests: Readonly<Record<string, 'passed' | 'failed' | 'skipped' | 'todo'>>,
  suiteStatus = 'passed',
  name = 'a.test.ts',
) {
  const assertionResults = Object.entries(tests).map(([fullName, status]) => ({ fullName, status }));
  const count = (wanted: string) => assertionResults.filter(({ status }) => status === wanted).length;
  return {
    numPassedTests: count('passed'),
    numFailedTests: count('failed'),
    numPendingTests: count('skipped'),
    numTodoTests: count('todo'),
    testResults: [{ name, status: suiteStatus, assertionResults }],
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

describe('a second go', () => {
  const good = report({ x: 'passed' }, 'passed', 'good.test.ts');
  const bad = report({ a: 'passed', b: 'failed' }, 'failed', 'bad.test.ts');
  const first = { status: 1, results: { ...bad, testResults: [...good.testResults, ...bad.testResults] } };
  const again = (tests: Parameters<typeof report>[0], status: number) => {
    const results = report(tests, status === 0 ? 'passed' : 'failed', 'bad.test.ts');
    const { outcome, remarks } = mergeSecondGo(first, { status, results });
    return { counts: judge(outcome.results, { status: outcome.status }).counts, remarks };
  };

  it('is for files with a failed test, or that could not be loaded, while they are few', () => {
    expect(worthSecondGo(first.results)).toEqual(['bad.test.ts']);
    expect(worthSecondGo(good)).toEqual([]);
    expect(worthSecondGo(null)).toEqual([]);
    const { testResults } = bad;
    expect(worthSecondGo({ testResults: [...testResults, ...testResults, ...testResults] })).toHaveLength(3);
    expect(worthSecondGo({ testResults: Array(4).fill(testResults[0]) })).toEqual([]);
  });

  it('takes the place of the first, and tells what passed only now', () => {
    expect(again({ a: 'passed', b: 'passed' }, 0)).toEqual({
      counts: { passed: 3, failed: 0, skipped: 0 },
      remarks: ['• passed only the second time: b'],
    });
  });

  it('is the last: what fails again has failed, and so has what fails only now', () => {
    expect(again({ a: 'passed', b: 'failed' }, 1).counts.failed).toBe(1);
    expect(again({ a: 'failed', b: 'passed' }, 1).counts.failed).toBe(1);
    expect(again({ a: 'passed', b: 'passed' }, 1).counts.failed).toBe(1);
  });

  it('that brings no result changes nothing', () => {
    expect(mergeSecondGo(first, { status: 1, results: null })).toEqual({ outcome: first, remarks: [] });
  });
});
