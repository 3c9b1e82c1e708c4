// Starting programs, and who they run as.
import { spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The project's folder. */
export const project = fileURLToPath(new URL('../../', import.meta.url));

// Debian and others keep ip, iptables and nft where the PATH of an ordinary user does not look.
const systemFolders = ['/usr/local/sbin', '/usr/sbin', '/sbin'];
const folders = new Set([...(process.env.PATH ?? '').split(delimiter), ...systemFolders]);
process.env.PATH = [...folders].join(delimiter);

/** @returns {string | null} the program's path, as the shell would find it */
export function findProgram(program) {
  for (const folder of folders) {
    const path = join(folder, program);
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {} // not in this one
  }
  return null;
}

/** Ends the command with one clear error. */
export class SetupError extends Error {}

export function say(text) {
  process.stdout.write(`${text}\n`);
}

/** As the lab says it: what was done, and how long it took. */
export function sayTime(what, started) {
  say(`✓ ${((performance.now() - started) / 1000).toFixed(2).padStart(6)} s  ${what}`);
}

/**
 * Runs a program with our own terminal and waits for its end.
 *
 * Ctrl-C reaches the program too, which ends in its own order; we wait for that.
 *
 * @returns {Promise<number>} its exit status; 128 and more when a signal ended it
 */
export function run(argv, options = {}) {
  const [program, ...args] = argv;
  const ignore = () => {};
  process.on('SIGINT', ignore);
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: project, stdio: 'inherit', ...options });
    const forward = () => child.kill('SIGTERM');
    process.on('SIGTERM', forward);
    child.on('error', (error) => reject(new SetupError(`${program} could not be started: ${error.message}`)));
    child.on('close', (status, signal) => {
      process.off('SIGINT', ignore).off('SIGTERM', forward);
      resolve(status ?? (signal === 'SIGINT' ? 130 : 143));
    });
  });
}

/** The words that run npm, also when only npm itself is known to our caller. */
export function npm(...args) {
  const path = process.env.npm_execpath;
  if (path?.endsWith('.js')) return [process.execPath, path, ...args];
  return [findProgram('npm') ?? 'npm', ...args];
}

/**
 * How to run what writes into the project's folder.
 *
 * Root in a folder of somebody else's does it as the owner: files of root there could not be replaced by the owner later.
 */
export function asOwner() {
  if (process.getuid() !== 0) return {};
  const { uid, gid } = statSync(project);
  if (uid === 0) return {};
  // The owner may be unable to get at the folder, for instance below /root.
  const reachable = spawnSync(process.execPath, ['-e', 'fs.accessSync(".", fs.constants.W_OK)'], {
    cwd: project,
    uid,
    gid,
  });
  if (reachable.status !== 0) return {};
  const home = homeOf(uid) ?? '/nonexistent';
  const env = { ...process.env, HOME: home };
  // Our own npm passes its folders on, which are root's.
  for (const name of ['npm_config_cache', 'npm_config_userconfig']) delete env[name];
  if (!isWritableBy(home, uid, gid)) env.npm_config_cache = join(project, 'node_modules', '.cache', 'npm');
  return { uid, gid, env };
}

function isWritableBy(path, uid, gid) {
  const code = 'fs.accessSync(process.argv[1], fs.constants.W_OK)';
  return spawnSync(process.execPath, ['-e', code, path], { cwd: '/', uid, gid }).status === 0;
}

function homeOf(uid) {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((candidate) => candidate.split(':')[2] === String(uid));
  return line?.split(':')[5] ?? null;
}

let sudoWorks;

/**
 * How to become root.
 *
 * @returns {{ prefix: string[] } | { why: string }} the words to put before a command, or why there are none
 */
export function rootAccess() {
  if (process.getuid() === 0) return { prefix: [] };
  const byNpm = startedByRoot();
  if (findProgram('sudo') === null) {
    if (byNpm) {
      return {
        why: `npm was started by root but runs scripts as the folder's owner; start \`${byNpm}\` as root instead`,
      };
    }
    return { why: 'you are not root and sudo is not installed; run the command again as root' };
  }
  sudoWorks ??= spawnSync('sudo', ['-n', 'true'], { stdio: 'ignore' }).status === 0;
  if (!sudoWorks && !process.stdin.isTTY) {
    return { why: 'sudo asks for a password and there is no terminal to ask on; run the command again as root' };
  }
  const kept = ['CI', 'FORCE_COLOR', 'NO_COLOR'].filter((name) => process.env[name] !== undefined);
  return { prefix: ['sudo', 'env', ...kept.map((name) => `${name}=${process.env[name]}`)] };
}

/** npm before version 9, started by root, gives its scripts the uid of the folder's owner. */
function startedByRoot() {
  for (let pid = process.ppid; pid > 1; ) {
    let status;
    try {
      status = readFileSync(`/proc/${pid}/status`, 'utf8');
    } catch {
      return null;
    }
    if (/^Name:\tnpm/m.test(status)) return /^Uid:\t0\t/m.test(status) ? `node ${process.argv[1]}` : null;
    pid = Number(/^PPid:\t(\d+)/m.exec(status)?.[1] ?? 0);
  }
  return null;
}
