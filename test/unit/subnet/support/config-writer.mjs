// One of several processes that count up the same config. Runs the built code. Usage: config-writer.mjs DIRECTORY TIMES
import { silentLogger } from '../../../../dist/base/log.js';
import { DirectoryRegistry } from '../../../../dist/subnet/directory/directory-registry.js';
import { ConfigChangedError } from '../../../../dist/subnet/errors.js';

const [directory, times] = process.argv.slice(2);
const registry = new DirectoryRegistry({ directory }, silentLogger());
for (let done = 0; done < Number(times); ) {
  const { json, version } = await registry.getConfig();
  try {
    await registry.setConfig(String(Number(json) + 1), version);
    done++;
  } catch (error) {
    if (!(error instanceof ConfigChangedError)) throw error; // somebody else was faster
  }
}
