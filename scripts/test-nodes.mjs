// npm run test:nodes: unit tests and a small system test under other versions of Node than the one in use.
// Arguments: major versions, if not these:
import { dirname, join } from 'node:path';
import { ensureNode } from './support/nodes.mjs';
import { project, rootAccess, run, say } from './support/run.mjs';
import { main, setupProject, setupRoot } from './support/setup.mjs';

const versions = ['24', '26'];
const vitest = join(project, 'node_modules/vitest/vitest.mjs');

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
