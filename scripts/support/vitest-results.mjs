// Running a project of vitest, and counting what its JSON reporter wrote.
import { chownSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { project, run } from './run.mjs';

const vitest = join(project, 'node_modules/vitest/vitest.mjs');

/**
 * @param {string} name of vitest's project
 * @param {string[]} prefix words before the command, to become root
 * @param {import('node:child_process').SpawnOptions} options
 * @param {string[]} args more arguments for vitest
 */
export async function runTests(name, prefix, options, args) {
  const folder = mkdtempSync(join(tmpdir(), 'tweed-test-'));
  try {
    const file = join(folder, 'results.json');
    if (options.uid !== undefined) chownSync(folder, options.uid, options.gid);
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
    const status = await run(
      [...prefix, process.execPath, vitest, 'run', '--project', name, ...reporters, ...args],
      options,
    );
    return countResults(file, status);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * @param {string} file where the JSON reporter was told to write
 * @param {number} status vitest's exit status
 */
function countResults(file, status) {
  let results;
  try {
    results = JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    // It ended before it could write anything.
    return { passed: 0, failed: status === 0 ? 0 : 1, skipped: 0 };
  }
  const passed = results.numPassedTests;
  const skipped = results.numPendingTests + results.numTodoTests;
  // A file that cannot even be loaded has no tests that could fail.
  const broken = results.testResults.filter(
    (suite) => suite.status === 'failed' && suite.assertionResults.length === 0,
  );
  const failed = results.numFailedTests + broken.length;
  // Errors outside any test fail the run as well.
  return { passed, failed: failed === 0 && status !== 0 ? 1 : failed, skipped };
}
