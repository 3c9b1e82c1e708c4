// What npm does before it packs: builds, and makes of the build what only a package has: the manual page, the shell's
// completion, and the licences of what the bundles contain.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ensureBuilt } from './support/packages.mjs';
import { project } from './support/run.mjs';
import { main } from './support/setup.mjs';

const output = join(project, 'dist');

await main(async () => {
  await ensureBuilt();
  const load = (path) => import(join(output, 'cli', path));
  const [{ commands }, { collectPages }, { bashCompletion }, { manPage }, { runFlags }] = await Promise.all(
    ['commands.js', 'manual/pages.js', 'manual/completion.js', 'manual/man-page.js', 'flag-table.js'].map(load),
  );
  // the benchmark needs the checkout that it measures
  const pages = await collectPages(commands.filter(({ name }) => name !== 'bench'));
  const { version } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8'));
  write('man/tweed.8', manPage(pages, runFlags, version));
  write('completion/tweed.bash', bashCompletion(pages));
  write('THIRD-PARTY.txt', licences());
  return 0;
});

function write(path, text) {
  mkdirSync(dirname(join(output, path)), { recursive: true });
  writeFileSync(join(output, path), text);
}

/** Of every package that a bundle has a module of: the maps name them. koffi stays beside the bundles, with its own. */
function licences() {
  const folders = new Set();
  for (const name of readdirSync(join(output, 'bundle')).filter((each) => each.endsWith('.map'))) {
    for (const source of JSON.parse(readFileSync(join(output, 'bundle', name), 'utf8')).sources) {
      const at = source.lastIndexOf('node_modules/');
      if (at < 0) continue;
      const within = source.slice(source.indexOf('node_modules/'));
      const [, folder] = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(within);
      folders.add(folder);
    }
  }
  const texts = [...folders].sort().map((folder) => {
    const path = join(project, folder);
    const { name, version, license } = JSON.parse(readFileSync(join(path, 'package.json'), 'utf8'));
    const files = readdirSync(path).filter((each) => /^(licen[cs]e|copying|notice)/i.test(each));
    const text = files.map((each) => readFileSync(join(path, each), 'utf8').trim()).join('\n\n');
    return `${name} ${version}: ${license}\n\n${text}`;
  });
  return `The programs in this folder contain code of these packages.\n\n${texts.join(`\n\n${'-'.repeat(72)}\n\n`)}\n`;
}
