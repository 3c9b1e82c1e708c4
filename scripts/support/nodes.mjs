// Other versions of Node than the one in use. They come as npm packages that carry the binary, and are kept in the user's
// cache, not among the dependencies.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { npm, run, SetupError, say } from './run.mjs';

/**
 * @param {string} version a major version, or more of it
 * @param {string} [architecture] as `process.arch` has it
 * @returns {Promise<string>} the path of that version's node
 */
export async function ensureNode(version, architecture = process.arch) {
  const name = architecture === process.arch ? `node-${version}` : `node-${version}-${architecture}`;
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'tweed', name);
  const packageName = `node-linux-${architecture}`;
  const binary = join(cache, 'node_modules', packageName, 'bin', 'node');
  if (existsSync(binary)) return binary;
  mkdirSync(cache, { recursive: true });
  writeFileSync(join(cache, 'package.json'), '{ "private": true }\n');
  say(`• installing Node ${version} to ${cache}`);
  // another architecture's is what is wanted
  const force = architecture === process.arch ? [] : ['--force'];
  const argv = npm('install', '--no-audit', '--no-fund', '--loglevel=error', ...force, `${packageName}@${version}`);
  if ((await run(argv, { cwd: cache })) !== 0) throw new SetupError(`Node ${version} could not be installed`);
  return binary;
}
