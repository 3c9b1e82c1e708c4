// The programs in dist/: each one file with what it always needs, and one for each thing that it needs only sometimes.
//
// Node takes a third of a millisecond of processor time for every module file that it loads, and etcd's client alone has
// 180. The compiler's own output stays beside them, module by module, for tests and the benchmark. Nothing is shortened:
// a stack trace names our functions, and the maps that lead to the sources are there for `node --enable-source-maps`.
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { rolldown } from 'rolldown';

/** By the path below dist/, without the extension; its source has the same one below src/. */
const programs = ['cli/tweed', 'cli/flanneld', 'cli/health', 'encap/datapath/worker', 'lab/probe/agent'];

/**
 * Small things that nearly every command needs, in one file. Nothing that imports a module of Node's with a price, such as
 * net or crypto: version 24 takes milliseconds for each.
 */
const common =
  /\/src\/(base\/(errors|ipv4|json|package|plural|redact|switch|version)|cli\/(bench-program|commands|exit|flags|nearest|usage)|observe\/(histograms|socket-names)|operator\/format)\.ts/;

/** Writes the programs over what the compiler made of them. */
export async function bundle(project) {
  const output = join(project, 'dist');
  const chunks = join(output, 'bundle');
  rmSync(chunks, { recursive: true, force: true });
  const build = await rolldown({
    cwd: project,
    input: Object.fromEntries(programs.map((name) => [name, `src/${name}.ts`])),
    platform: 'node',
    // brings a binary, and looks for it beside itself
    external: ['koffi'],
    transform: { define: { __dirname: 'import.meta.dirname' } },
  });
  await build.write({
    dir: output,
    format: 'esm',
    entryFileNames: '[name].js',
    chunkFileNames: 'bundle/[name].js',
    sourcemap: true,
    codeSplitting: { groups: [{ name: 'common', test: common }] },
  });
  await build.close();
  // etcd's client reads the description of its protocol from where it would be beside its own folder of modules
  cpSync(join(project, 'node_modules/etcd3/proto'), join(output, 'proto'), { recursive: true });
}
