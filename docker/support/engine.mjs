// A Docker engine of our own, beside any other on the machine: its own containerd, data, socket and cgroup.
// It makes no bridge and no firewall rule and leaves the machine's forwarding as it is; networks reach only their containers.
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
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { findProgram } from '../../scripts/support/run.mjs';

/** No engine, or none with the images to begin with, can be had on this machine; the message says why. */
export class NoEngineError extends Error {}

const cgroupFolder = '/sys/fs/cgroup';
const startPatienceMs = 30_000;
const stopPatienceMs = 30_000;

/**
 * @typedef {object} Engine
 * @property {NodeJS.ProcessEnv} env what makes docker and compose talk to this engine
 * @property {string} version
 * @property {() => Promise<void>} stop removes everything that was made with it
 */

/** @returns {Promise<Engine>} */
export async function startEngine() {
  const folder = mkdtempSync(join(roomyFolder(), 'tweed-engine-'));
  const name = folder.slice(folder.lastIndexOf('/') + 1);
  const mountsBefore = new Set(listMounts());
  const daemons = [];
  const env = clientEnvironment(folder);
  const stop = async () => {
    removeObjects(env);
    for (const daemon of daemons.reverse()) await daemon.stop();
    for (const mount of listMounts().reverse()) {
      const ours = mount.startsWith(`${folder}/`) || mount.startsWith('/run/docker/netns/');
      if (ours && !mountsBefore.has(mount)) spawnSync('umount', [mount]);
    }
    removeCgroups(name);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    daemons.push(await startContainerd(folder));
    daemons.push(await startDockerd(folder, name, env));
    const { stdout } = spawnSync('docker', ['version', '--format', '{{.Server.Version}}'], { env, encoding: 'utf8' });
    return { env, version: stdout.trim(), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Where images are kept: in memory, where there is plenty of it, and a thousand small files come and go quickly. */
export function roomyFolder() {
  const enough = 8 * 2 ** 30; // bytes; an engine with all of the lab's images takes about a fifth of it
  if (freemem() < enough || !existsSync('/dev/shm')) return tmpdir();
  const { bavail, bsize } = statfsSync('/dev/shm');
  return bavail * bsize < enough ? tmpdir() : '/dev/shm';
}

/** dockerd would use the system's containerd where one runs, and share its containers with the system's engine. */
function startContainerd(folder) {
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
  return startDaemon(['containerd', '--config', config], folder, () => existsSync(socket));
}

function startDockerd(folder, name, env) {
  const config = join(folder, 'dockerd.json');
  writeFileSync(config, '{}\n'); // in place of the system's, whose settings are for the system's engine
  const argv = ['dockerd', '--host', env.DOCKER_HOST, '--containerd', join(folder, 'containerd.sock')];
  argv.push('--config-file', config, '--pidfile', join(folder, 'dockerd.pid'));
  argv.push('--data-root', join(folder, 'data'), '--exec-root', join(folder, 'exec'));
  // systemd's driver would have slices of systemd's; this one has a folder, which we can remove.
  argv.push('--exec-opt', 'native.cgroupdriver=cgroupfs', '--cgroup-parent', `/${name}`);
  argv.push('--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-forward=false');
  const ready = () => spawnSync('docker', ['info'], { env, stdio: 'ignore' }).status === 0;
  return startDaemon(argv, folder, ready);
}

/** Starts a daemon and waits until it is ready. */
async function startDaemon(argv, folder, ready) {
  const [program, ...args] = argv;
  const logPath = join(folder, `${program}.log`);
  const log = openSync(logPath, 'a');
  const child = spawn(findProgram(program) ?? program, args, { stdio: ['ignore', log, log], cwd: folder });
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

/** One folder in each hierarchy of cgroups version 1, one in all with version 2. */
function removeCgroups(name) {
  const hierarchies = readdirSync(cgroupFolder).map((entry) => join(cgroupFolder, entry));
  for (const hierarchy of [cgroupFolder, ...hierarchies]) removeFolders(join(hierarchy, name));
}

function removeFolders(folder) {
  if (!existsSync(folder)) return;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) removeFolders(join(folder, entry.name));
  }
  rmdirSync(folder);
}
