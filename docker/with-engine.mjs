// with-engine.mjs COMMAND…: runs a command with a Docker engine of its own, which has the images that the Dockerfile
// starts from. Everything made with it is gone afterwards. As root; for those who work on the Docker lab.
import { run, SetupError, say, sayTime } from '../scripts/support/run.mjs';
import { main, setupRoot } from '../scripts/support/setup.mjs';
import { makeBaseImages } from './support/base-image.mjs';
import { NoEngineError, startEngine, sweepEngines } from './support/engine.mjs';

/** An engine with the images. @throws SetupError where none comes up */
async function prepare() {
  try {
    await sweepEngines();
    return await startEngine();
  } catch (error) {
    throw error instanceof NoEngineError ? new SetupError(error.message) : error;
  }
}

await main(async (command) => {
  if (command.length === 0) throw new SetupError('there is no command; for a shell: node docker/with-engine.mjs bash');
  const root = await setupRoot('docker');
  if (root.length > 0) throw new SetupError('the engine needs root; run the command again as root');
  const started = performance.now();
  say('• an engine, and the images that the Dockerfile starts from: one to three minutes');
  const engine = await prepare();
  try {
    await makeBaseImages(engine.env);
    sayTime('engine and images', started);
    return await run(command, { env: engine.env });
  } finally {
    await engine.stop();
  }
});
