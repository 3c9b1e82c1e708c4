// npm run build: compiles src/ to dist/, bundles the programs, and notes what it was made of, so that nobody tests or runs
// an older one unawares.
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hasOrphans, listSources, output, writeStamp } from './support/build-stamp.mjs';
import { bundle } from './support/bundle.mjs';

const project = fileURLToPath(new URL('../', import.meta.url));
const steps = [
  ['tsc', '-p', '.'],
  ['asc', 'src/encap/wire/wasm/checksum.ts', '--config', 'src/encap/wire/wasm/asconfig.json'],
];

const sources = listSources();
// The compiler does not remove what came from a file that is gone, nor write again what it believes to be there.
if (hasOrphans()) rmSync(output, { recursive: true, force: true });
// Files are written also when types do not fit, so the other steps follow and the stamp says what is there.
const failed = steps.filter(([program, ...args]) => {
  const path = join(project, 'node_modules/.bin', program);
  return spawnSync(path, args, { cwd: project, stdio: 'inherit' }).status !== 0;
});
await bundle(project);
writeStamp(sources, failed.length === 0);
process.exitCode = failed.length === 0 ? 0 : 1;
