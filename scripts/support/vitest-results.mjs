// Counting what vitest's JSON reporter wrote.
import { readFileSync } from 'node:fs';

/**
 * @param {string} file where the JSON reporter was told to write
 * @param {number} status vitest's exit status
 */
export function countResults(file, status) {
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
