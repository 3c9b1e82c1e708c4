import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The project's folder: the one with package.json, above this file as source and as built. */
export const project = findProject(dirname(fileURLToPath(import.meta.url)));

function findProject(folder: string): string {
  return existsSync(join(folder, 'package.json')) ? folder : findProject(dirname(folder));
}

/** A file of bench/ that is not compiled. */
export function sourceFile(path: string): string {
  return join(project, 'bench', path);
}

/** A compiled program of bench/, given as its path without `.js`. */
export function builtFile(path: string): string {
  return join(project, 'dist-bench', 'bench', `${path}.js`);
}
