// npm run test:nodes: unit tests and a small system test under other versions of Node than the one in use.
// The versions come as npm packages that carry the binary; they are kept in the user's cache, not among the dependencies.
// Arguments: major versions, if not these:
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { npm, project, rootAccess, run, SetupError, say } from './support/run.mjs';
import { main, setupProject, setupRoot } from './support/setup.mjs';

const versions = ['24', '26'];
const vitest = join(project, 'node_modules/vitest/vitest.mjs');

/** @returns {Promise<string>} the path of that version's node */
async function ensureNode(version) {
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'tweed', `node-${version}`);
  const packageName = `node-linux-${process.arch}`;
  const binary = join(cache, 'node_modules', packageName, 'bin', 'node');
  if (existsSync(binary)) return binary;
  mkdirSync(cache, { recursive: true });
  writeFileSync(join(cache, 'package.json'), '{ "private": true }\n');
  say(`• installing Node ${version} to ${cache}`);
  const argv = npm('install', '--no-audit', '--no-fund', '--loglevel=error', `${packageName}@${version}`);
  if ((await run(argv, { cwd: cache })) !== 0) throw new SetupError(`Node ${version} could not be installed`);
  return binary;
}

await main(async (args) => {
  await setupProject();
  let failed = 0;
  for (const version of args.length > 0 ? args : versions) {
    const node = await ensureNode(version);
    say(`\n── Node ${version}: unit tests`);
    const env = { ...process.env, PATH: `${dirname(node)}:${process.env.PATH}` };
    if ((await run([node, vitest, 'run', '--project', 'unit'], { env })) !== 0) failed++;
    const root = rootAccess();
    if ('why' in root && !process.env.CI) {
      say(`── Node ${version}: no system test, ${root.why}`);
      continue;
    }
    say(`── Node ${version}: a lab and its matrix`);
    const prefix = await setupRoot('test');
    if ((await run([...prefix, node, vitest, 'run', '--project', 'system*', 'test/system/lab-smoke.test.ts'])) !== 0)
      failed++;
  }
  say(failed === 0 ? '\nall versions passed' : `\n${failed} ${failed === 1 ? 'run' : 'runs'} failed`);
  return failed === 0 ? 0 : 1;
});
