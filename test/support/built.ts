import { staleBuild } from '../../scripts/support/build-stamp.mjs';

/** For tests that load dist/: an older build would have them test code that nobody has any longer. */
export function assertBuilt(which?: RegExp): void {
  const reason = staleBuild(which);
  if (reason !== null) throw new Error(`${reason}; run \`npm run build\``);
}
