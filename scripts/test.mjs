// npm test: sets up what is due, then types, lint, arrows, unit tests and, as root, system tests.
// Arguments go to vitest. The last line is `N passed, N failed, N skipped`, the sum over all tests; a static check or a
// whole part that failed counts as one failed test. TWEED_SUMMARY_FILE: that line goes to this file instead.
import { writeFileSync } from 'node:fs';
import { asOwner, npm, run, SetupError, say } from './support/run.mjs';
import { main, setupProject, setupRoot } from './support/setup.mjs';
import { runTests } from './support/vitest-results.mjs';

const staticChecks = ['types', 'lint', 'arrows'];

function timed(title) {
  const started = performance.now();
  say(`\n── ${title}`);
  return (outcome) => say(`── ${title}: ${outcome}, ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

await main(async (args) => {
  const total = { passed: 0, failed: 0, skipped: 0 };
  const add = ({ passed, failed, skipped }) => {
    total.passed += passed;
    total.failed += failed;
    total.skipped += skipped;
    return `${passed} passed, ${failed} failed, ${skipped} skipped`;
  };
  try {
    await setupProject();
    for (const check of staticChecks) {
      const done = timed(check);
      const ok = (await run(npm('run', '--silent', check), asOwner())) === 0;
      if (!ok) total.failed++;
      done(ok ? 'ok' : 'FAILED');
    }
    let done = timed('unit tests');
    done(add(await runTests('unit', [], asOwner(), args)));
    done = timed('system tests');
    try {
      const root = await setupRoot('test');
      done(add(await runTests('system', root, {}, args)));
    } catch (error) {
      if (!(error instanceof SetupError)) throw error;
      say(`✗ ${error.message}`);
      // On a laptop without root that is how it is; in CI nobody would notice that nothing was tested.
      if (process.env.CI) total.failed++;
      else total.skipped++;
      done(process.env.CI ? 'FAILED, they could not run' : 'skipped, they cannot run here');
    }
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(`✗ ${error.message}`);
    total.failed++;
  }
  const summary = `${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`;
  if (process.env.TWEED_SUMMARY_FILE) writeFileSync(process.env.TWEED_SUMMARY_FILE, `${summary}\n`);
  else say(`\n${summary}`);
  return total.failed === 0 ? 0 : 1;
});
