import { fileURLToPath } from 'node:url';
import { messageOf } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { redactUrls } from '../base/redact.js';
import { RegistryOptionsError } from './errors.js';
import type { EtcdRegistryOptions } from './etcd/etcd-registry.js';
import { OpeningRegistry } from './opening-registry.js';
import type { Registry } from './registry.js';

/** `endpoints` are etcd URLs, or one `file:///directory`; the rest is for etcd. */
export type RegistryOptions = EtcdRegistryOptions;

/**
 * Opens the registry that the endpoints name: `file:///path` for the embedded one (alone), anything else for etcd.
 * An empty text counts as not given, as with flanneld's flags; but for the prefix, where it is a place like others. Nothing is contacted yet. The code of the other kind is not
 * loaded: etcd's alone takes longer than all the rest.
 *
 * @throws RegistryOptionsError when the options contradict each other.
 */
export async function openRegistry(given: RegistryOptions, log: Logger): Promise<Registry> {
  const options = withoutEmpty(given);
  const [first = ''] = options.endpoints;
  if (!options.endpoints.some((endpoint) => endpoint.startsWith('file:'))) {
    const { EtcdRegistry } = await import('./etcd/etcd-registry.js');
    return new EtcdRegistry(options, log);
  }
  if (options.endpoints.length > 1) {
    throw new RegistryOptionsError('a file: registry is given beside other endpoints; give it alone');
  }
  const { DirectoryRegistry } = await import('./directory/directory-registry.js');
  try {
    return new DirectoryRegistry({ directory: fileURLToPath(first) }, log);
  } catch (error) {
    throw new RegistryOptionsError(`${first}: ${messageOf(error)}; write file:///absolute/path`);
  }
}

/** The same, but its code is loaded by the first call, which also throws what `openRegistry` does. */
export function openRegistryLater(given: RegistryOptions, log: Logger): Registry {
  return new OpeningRegistry(given.endpoints.map(redactUrls).join(', '), () => openRegistry(given, log));
}

function withoutEmpty(options: RegistryOptions): RegistryOptions {
  const { endpoints, ...others } = options;
  return {
    endpoints,
    ...Object.fromEntries(Object.entries(others).filter(([name, value]) => name === 'prefix' || value !== '')),
  };
}
