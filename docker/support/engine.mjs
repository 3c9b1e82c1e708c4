// A Docker engine of our own, beside any other on the machine: its own containerd, data, socket and cgroup.
import { spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { freemem, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { findProgram } from '../../scripts/support/run.mjs';

/** No engine, or none with the images to begin with, can be had on this machine; the message says why. */
export class NoEngineError extends Error {}

const folderPrefix = 'tweed-engine-';
/** docker-compose.yml's name for it. */
export const labBridge = 'tweed-underlay';
const cgroupFolder = '/sys/fs/cgroup';
const startPatienceMs = 30_000;
const stopPatienceMs = 30_000;

/**
 * @typedef {object} Engine
 * @property {NodeJS.ProcessEnv} env what makes docker and compose talk to this engine
 * @property {string} version
 * @property {() => Promise<void>} stop removes everything that was made with it
 */

/** No bridge of its own and no firewall rule; the machine's forwarding stays as it is. Networks reach only their containers. */
const secluded = ['--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-forward=false'];

/**
 * @param {object} [place]
 * @param {string[]} [place.inside] words that start a program elsewhere, such as in a network namespace
 * @param {string[]} [place.options] of dockerd's, for its network
 * @returns {Promise<Engine>}
 */
export async function startEngine({ inside = [], options = secluded } = {}) {
  const folder = mkdtempSync(join(roomyFolder(), `${folderPrefix}${process.pid}-`));
  const mountsBefore = new Set(listMounts());
  const daemons = [];
  const env = clientEnvironment(folder);
  const stop = async () => {
    removeObjects(env);
    for (const daemon of daemons.reverse()) await daemon.stop();
    for (const mount of listMounts().filter((path) => !mountsBefore.has(path))) {
      if (mount.startsWith('/run/docker/netns/')) spawnSync('umount', [mount]);
    }
    removeFolder(folder);
  };
  try {
    daemons.push(await startContainerd(folder, inside));
    daemons.push(await startDockerd(folder, env, inside, options));
    const { stdout } = spawnSync('docker', ['version', '--format', '{{.Server.Version}}'], { env, encoding: 'utf8' });
    return { env, version: stdout.trim(), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Removes the engines of programs that were killed before they could do so, and the bridges of the compose lab on them. */
export async function sweepEngines() {
  for (const root of ['/dev/shm', tmpdir()].filter((path) => existsSync(path))) {
    for (const name of readdirSync(root).filter((entry) => entry.startsWith(folderPrefix))) {
      const owner = name.slice(folderPrefix.length).split('-')[0];
      if (existsSync(`/proc/${owner}`)) continue;
      const folder = join(root, name);
      let pids = processesOf(folder);
      for (; pids.length > 0; pids = processesOf(folder)) {
        for (const pid of pids) kill(pid);
        await delay(50);
      }
      spawnSync('ip', ['link', 'delete', labBridge], { stdio: 'ignore' });
      removeFolder(folder);
    }
  }
}

/** What runs for an engine: everything in its cgroup, and the programs that have its folder among their words. */
function processesOf(folder) {
  const inside = cgroupsOf(folder).flatMap((cgroup) =>
    readdirSync(cgroup, { recursive: true })
      .filter((path) => path.endsWith('cgroup.procs'))
      .flatMap((path) => readFileSync(join(cgroup, path), 'utf8').split('\n').filter(Boolean)),
  );
  const named = readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`${folder}/`);
    } catch {
      return false; // ended meanwhile
    }
  });
  return [...new Set([...inside, ...named])].map(Number);
}

function kill(pid) {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {} // it ended by itself
}

function removeFolder(folder) {
  for (const mount of listMounts().reverse()) if (mount.startsWith(`${folder}/`)) spawnSync('umount', [mount]);
  for (const cgroup of cgroupsOf(folder)) removeCgroup(cgroup);
  rmSync(folder, { recursive: true, force: true });
}

/** Where images are kept: in memory, where there is plenty of it, and a thousand small files come and go quickly. */
export function roomyFolder() {
  const enough = 8 * 2 ** 30; // bytes; an engine with all of the lab's images takes about a fifth of it
  if (freemem() < enough || !existsSync('/dev/shm')) return tmpdir();
  const { bavail, bsize } = statfsSync('/dev/shm');
  return bavail * bsize < enough ? tmpdir() : '/dev/shm';
}

/** dockerd would use the system's containerd where one runs, and share its containers with the system's engine. */
function startContainerd(folder, inside) {
  const socket = join(folder, 'containerd.sock');
  const config = join(folder, 'containerd.toml');
  const lines = [
    'version = 2',
    `root = "${join(folder, 'containerd')}"`,
    `state = "${join(folder, 'containerd-state')}"`,
    'disabled_plugins = ["io.containerd.grpc.v1.cri"]',
    '[grpc]',
    `address = "${socket}"`,
  ];
  writeFileSync(config, `${lines.join('\n')}\n`);
  return startDaemon('containerd', ['--config', config], folder, inside, () => existsSync(socket));
}

function startDockerd(folder, env, inside, options) {
  const config = join(folder, 'dockerd.json');
  writeFileSync(config, '{}\n'); // in place of the system's, whose settings are for the system's engine
  const argv = ['--host', env.DOCKER_HOST, '--containerd', join(folder, 'containerd.sock')];
  argv.push('--config-file', config, '--pidfile', join(folder, 'dockerd.pid'));
  argv.push('--data-root', join(folder, 'data'), '--exec-root', join(folder, 'exec'));
  // systemd's driver would have slices of systemd's; this one has a folder, which we can remove.
  argv.push('--exec-opt', 'native.cgroupdriver=cgroupfs', '--cgroup-parent', `/${basename(folder)}`);
  argv.push(...options);
  const ready = () => spawnSync('docker', ['info'], { env, stdio: 'ignore' }).status === 0;
  return startDaemon('dockerd', argv, folder, inside, ready);
}

/** Starts a daemon, out of reach of the terminal's Ctrl-C, and waits until it is ready. */
async function startDaemon(program, args, folder, inside, ready) {
  const [first, ...words] = [...inside, findProgram(program) ?? program, ...args];
  const logPath = join(folder, `${program}.log`);
  const log = openSync(logPath, 'a');
  const child = spawn(first, words, { stdio: ['ignore', log, log], cwd: folder, detached: true });
  closeSync(log);
  let ended = false;
  const end = new Promise((resolve) => {
    const settle = () => {
      ended = true;
      resolve();
    };
    child.once('close', settle).once('error', settle);
  });
  const deadline = performance.now() + startPatienceMs;
  while (!ready()) {
    if (!ended && performance.now() < deadline) {
      await delay(100);
      continue;
    }
    child.kill('SIGKILL');
    const tail = readFileSync(logPath, 'utf8').trimEnd().split('\n').slice(-5).join('\n');
    throw new NoEngineError(`${program} ${ended ? 'ended' : 'did not come up'}. Its log ends with:\n${tail}`);
  }
  return {
    async stop() {
      child.kill('SIGTERM');
      await Promise.race([end, delay(stopPatienceMs, undefined, { ref: false })]);
      if (!ended) child.kill('SIGKILL');
      await end;
    },
  };
}

/** The client that came with the engine, and nothing of the user's own settings: contexts, proxies, credentials. */
function clientEnvironment(folder) {
  const config = join(folder, 'client');
  mkdirSync(config);
  const kept = Object.entries(process.env).filter(([name]) => !/^(DOCKER|COMPOSE|BUILDX)_/.test(name));
  return {
    ...Object.fromEntries(kept),
    PATH: `/usr/bin:${process.env.PATH}`,
    DOCKER_HOST: `unix://${join(folder, 'docker.sock')}`,
    DOCKER_CONFIG: config,
    DOCKER_BUILDKIT: '1', // Debian's client of version 20 has it, and builds by the older way unless told so
    TWEED_BUILD_NETWORK: 'host', // the engine's own networks lead nowhere
  };
}

function removeObjects(env) {
  const docker = (...args) => spawnSync('docker', args, { env, encoding: 'utf8', timeout: 30_000 });
  const containers = (docker('ps', '--all', '--quiet').stdout ?? '').split('\n').filter(Boolean);
  if (containers.length > 0) docker('rm', '--force', '--volumes', ...containers);
  docker('network', 'prune', '--force');
}

function listMounts() {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').trimEnd().split('\n');
  return lines.map((line) => line.split(' ')[4]);
}

/** The engine's folder in each hierarchy of cgroups version 1; one in all with version 2. */
function cgroupsOf(folder) {
  const hierarchies = readdirSync(cgroupFolder).map((entry) => join(cgroupFolder, entry));
  return [cgroupFolder, ...hierarchies].map((root) => join(root, basename(folder))).filter((path) => existsSync(path));
}

function removeCgroup(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) removeCgroup(join(folder, entry.name));
  }
  rmdirSync(folder);
}
