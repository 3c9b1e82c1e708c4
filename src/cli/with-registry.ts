import { silentLogger } from '../base/log.js';
import { openRegistry } from '../subnet/open-registry.js';
import type { Registry } from '../subnet/registry.js';
import { runDirectoryOption } from './commands/shared.js';
import { knownFlags, readSources } from './known-flags.js';
import { registryOptions } from './options.js';
import { registryFlagNames, selected } from './shared-options.js';

/** Does something with the registry that a command's arguments name, and closes it again. */
export async function withRegistry<Result>(
  args: object,
  work: (registry: Registry) => Promise<Result>,
): Promise<Result> {
  const given = args as Record<string, unknown>;
  const sources = await readSources(runDirectoryOption.default);
  const flags = knownFlags(given, registryFlagNames, selected(registryFlagNames), sources);
  const registry = await openRegistry(registryOptions(flags), silentLogger());
  try {
    return await work(registry);
  } finally {
    await registry.close();
  }
}
