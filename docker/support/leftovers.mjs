// What an engine of our own could leave on a machine.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { compareSnapshots, takeSnapshot } from '../../scripts/support/host-snapshot.mjs';

const engineFolder = 'tweed-engine-';

/** The root namespace's network, and everything else by which an engine shows: mounts, cgroups, processes, files. */
export function takeMachineSnapshot() {
  return { ...takeSnapshot(), mounts: mounts(), cgroups: cgroups(), processes: processes(), files: files() };
}

/** @returns {string[]} one line for each difference */
export function findLeftovers(before) {
  // Of another engine, which ended meanwhile, or of a lab in namespaces, with which engines have nothing to do.
  const ofAnother = /^(- (mounts|cgroups|processes|files)|[+-] namespaces):/;
  return compareSnapshots(before, takeMachineSnapshot()).filter((line) => !ofAnother.test(line));
}

function mounts() {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4])
    .filter((mount) => mount !== undefined && (mount.includes(engineFolder) || mount.startsWith('/run/docker/')));
}

function cgroups() {
  const folder = '/sys/fs/cgroup';
  const entries = readdirSync(folder, { withFileTypes: true });
  const inside = entries.filter((entry) => entry.isDirectory()).flatMap(({ name }) => readdirSync(`${folder}/${name}`));
  return [...entries.map(({ name }) => name), ...inside].filter((name) => name.includes(engineFolder));
}

function processes() {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').join(' ').trim();
        return command.includes(engineFolder) ? [`${pid} ${command}`] : [];
      } catch {
        return []; // ended meanwhile
      }
    });
}

function files() {
  const folders = [tmpdir(), '/dev/shm'].filter((folder) => existsSync(folder));
  return folders.flatMap((folder) => readdirSync(folder)).filter((name) => /^tweed-(engine|node|debian)-/.test(name));
}
