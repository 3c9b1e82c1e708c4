// npm run lab: sets up what is due, then brings a lab up, tests it and shows it. With options, such as --kernel-path direct,
// the lab is made with them; with a command and its arguments: tweed lab ARGUMENTS.
import { join } from 'node:path';
import { project, run, say } from './support/run.mjs';
import { main, setupProject, setupRoot } from './support/setup.mjs';

/** The words of `--name`, which every command of a lab takes. */
function nameOf(words) {
  const at = words.findIndex((word) => word === '--name' || word.startsWith('--name='));
  if (at < 0) return [];
  return words.slice(at, words[at] === '--name' ? at + 2 : at + 1);
}

await main(async (args) => {
  await setupProject();
  const root = await setupRoot('lab');
  const lab = (...words) => run([...root, process.execPath, join(project, 'dist/cli/tweed.cjs'), 'lab', ...words]);
  const name = nameOf(args);
  const first = args[args[0] === name[0] ? name.length : 0]; // a name may stand before the command
  if (args.includes('--help') || (first !== undefined && !first.startsWith('-'))) return lab(...args);
  let status = await lab('up', '--no-hints', ...args);
  if (status !== 0) return status;
  say('\nEvery container to every other one:');
  status = await lab('test', ...name);
  say('');
  await lab('status', ...name);
  const [{ formatHints }, { defaultLabName }] = await Promise.all(
    ['hints', 'names'].map((module) => import(join(project, `dist/lab/${module}.js`))),
  );
  say(`\n${formatHints(name.at(-1)?.replace('--name=', '') ?? defaultLabName)}`);
  return status;
});
