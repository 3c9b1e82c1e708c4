// What dist/ was made of: every file that the build reads, with its size and the time of its last change.
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const project = fileURLToPath(new URL('../../', import.meta.url));
export const output = join(project, 'dist');
const stamp = join(output, '.built.json');

/**
 * Why dist/ is not what src/ would give now, or null when it is.
 *
 * @param {RegExp} [which] looks only at the sources whose path from the project's folder matches
 */
export function staleBuild(which = /^/) {
  const built = readStamp();
  if (built === null) return 'dist/ is not there, or was not made by `npm run build`';
  const now = listSources();
  const paths = [...new Set([...Object.keys(built.sources), ...Object.keys(now)])].filter((path) => which.test(path));
  const changed = paths.find((path) => built.sources[path] !== now[path]);
  return changed === undefined ? null : `${changed} was changed after dist/ was built`;
}

/** Did the last build compile without an error? */
export function builtCleanly() {
  return readStamp()?.clean === true;
}

/** Is there something in dist/ whose source may be gone? */
export function hasOrphans() {
  const built = readStamp();
  const now = listSources();
  return built === null || Object.keys(built.sources).some((path) => !(path in now));
}

/** @param sources as they were before the build: what is changed meanwhile may not be in it */
export function writeStamp(sources, clean) {
  mkdirSync(output, { recursive: true });
  writeFileSync(stamp, JSON.stringify({ clean, sources }));
}

function readStamp() {
  try {
    const built = JSON.parse(readFileSync(stamp, 'utf8'));
    return typeof built.sources === 'object' ? built : null;
  } catch {
    return null; // never built, or not by us
  }
}

export function listSources() {
  const files = readdirSync(join(project, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name));
  files.push(...['package-lock.json', 'tsconfig.json'].map((name) => join(project, name)));
  return Object.fromEntries(
    files.sort().map((path) => {
      const { size, mtimeMs } = statSync(path);
      return [path.slice(project.length), `${size} ${mtimeMs}`];
    }),
  );
}
