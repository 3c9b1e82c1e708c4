// npm run test:docker: the compose lab on a Docker engine of its own, installed by apt when it is missing; no registry.
// Arguments go to vitest. The last line is `N passed, N failed, N skipped`; TWEED_SUMMARY_FILE: it goes to this file instead.
// Where no engine can be had: skipped, with the reason; in CI that counts as failed, or nobody would notice.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { project, run, SetupError, say } from '../scripts/support/run.mjs';
import { main, setupProject, setupRoot } from '../scripts/support/setup.mjs';

/** Sets up what needs no root, then runs the rest as root. @returns what was counted, and why nothing was, if so */
async function test(args) {
  const folder = mkdtempSync(join(tmpdir(), 'tweed-docker-'));
  try {
    await setupProject();
    const file = join(folder, 'results.json');
    const root = await setupRoot('docker');
    say('• images, a lab, faults and two engines: some 10 minutes, 20 on a busy machine');
    await run([...root, process.execPath, join(project, 'docker/support/test-with-engine.mjs'), file, ...args]);
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error instanceof SetupError) return { noEngine: error.message };
    throw error;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

await main(async (args) => {
  const outcome = await test(args);
  if (outcome.noEngine !== undefined) say(`✗ no Docker engine can be had here: ${outcome.noEngine}`);
  const none = process.env.CI ? { passed: 0, failed: 1, skipped: 0 } : { passed: 0, failed: 0, skipped: 1 };
  const { passed, failed, skipped } = outcome.noEngine === undefined ? outcome : none;
  const summary = `${passed} passed, ${failed} failed, ${skipped} skipped`;
  if (process.env.TWEED_SUMMARY_FILE) writeFileSync(process.env.TWEED_SUMMARY_FILE, `${summary}\n`);
  else say(`\n${summary}`);
  return failed === 0 ? 0 : 1;
});
