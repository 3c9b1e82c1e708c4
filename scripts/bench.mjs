// npm run bench: sets up what is due, then measures. Arguments go to the benchmark: npm run bench -- --help.
import { join } from 'node:path';
import { asOwner, project, run, SetupError } from './support/run.mjs';
import { main, setupProject, setupRoot } from './support/setup.mjs';

/** The benchmark is compiled apart from the product; the compiler itself knows what has changed. */
async function buildBench() {
  const compiler = join(project, 'node_modules/typescript/bin/tsc');
  const status = await run([process.execPath, compiler, '-p', join(project, 'bench')], asOwner());
  if (status !== 0) throw new SetupError('the benchmark did not compile; the messages are above');
}

/** These only read and write results. */
const withoutRoot = ['compare', 'report', '--help'];

await main(async (args) => {
  await setupProject();
  await buildBench();
  const root = withoutRoot.some((word) => args.includes(word)) ? [] : await setupRoot('bench');
  return run([...root, process.execPath, join(project, 'dist-bench/bench/main.js'), ...args]);
});
