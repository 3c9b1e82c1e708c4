import { assertBuilt } from '../../support/built.js';
import { sweepLabs } from './lab.js';

/** Before any system test: what all of them need, and no leftovers of a run that was killed. */
export default async function setup(): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new Error('system tests make network namespaces, which needs root; run `npm test`');
  assertBuilt();
  await sweepLabs();
}
