// Running a project of vitest, and judging what its JSON reporter wrote.
import { chownSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { project, run, say } from './run.mjs';

const vitest = join(project, 'node_modules/vitest/vitest.mjs');

/**
 * @param {'unit' | 'system' | 'docker'} name of vitest's projects, which are those that begin with it
 * @param {string[]} prefix words before the command, to become root
 * @param {import('node:child_process').SpawnOptions} options
 * @param {string[]} args more arguments for vitest, such as the files to run; without any, all tests must be there
 */
export async function runTests(name, prefix, options, args) {
  const go = async (words) => {
    const folder = mkdtempSync(join(tmpdir(), 'tweed-test-'));
    try {
      const file = join(folder, 'results.json');
      if (options.uid !== undefined) chownSync(folder, options.uid, options.gid);
      const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
      const vitestArguments = ['run', '--project', `${name}*`, ...reporters, ...words];
      const status = await run([...prefix, process.execPath, vitest, ...vitestArguments], options);
      return { status, results: readResults(file) };
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  };
  const ci = Boolean(process.env.CI);
  let outcome = await go(args.length === 0 ? [] : ['--passWithNoTests', ...args]);
  const again = ci ? worthSecondGo(outcome.results) : [];
  const said = [];
  if (again.length > 0) {
    say(`── a second go for ${again.map((file) => relative(project, file)).join(', ')}`);
    const merged = mergeSecondGo(outcome, await go(again));
    outcome = merged.outcome;
    said.push(...merged.remarks);
  }
  const { floors, skips } = JSON.parse(readFileSync(join(project, '.ci/tests.json'), 'utf8'));
  const floor = args.length === 0 ? floors[name] : 0;
  const { counts, remarks } = judgeResults(outcome.results, { status: outcome.status, floor, skips, ci });
  for (const remark of [...said, ...remarks]) say(remark);
  return counts;
}

/** What fails in more files than this is no accident. */
const MOST_FILES_AGAIN = 3;

/**
 * The files with a failed test, if they are few. Tests with real devices, timers of the kernel and two busy processors now and
 * then meet a situation that the test did not foresee; the whole run is not thrown away for it, but it is told, and has to be mended.
 *
 * @param {object | null} results of vitest's JSON reporter
 * @returns {string[]} paths; none when it would not help
 */
export function worthSecondGo(results) {
  const files = (results?.testResults ?? []).filter(({ status }) => status === 'failed').map(({ name }) => name);
  return files.length <= MOST_FILES_AGAIN ? files : [];
}

/**
 * Puts the second go of some files in the place of their first.
 *
 * @param {{ status: number, results: object }} first
 * @param {{ status: number, results: object | null }} second of the files that had a failed test
 * @returns {{ outcome: { status: number, results: object }, remarks: string[] }} remarks name each test that passed only the second time
 */
export function mergeSecondGo(first, second) {
  if (second.results === null) return { outcome: first, remarks: [] };
  const suites = new Map(first.results.testResults.map((suite) => [suite.name, suite]));
  const remarks = [];
  for (const suite of second.results.testResults) {
    const before = suites.get(suite.name)?.assertionResults ?? [];
    const failedBefore = new Set(before.filter(({ status }) => status === 'failed').map(({ fullName }) => fullName));
    for (const { fullName, status } of suite.assertionResults) {
      if (status === 'passed' && failedBefore.has(fullName)) remarks.push(`• passed only the second time: ${fullName}`);
    }
    suites.set(suite.name, suite);
  }
  const testResults = [...suites.values()];
  const count = (wanted) => testResults.flatMap((s) => s.assertionResults).filter((t) => t.status === wanted).length;
  const results = { ...first.results, numPassedTests: count('passed'), numFailedTests: count('failed'), testResults };
  return { outcome: { status: second.status, results }, remarks };
}

/** What vitest wrote; null when it ended before it could. */
function readResults(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return null;
  }
}

/**
 * Counts the tests. What could pass unnoticed counts as one failed test each: too few tests, in CI a skipped test that is
 * not on the list, an error outside any test.
 *
 * @param {object | null} results of vitest's JSON reporter
 * @param {{ status: number, floor: number, skips: { tests: string, why: string }[], ci: boolean }} rules
 *   vitest's exit status; how many tests there must be at least; which may be skipped in CI, as regular expressions
 * @returns {{ counts: { passed: number, failed: number, skipped: number }, remarks: string[] }}
 */
export function judgeResults(results, { status, floor, skips, ci }) {
  if (results === null) {
    // Among the files that were asked for may be none of this project.
    if (status === 0 && floor === 0) return { counts: { passed: 0, failed: 0, skipped: 0 }, remarks: [] };
    return { counts: { passed: 0, failed: 1, skipped: 0 }, remarks: ['✗ vitest ended without a result'] };
  }
  const remarks = [];
  const passed = results.numPassedTests;
  const skipped = results.testResults.flatMap((suite) =>
    suite.assertionResults.filter((test) => test.status !== 'passed' && test.status !== 'failed'),
  );
  // A file that cannot even be loaded has no tests that could fail.
  const broken = results.testResults.filter(
    (suite) => suite.status === 'failed' && suite.assertionResults.length === 0,
  );
  let failed = results.numFailedTests + broken.length;
  const found = passed + results.numFailedTests + skipped.length;
  if (found < floor) {
    failed++;
    remarks.push(`✗ there are ${found} tests, and must be ${floor} at least (.ci/tests.json)`);
  }
  for (const { fullName } of skipped) {
    const listed = skips.find(({ tests }) => new RegExp(tests).test(fullName));
    if (listed !== undefined) remarks.push(`• skipped: ${fullName} (${listed.why})`);
    else if (!ci) remarks.push(`• skipped: ${fullName}`);
    else {
      failed++;
      remarks.push(`✗ skipped: ${fullName}, which CI may not (.ci/tests.json lists what it may)`);
    }
  }
  // Errors outside any test fail the run as well.
  if (failed === 0 && status !== 0) failed = 1;
  return { counts: { passed, failed, skipped: skipped.length }, remarks };
}
