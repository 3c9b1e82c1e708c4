import type { Argv, Options } from 'yargs';
import { runFlags } from './flag-table.js';
import { type Flag, type ResolvedFlags, resolveValues } from './flags.js';

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
    args.option(flag.name, { ...shapes[flag.kind], describe: `${flag.help} (${flag.env}${standard})` });
  }
  return args;
}

const shapes: Readonly<Record<Flag['kind'], Options>> = {
  string: { type: 'string', requiresArg: true },
  integer: { type: 'string', requiresArg: true },
  boolean: { type: 'boolean' },
  strings: { type: 'string', array: true, nargs: 1 },
};

/**
 * The values of a table of the daemon's flags: from the arguments, as far as they are among `names`, else from the
 * environment, else the defaults. @throws OptionError
 */
export function daemonFlags(
  args: Readonly<Record<string, unknown>>,
  names: readonly string[],
  table: readonly Flag[] = selected(names),
): ResolvedFlags {
  const given = new Map(names.map((name) => [name, [args[name] ?? []].flat().map(String)]));
  return resolveValues(table, given, process.env);
}

function selected(names: readonly string[]): Flag[] {
  return runFlags.filter(({ name }) => names.includes(name));
}
