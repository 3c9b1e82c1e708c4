/**
 * Values that a command was not given, as the running daemon has them; where none runs, as its environment file has them.
 *
 * Order: the arguments, this shell's variables, the daemon over its status socket, /etc/tweed.env, flanneld's defaults. A
 * password is never told by the daemon; it comes from the variable or from the file.
 */
import { parseEnvFile } from '../base/env-file.js';
import { readTextFile } from '../base/text-file.js';
import type { Setting } from '../observe/settings.js';
import { type DaemonChoice, daemonSettings, SilentDaemonError } from '../operator/status-client.js';
import { type Flag, type ResolvedFlags, resolveValues } from './flags.js';

/** What the service's unit reads. */
export const ENVIRONMENT_FILE = '/etc/tweed.env';

/** Whoever names the servers means them as they are named, not with another daemon's prefix or certificates. */
const REGISTRY = 'etcd-endpoints';

type Environment = Readonly<Record<string, string | undefined>>;

export interface Sources {
  readonly environment: Environment;
  /** Null when no daemon answers. */
  readonly settings: readonly Setting[] | null;
  /** A daemon that has other settings, perhaps, and does not say so; null where none is silent. */
  readonly silent: SilentDaemonError | null;
  readonly file: Environment;
}

/** The variables of a file; empty where there is none, or it may not be read. */
export async function readEnvironmentFile(path: string = ENVIRONMENT_FILE): Promise<Environment> {
  return readTextFile(path).then(
    (text) => Object.fromEntries(parseEnvFile(text)),
    () => ({}),
  );
}

/** Asks the daemon and reads the file. */
export async function readSources(runDirectory: string, choice: DaemonChoice = {}): Promise<Sources> {
  let silent: SilentDaemonError | null = null;
  const [settings, file] = await Promise.all([
    daemonSettings(runDirectory, { ...choice, namespace: 'own' }).catch((error: unknown) => {
      if (error instanceof SilentDaemonError) silent = error;
      return null;
    }),
    readEnvironmentFile(),
  ]);
  return { environment: process.env, settings, silent, file };
}

/** Is it said which registry is meant, by the arguments or this shell's variables? */
export function namesRegistry(
  args: Readonly<Record<string, unknown>>,
  table: readonly Flag[],
  { environment }: Sources,
) {
  const env = table.find(({ name }) => name === REGISTRY)?.env;
  return [args[REGISTRY] ?? []].flat().length > 0 || Boolean(env && environment[env]);
}

/**
 * The values of a table of the daemon's flags.
 *
 * @param names those that may be among the arguments
 * @throws OptionError
 */
export function knownFlags(
  args: Readonly<Record<string, unknown>>,
  names: readonly string[],
  table: readonly Flag[],
  sources: Sources,
): ResolvedFlags {
  const { environment, settings, file } = sources;
  const given = new Map(names.map((name) => [name, [args[name] ?? []].flat().map(String)]));
  const isTold = ({ name, env }: Flag) => (given.get(name)?.length ?? 0) > 0 || Boolean(env && environment[env]);
  const ownRegistry = namesRegistry(args, table, sources);
  const told = new Map((settings ?? []).map(({ name, value }) => [name, [value].flat().map(String)]));
  const more: Record<string, string | undefined> = {};
  for (const flag of table) {
    const { name, env } = flag;
    if (isTold(flag) || (ownRegistry && name.startsWith('etcd-'))) continue;
    const values = told.get(name)?.filter((text) => text !== '');
    const isSecret = flag.show?.('x') === flag.show?.('y') && flag.show !== undefined;
    if (settings !== null && !isSecret) {
      if (values !== undefined && values.length > 0) given.set(name, values);
    } else if (env !== undefined && file[env]) more[env] = file[env];
  }
  return resolveValues(table, given, { ...more, ...defined(environment) });
}

function defined(environment: Environment): Environment {
  return Object.fromEntries(Object.entries(environment).filter(([, value]) => value));
}
