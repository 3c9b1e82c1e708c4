// npm run build: compiles src/ to dist/, bundles the programs, and notes what it was made of, so that nobody tests or runs
// an older one unawares. With --tell it says how far it is.
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hasOrphans, listSources, output, writeStamp } from './support/build-stamp.mjs';
import { bundle } from './support/bundle.mjs';
import { sayTime } from './support/run.mjs';

const project = fileURLToPath(new URL('../', import.meta.url));
const tell = process.argv.includes('--tell');
const steps = [
  ['the compiler', 'tsc', '-p', '.'],
  [
    'the checksums in WebAssembly',
    'asc',
    'src/encap/wire/wasm/checksum.ts',
    '--config',
    'src/encap/wire/wasm/asconfig.json',
  ],
];

const sources = listSources();
// The compiler does not remove what came from a file that is gone, nor write again what it believes to be there.
if (hasOrphans()) rmSync(output, { recursive: true, force: true });
// Files are written also when types do not fit, so the other steps follow and the stamp says what is there.
const failed = steps.filter(([what, program, ...args]) => {
  const started = performance.now();
  const path = join(project, 'node_modules/.bin', program);
  const { status } = spawnSync(path, args, { cwd: project, stdio: 'inherit' });
  if (tell) sayTime(`build: ${what}`, started);
  return status !== 0;
});
await bundle(project);
writeStamp(sources, failed.length === 0);
process.exitCode = failed.length === 0 ? 0 : 1;
