// What every command of the project does first: node packages, build, system tools, each only when it is due.
import { ensureBuilt, ensurePackages } from './packages.mjs';
import { rootAccess, SetupError, say } from './run.mjs';
import { ensureTools } from './tools.mjs';

const oldestNode = [20, 19];

/** Enough to compile and to run what needs no root. */
export async function setupProject() {
  if (process.platform !== 'linux')
    throw new SetupError('tweed needs Linux: TUN devices and network namespaces are its own');
  const version = process.versions.node.split('.').map(Number);
  if (version[0] < oldestNode[0] || (version[0] === oldestNode[0] && version[1] < oldestNode[1])) {
    throw new SetupError(`this is Node ${process.versions.node}; tweed needs ${oldestNode.join('.')} or newer`);
  }
  await ensurePackages();
  await ensureBuilt();
}

/**
 * Everything that is needed to run as root, and the words that make a command run so.
 *
 * @param {import('./tools.mjs').Purpose} purpose
 * @returns {Promise<string[]>} the words to put before a command
 */
export async function setupRoot(purpose) {
  const root = rootAccess();
  if ('why' in root) throw new SetupError(`network namespaces need root: ${root.why}`);
  const problems = await ensureTools(purpose);
  if (problems.length > 0) throw new SetupError(problems.join('\n✗ '));
  return root.prefix;
}

/** Runs a command's main function; a failure of the set-up ends it with one clear line. */
export async function main(work) {
  try {
    process.exitCode = await work(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(`✗ ${error.message}`);
    process.exitCode = 1;
  }
}
