// The node packages and the build: when they are due, and how to get them.
import { accessSync, constants, existsSync, lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { builtCleanly, output, staleBuild } from './build-stamp.mjs';
import { asOwner, npm, project, rootAccess, run, SetupError, say, sayTime } from './run.mjs';

const modules = join(project, 'node_modules');

/** Makes node_modules agree with package-lock.json. */
export async function ensurePackages() {
  const reason = packagesDue();
  if (reason === null) return;
  if (existsSync(modules) && lstatSync(modules).isSymbolicLink()) {
    throw new SetupError(`${reason}, and node_modules is a link: run \`npm ci\` where it leads to`);
  }
  await ensureWritable(modules);
  const started = performance.now();
  say(`• node packages: ${reason}; npm ci, half a minute where they come from near`);
  // No package needs its install script: koffi brings its binaries, and nothing is compiled on this machine.
  const status = await run(npm('ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'), asOwner());
  if (status !== 0) throw new SetupError('npm ci failed; its messages are above');
  sayTime('node packages', started);
}

/** Compares the lock file with npm's own record of what it has installed. */
function packagesDue() {
  const wanted = JSON.parse(readFileSync(join(project, 'package-lock.json'), 'utf8')).packages;
  let installed;
  try {
    installed = JSON.parse(readFileSync(join(modules, '.package-lock.json'), 'utf8')).packages;
  } catch {
    return 'not installed yet';
  }
  for (const [path, { version, optional }] of Object.entries(wanted)) {
    if (path === '' || (optional && installed[path] === undefined)) continue; // made for another machine
    if (installed[path]?.version !== version) return `${path.replace('node_modules/', '')} is due`;
  }
  return null;
}

/** Builds dist/ when a source file is another one than at the last build. */
export async function ensureBuilt() {
  if (staleBuild() === null && builtCleanly()) return;
  await ensureWritable(output);
  const started = performance.now();
  say('• build: some 15 s, on a busy machine a minute');
  if ((await run(npm('run', '--silent', 'build', '--', '--tell'), asOwner())) !== 0)
    throw new SetupError('the build failed; its messages are above');
  sayTime('build', started);
}

/** Files that root left here keep npm and the compiler from replacing them; they are given back to us. */
async function ensureWritable(folder) {
  if (!existsSync(folder) || process.getuid() === 0) return;
  const foreign = [folder, ...readdirSync(folder).map((name) => join(folder, name))].some((path) => {
    try {
      accessSync(path, constants.W_OK);
      return false;
    } catch (error) {
      return error.code === 'EACCES';
    }
  });
  if (!foreign) return;
  const chown = ['chown', '-R', `${process.getuid()}:${process.getgid()}`, folder];
  const root = rootAccess();
  if ('why' in root) throw new SetupError(`${folder} belongs to somebody else; run as root: ${chown.join(' ')}`);
  say(`• ${folder} holds files of root; they become yours again`);
  if ((await run([...root.prefix, ...chown])) !== 0) throw new SetupError(`${chown.join(' ')} failed`);
}
