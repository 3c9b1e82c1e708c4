// with-engine.mjs COMMAND…: runs a command with a Docker engine of its own, which has the images that the Dockerfile
// starts from. Everything made with it is gone afterwards. As root; for those who work on the Docker lab.
import { run } from '../scripts/support/run.mjs';
import { makeBaseImages } from './support/base-image.mjs';
import { startEngine, sweepEngines } from './support/engine.mjs';

await sweepEngines();
const engine = await startEngine();
try {
  await makeBaseImages(engine.env);
  process.exitCode = await run(process.argv.slice(2), { env: engine.env });
} finally {
  await engine.stop();
}
