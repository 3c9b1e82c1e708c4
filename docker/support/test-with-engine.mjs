// test-with-engine.mjs RESULT-FILE [VITEST-ARGUMENT…], as root: starts the engine, tests, takes everything down, looks
// whether anything was left, and writes the counts, or why there is no engine, as JSON.
import { existsSync, writeFileSync } from 'node:fs';
import { say } from '../../scripts/support/run.mjs';
import { runTests } from '../../scripts/support/vitest-results.mjs';
import { makeBaseImages } from './base-image.mjs';
import { labBridge, NoEngineError, startEngine, sweepEngines } from './engine.mjs';
import { findLeftovers, takeMachineSnapshot } from './leftovers.mjs';

const [resultFile, ...args] = process.argv.slice(2);
const started = performance.now();
const step = (text) => say(`── ${((performance.now() - started) / 1000).toFixed(1).padStart(6)} s  ${text}`);

let interrupted = false;

async function test() {
  await sweepEngines();
  if (existsSync(`/sys/class/net/${labBridge}`)) {
    throw new NoEngineError('the compose lab is up on this machine; take it down first: npm run lab:docker -- down');
  }
  const before = takeMachineSnapshot();
  const engine = await startEngine();
  let counts;
  try {
    step(`engine ${engine.version}`);
    await makeBaseImages(engine.env);
    if (interrupted) throw new NoEngineError('interrupted');
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

// What runs at the moment gets the signal too, or ends by itself; then everything is taken down in order.
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    interrupted = true;
  });
}
let result;
try {
  result = await test();
} catch (error) {
  if (!(error instanceof NoEngineError)) throw error;
  result = { noEngine: error.message };
}
writeFileSync(resultFile, JSON.stringify(result));
