import { TweedError } from '../base/errors.js';
import { silentLogger } from '../base/log.js';
import { openRegistry } from '../subnet/open-registry.js';
import type { Registry } from '../subnet/registry.js';
import { runDirectoryOption } from './commands/shared.js';
import { knownFlags, namesRegistry, readSources } from './known-flags.js';
import { registryOptions } from './options.js';
import { registryFlagNames, selected } from './shared-options.js';

/**
 * Does something with the registry that a command's arguments name, or the running daemon, and closes it again.
 *
 * @throws TweedError also when there is a daemon that does not answer, and nobody says which registry is meant: another than its own
 * would be read for it, or written
 */
export async function withRegistry<Result>(
  args: object,
  work: (registry: Registry) => Promise<Result>,
): Promise<Result> {
  const given = args as Record<string, unknown>;
  const sources = await readSources(runDirectoryOption.default);
  const table = selected(registryFlagNames);
  if (sources.silent !== null && !namesRegistry(given, table, sources)) {
    throw new TweedError(
      'REGISTRY_UNKNOWN',
      `which registry is meant is the daemon's to say, and it does not answer (${sources.silent.message}); name the registry with --etcd-endpoints`,
    );
  }
  const flags = knownFlags(given, registryFlagNames, table, sources);
  const registry = await openRegistry(registryOptions(flags), silentLogger());
  try {
    return await work(registry);
  } finally {
    await registry.close();
  }
}
