// test-with-engine.mjs RESULT-FILE [VITEST-ARGUMENT…], as root: starts the engine, tests, takes everything down, looks
// whether anything was left, and writes the counts, or why there is no engine, as JSON.
import { writeFileSync } from 'node:fs';
import { say } from '../../scripts/support/run.mjs';
import { runTests } from '../../scripts/support/vitest-results.mjs';
import { makeBaseImages } from './base-image.mjs';
import { NoEngineError, startEngine } from './engine.mjs';
import { findLeftovers, takeMachineSnapshot } from './leftovers.mjs';

const [resultFile, ...args] = process.argv.slice(2);
const started = performance.now();
const step = (text) => say(`── ${((performance.now() - started) / 1000).toFixed(1).padStart(6)} s  ${text}`);

async function test() {
  const before = takeMachineSnapshot();
  const engine = await startEngine();
  let counts;
  try {
    step(`engine ${engine.version}`);
    await makeBaseImages(engine.env);
    step('base images');
    counts = await runTests('docker', [], { env: engine.env }, args);
    step(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  } finally {
    await engine.stop();
  }
  const left = findLeftovers(before);
  for (const line of left) say(`left behind: ${line}`);
  step(left.length === 0 ? 'nothing was left behind' : 'something was left behind');
  return left.length === 0 ? counts : { ...counts, failed: counts.failed + 1 };
}

let result;
try {
  result = await test();
} catch (error) {
  if (!(error instanceof NoEngineError)) throw error;
  result = { noEngine: error.message };
}
writeFileSync(resultFile, JSON.stringify(result));
