import { access } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { sweepLabs } from './lab.js';

/** Before any system test: what all of them need, and no leftovers of a run that was killed. */
export default async function setup(): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new Error('system tests make network namespaces, which needs root; run `npm test`');
  const command = fileURLToPath(new URL('../../../dist/cli/tweed.js', import.meta.url));
  await access(command).catch(() => {
    throw new Error(`${command} is not there; run \`npm run build\`, or \`npm test\`, which does it when it is due`);
  });
  await sweepLabs();
}
