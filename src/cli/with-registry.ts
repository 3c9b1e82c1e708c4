import { silentLogger } from '../base/log.js';
import { openRegistry } from '../subnet/open-registry.js';
import type { Registry } from '../subnet/registry.js';
import { registryOptions } from './options.js';
import { daemonFlags, registryFlagNames } from './shared-options.js';

/** Does something with the registry that a command's arguments name, and closes it again. */
export async function withRegistry<Result>(
  args: object,
  work: (registry: Registry) => Promise<Result>,
): Promise<Result> {
  const flags = daemonFlags(args as Record<string, unknown>, registryFlagNames);
  const registry = await openRegistry(registryOptions(flags), silentLogger());
  try {
    return await work(registry);
  } finally {
    await registry.close();
  }
}
