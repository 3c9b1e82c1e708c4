import type { Argv, Options } from 'yargs';
import { runFlags } from './flag-table.js';
import type { Flag } from './flags.js';

/** The daemon's flags that name its registry. */
export const registryFlagNames: readonly string[] = runFlags
  .map(({ name }) => name)
  .filter((name) => name.startsWith('etcd-'));

/** Gives a yargs command some of the daemon's flags, with the same names, variables and defaults. */
export function withDaemonFlags<Arguments>(args: Argv<Arguments>, names: readonly string[]): Argv<Arguments> {
  for (const flag of selected(names)) {
    const standard = flag.default === '' || flag.kind === 'strings' ? '' : `, default ${flag.default}`;
    // yargs gets no default, or one could not tell a value that was given from one that was not; and numbers are read
    // from their text, as the daemon reads them.
    args.option(flag.name, {
      ...shapes[flag.kind],
      describe: `${flag.help} (${flag.env}; else the running daemon’s${standard})`,
    });
  }
  return args;
}

const shapes: Readonly<Record<Flag['kind'], Options>> = {
  string: { type: 'string', requiresArg: true },
  integer: { type: 'string', requiresArg: true },
  boolean: { type: 'boolean' },
  strings: { type: 'string', array: true, nargs: 1 },
};

/** Some of the daemon's flags. */
export function selected(names: readonly string[]): Flag[] {
  return runFlags.filter(({ name }) => names.includes(name));
}
