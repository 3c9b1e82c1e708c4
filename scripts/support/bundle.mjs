// The programs in dist/: each one file with what it always needs, and one for each thing that it needs only sometimes.
//
// Node takes a third of a millisecond of processor time for every module file that it loads, and etcd's client alone has
// 180. The compiler's own output stays beside them, module by module, for tests and the benchmark. Nothing is shortened:
// a stack trace names our functions, and the maps that lead to the sources are there for `node --enable-source-maps`.
//
// They are CommonJS, which Node loads without its other loader and without a thread: the daemon gives up its privileges before
// Node has threads that could read a file (src/linux/privileges.ts).
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { rolldown } from 'rolldown';

/** By the path below dist/, without the extension; its source has the same one below src/. */
const programs = ['cli/tweed', 'cli/flanneld', 'cli/health', 'encap/datapath/worker', 'lab/probe/agent'];

/**
 * Small things that nearly every command needs, in one file, and those that forwarder threads and the health check need as well in
 * another. Nothing that imports a module of Node's with a price, such as net or crypto: version 24 takes milliseconds for each.
 */
const groups = [
  { name: 'basic', test: /\/src\/base\/(errors|ipv4|json|members|package|switch)\.ts/ },
  {
    name: 'common',
    test: /\/src\/(base\/(first-signals|plural|printable|redact|version)|cli\/(bench-program|commands|exit|flags|nearest|usage)|observe\/(histograms|socket-names)|operator\/format|linux\/network-namespace)\.ts/,
  },
];

/** Writes the programs beside what the compiler made of them, which goes: nobody is to run the slow ones by mistake. */
export async function bundle(project) {
  const output = join(project, 'dist');
  const chunks = join(output, 'bundle');
  rmSync(chunks, { recursive: true, force: true });
  for (const name of programs)
    for (const end of ['js', 'js.map']) rmSync(join(output, `${name}.${end}`), { force: true });
  const build = await rolldown({
    cwd: project,
    input: Object.fromEntries(programs.map((name) => [name, `src/${name}.ts`])),
    platform: 'node',
    // brings a binary, and looks for it beside itself
    external: ['koffi'],
    // yargs would, for a configuration file that extends another; we have none
    transform: { define: { 'import.meta.resolve': 'require.resolve' } },
  });
  await build.write({
    dir: output,
    format: 'cjs',
    entryFileNames: '[name].cjs',
    chunkFileNames: 'bundle/[name].cjs',
    sourcemap: true,
    codeSplitting: { groups },
  });
  await build.close();
  // etcd's client reads the description of its protocol from where it would be beside its own folder of modules
  cpSync(join(project, 'node_modules/etcd3/proto'), join(output, 'proto'), { recursive: true });
}
