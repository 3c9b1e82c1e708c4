import { existsSync } from 'node:fs';

/**
 * A file of this package, named from the folder that holds package.json. So it is found from src/, where the unit tests run
 * it, from dist/, whether as one module of many or inside a bundle, and from the benchmark's own copy of src/.
 */
export function packageFile(path: string): URL {
  let folder = new URL('.', import.meta.url);
  while (!existsSync(new URL('package.json', folder)) && folder.pathname !== '/') folder = new URL('..', folder);
  return new URL(path, folder);
}
