import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { compareSnapshots, listProcesses, takeSnapshot } from '../../scripts/support/host-snapshot.mjs';
import { exec } from '../../src/base/exec.js';
import { containerAddresses } from '../../src/lab/containers.js';
import { readSubnet } from '../../src/lab/daemon.js';
import { Lab } from '../../src/lab/lab.js';
import { checkNames, formatMatrix, type MatrixResult } from '../../src/lab/matrix.js';
import { belongsTo } from '../../src/lab/names.js';
import { listNamespaces } from '../../src/lab/namespace.js';
import { patient } from '../../src/lab/patience.js';
import type { Progress } from '../../src/lab/progress.js';
import { LabFiles } from '../../src/lab/state.js';
import type { LabStatus } from '../../src/lab/status.js';
import { waitFor } from '../../src/lab/wait.js';
import { uniqueLabName, useLab } from './support/lab.js';
import { expectPublishes, expectReachesInternet } from './support/lab-checks.js';

const command = fileURLToPath(new URL('../../dist/cli/tweed.cjs', import.meta.url));

/** Runs `tweed lab …` to its end. */
function tweedLab(name: string, ...words: string[]) {
  return tweedLabAmong([], name, ...words);
}

/** The same with folders of programs that are found before the machine's own. */
function tweedLabAmong(folders: readonly string[], name: string, ...words: string[]) {
  const path = [...folders, process.env.PATH].join(':');
  const lab = [process.execPath, command, 'lab', ...words.slice(0, 1), '--name', name, ...words.slice(1)];
  return exec(['env', `PATH=${path}`, ...lab], { tolerate: true, timeoutMs: patient(60_000) });
}

function startTweedLab(name: string, ...words: string[]): ChildProcess {
  return spawn(process.execPath, [command, 'lab', ...words, '--name', name], { stdio: 'ignore' });
}

async function namespacesOf(name: string): Promise<string[]> {
  return (await listNamespaces()).filter((namespace) => belongsTo(name, namespace)).sort();
}

/** The processes that have the lab's folder in their command line: daemons and etcd. */
async function processesOf(name: string): Promise<string[]> {
  const { folder } = await LabFiles.of(name);
  return listProcesses(folder)
    .map(({ command }) => command)
    .filter((command) => command.includes(`${folder}/`));
}

async function expectNothingLeft(name: string): Promise<void> {
  const { folder } = await LabFiles.of(name);
  expect(await namespacesOf(name)).toEqual([]);
  expect(await processesOf(name)).toEqual([]);
  const others = await readdir(dirname(folder)).catch(() => []);
  expect(others.filter((entry) => entry.startsWith(name))).toEqual([]);
}

function expectGreen(result: MatrixResult, pairs: number): void {
  expect(result.ok, formatMatrix(result)).toBe(true);
  expect(result.pairs).toHaveLength(pairs);
}

/** Keeps the notes of the steps, which tell what was repaired. */
function notedProgress(): { progress: Progress; notes: string[] } {
  const notes: string[] = [];
  const progress: Progress = {
    async step(_title, work, note) {
      const result = await work();
      notes.push(note?.(result) ?? '');
      return result;
    },
  };
  return { progress, notes };
}

describe('a lab of three hosts with two containers each', () => {
  const lab = useLab({ ipFamilies: 'dual' });

  it('carries every kind of traffic between every ordered pair of containers, by both families', async () => {
    expectGreen(await lab().test(), 60);
  });

  it('gives containers the MTU of the overlay and the subnet of their host', async () => {
    for (const host of lab().hosts) {
      const subnet = await readSubnet(lab().files, host.name);
      const { stdout } = await lab().exec(`${host.name}/c2`, ['ip', '-json', 'addr', 'show', 'dev', 'eth0']);
      const [link] = JSON.parse(stdout) as [{ mtu: number; addr_info: { local: string }[] }];
      expect(link.mtu).toBe(1452);
      const addresses = link.addr_info.map(({ local }) => local);
      expect(addresses).toEqual(expect.arrayContaining([...containerAddresses(subnet, 2)]));
    }
  });

  it('lets containers reach the internet in the name of their host', () => expectReachesInternet(lab(), 'host2'));

  it('publishes ports of containers on this and on another host', () =>
    expectPublishes(lab(), async (from, to) => {
      expect((await tweedLab(lab().name, 'publish', from, to)).stdout).toContain(to);
    }));

  it('shows its state to people and to programs', async () => {
    const text = await tweedLab(lab().name, 'status');
    expect(text).toMatchObject({ status: 0 });
    for (const { name, addresses } of lab().hosts) expect(text.stdout).toContain(`${name}  ${addresses.join(', ')}  `);
    const status = JSON.parse((await tweedLab(lab().name, 'status', '--json')).stdout) as LabStatus;
    expect(status.healthy).toBe(true);
    expect(status.hosts.map(({ daemon }) => [daemon.ready, daemon.peers])).toEqual(Array(3).fill([true, 2]));
  });

  it('runs commands in its places and passes their status on', async () => {
    const run = (...words: string[]) => tweedLab(lab().name, 'exec', ...words);
    expect((await run('host1/c2', '--', 'ip', 'route')).stdout).toContain('default via 100.96.');
    expect((await run('internet', '--', 'sh', '-c', 'exit 7')).status).toBe(7);
    expect((await run('etcd', '--', 'echo', '--', '1e3', '07', '--help')).stdout).toBe('-- 1e3 07 --help\n');
    expect(await run('host9', '--', 'true')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('has no host9'),
    });
    expect((await run('host1')).stderr).toContain('there is no command');
  });

  it('prints the log of a daemon', async () => {
    expect((await tweedLab(lab().name, 'logs', 'host1')).stdout).not.toBe('');
    expect((await tweedLab(lab().name, 'logs', 'host9')).stderr).toContain('there is no');
  });

  it('is left alone by another up, and refused with other options', async () => {
    const { progress, notes } = notedProgress();
    const pids = await Promise.all(lab().hosts.map(({ name }) => lab().daemonPid(name)));
    await Lab.up({ name: lab().name }, { progress });
    expect(notes).toEqual(['nothing to do']);
    expect(await Promise.all(lab().hosts.map(({ name }) => lab().daemonPid(name)))).toEqual(pids);
    await expect(Lab.up({ name: lab().name, hosts: 4 })).rejects.toThrow(
      /up with other options \(hosts: 3, and not 4\); take it down first \(npm run lab -- down --name \S+\)/,
    );
  });

  it('is not taken for one’s own by the tweed of another checkout', async () => {
    const state = await lab().files.load();
    if (state === null) throw new Error('a lab that is up has a state');
    await lab().files.save({ ...state, program: '/another/checkout/' });
    try {
      await expect(Lab.up({ name: lab().name })).rejects.toMatchObject({
        code: 'LAB_FOREIGN',
        message: expect.stringMatching(
          /the tweed in \/another\/checkout\/, .* or give this one another name \(--name\)$/,
        ),
      });
    } finally {
      await lab().files.save(state);
    }
  });

  it('is repaired by another up: daemon, etcd, bridge and namespaces', async () => {
    const before = await Promise.all(lab().hosts.map(({ name }) => readSubnet(lab().files, name)));
    await lab().stopDaemon('host1', 'SIGKILL');
    await lab().stopEtcd('SIGKILL');
    await lab().exec('host2', ['ip', 'link', 'delete', 'br0']);
    await exec(['ip', 'netns', 'delete', lab().namespace('host3/c1')]);
    await lab().close();
    expect((await lab().status()).healthy).toBe(false);
    const { progress, notes } = notedProgress();
    await Lab.up({ name: lab().name }, { progress });
    expect(notes[0]).toMatch(/started again: etcd, host2's namespaces, host3's namespaces, host1's daemon/);
    expect(await Promise.all(lab().hosts.map(({ name }) => readSubnet(lab().files, name)))).toEqual(before);
    expectGreen(await lab().test({ transferBytes: 100_000 }), 60);
  });
});

const small = { hosts: 2, containers: 1 };

describe('labs that come and go', () => {
  const names: string[] = [];
  const newName = () => {
    const name = uniqueLabName();
    names.push(name);
    return name;
  };
  afterEach(async () => {
    for (const name of names.splice(0)) await Lab.down(name);
  });

  it('leave the root namespace as it was, while they are up and afterwards', async () => {
    const name = newName();
    // The kernel makes some of its switches only when they are first used.
    const before = takeSnapshot();
    const lab = await Lab.up({ name, ...small });
    const { tcp } = await lab.probe('host1/c1').ports();
    await lab.publish({ host: 'host1', hostPort: 80, targetHost: 'host1', targetContainer: 'c1', targetPort: tcp });
    await lab.test({ transferBytes: 100_000 });
    const ours = (line: string) => !line.includes(name);
    const others = (line: string) => !/^[+-] namespaces:/.test(line);
    expect(compareSnapshots(before, takeSnapshot()).filter(ours).filter(others)).toEqual([]);
    await lab.down();
    expect(compareSnapshots(before, takeSnapshot()).filter(others)).toEqual([]);
    await expectNothingLeft(name);
  });

  it('work side by side, with a directory in place of etcd', async () => {
    const [first, second] = await Promise.all([
      Lab.up({ name: newName(), ...small }),
      Lab.up({ name: newName(), ...small, registry: 'directory' }),
    ]);
    expectGreen(await first.test(), 4);
    expectGreen(await second.test(), 4);
    await first.down();
    await expectNothingLeft(first.name);
    expectGreen(await second.test({ transferBytes: 100_000 }), 4);
    await second.down();
    await expectNothingLeft(second.name);
  });

  it('have the MTU of their underlay', async () => {
    const lab = await Lab.up({ name: newName(), ...small, underlayMtu: 9000, network: '10.50.0.0/16' });
    expect((await readSubnet(lab.files, 'host1')).mtu).toBe(8952);
    expectGreen(await lab.test({ largeBytes: 20_000 }), 4);
    await lab.down();
  });

  it.each([
    ['has no IPv6', 'no such file', [], 'this machine has no IPv6'],
    ['has IPv6 switched off for all that is new', 1, [], 'this machine has no IPv6'],
    ['has links too short for IPv6', 0, ['--underlay-mtu', '1300'], 'IPv6 needs an underlay of 1350 bytes or more'],
  ])('have IPv4 alone where the machine %s, and say so', async (_what, disabled, words, reason) => {
    const name = newName();
    const programs = await mkdtemp(join(tmpdir(), 'tweed-programs-'));
    onTestFinished(() => rm(programs, { recursive: true }));
    // in place of the one that looks into a new namespace
    const answer = typeof disabled === 'number' ? `echo ${disabled}` : `echo '${disabled}' >&2; exit 1`;
    await writeFile(join(programs, 'unshare'), `#!/bin/sh\n${answer}\n`, { mode: 0o755 });
    const options = ['--hosts', '1', '--containers', '1', '--registry', 'directory', ...words];
    const up = await tweedLabAmong([programs], name, 'up', ...options);
    expect(up).toMatchObject({ status: 0, stdout: expect.stringContaining(`IPv4 alone: ${reason}\n`) });
    const { hosts } = JSON.parse((await tweedLab(name, 'status', '--json')).stdout) as LabStatus;
    expect(hosts.map(({ addresses, subnets }) => [addresses.length, subnets.length])).toEqual([[1, 1]]);
    if (disabled === 0) return;
    const wanted = await tweedLabAmong([programs], newName(), 'up', ...options, '--ip-families', 'dual');
    expect(wanted).toMatchObject({ status: 1, stderr: expect.stringContaining('this machine has no IPv6; leave') });
  });

  it('that fail half-way leave nothing but the logs, and name them', async () => {
    const name = newName();
    const { logs } = await LabFiles.of(name);
    const result = await tweedLab(name, 'up', '--hosts', '1', '--daemon-args=--no-such-option');
    expect(result.status).toBe(1);
    expect(result.stderr).toContain(`The logs are in ${logs}`);
    expect(result.stderr).toContain('no-such-option');
    expect(await namespacesOf(name)).toEqual([]);
    expect(await processesOf(name)).toEqual([]);
    expect(await tweedLab(name, 'logs', 'host1')).toMatchObject({ stdout: expect.stringContaining('no-such-option') });
    expect((await tweedLab(name, 'down')).stdout).toContain('nothing is left');
    await expectNothingLeft(name);
    expect((await tweedLab(name, 'down')).stdout).toContain('there was none');
  });

  it('that are interrupted take themselves down', async () => {
    const name = newName();
    const up = startTweedLab(name, 'up', '--hosts', '8');
    await waitFor('the first host', async () => (await namespacesOf(name)).includes(`${name}-host1`), { everyMs: 1 });
    const ended = once(up, 'exit');
    up.kill('SIGINT');
    expect(await ended).toEqual([1, null]);
    await expectNothingLeft(name);
  });

  it('that crash half-way are removed by down, and replaced by up', async () => {
    const name = newName();
    const crash = async () => {
      const up = startTweedLab(name, 'up', '--hosts', '8');
      await waitFor('the first daemon', async () => (await processesOf(name)).length > 0, { everyMs: 1 });
      const ended = once(up, 'exit');
      up.kill('SIGKILL');
      await ended;
    };
    await crash();
    expect(await namespacesOf(name)).not.toEqual([]);
    await Lab.down(name);
    await expectNothingLeft(name);
    await crash();
    const lab = await Lab.up({ name, ...small });
    expectGreen(await lab.test({ transferBytes: 100_000 }), 4);
    expect(await namespacesOf(name)).toHaveLength(3 + 4);
  });

  it('are taken down without their state too, whatever runs in them', async () => {
    const name = newName();
    const lab = await Lab.up({ name, ...small });
    const stubborn = lab.spawn('host1/c1', ['sh', '-c', "trap '' TERM; echo ready; read forever"], { stdio: 'pipe' });
    await once(stubborn.stdout as NodeJS.ReadableStream, 'data');
    await rm(join(lab.files.folder, 'lab.json'));
    await expect(Lab.find(name)).rejects.toThrow(/no lab .* is up; start it/);
    const ended = once(stubborn, 'exit');
    await Lab.down(name);
    expect(await ended).toEqual([null, 'SIGKILL']);
    await expectNothingLeft(name);
  });

  it('are changed by one command at a time', async () => {
    const name = newName();
    const [first, second] = await Promise.allSettled([
      Lab.up({ name, hosts: 2, containers: 0 }),
      Lab.up({ name, hosts: 2, containers: 0 }),
    ]);
    expect([first.status, second.status].sort()).toEqual(['fulfilled', 'rejected']);
    const refused = first.status === 'rejected' ? first : (second as PromiseRejectedResult);
    expect(refused.reason).toMatchObject({ code: 'LAB_BUSY' });
  });

  it('take hosts in and out, and check what there is to check', async () => {
    const lab = await Lab.up({ name: newName(), hosts: 1, containers: 1 });
    const host = await lab.addHost({ containers: 2 });
    expect(host).toMatchObject({ name: 'host2', containers: ['c1', 'c2'] });
    await lab.waitForPeers();
    const result = await lab.test({ transferBytes: 100_000 });
    expectGreen(result, 12);
    expect(Object.keys(result.pairs[0]?.checks ?? {})).toEqual([...checkNames]);
    await lab.close();
    await lab.removeHost('host2');
    expect(lab.hosts.map(({ name }) => name)).toEqual(['host1']);
    expect((await namespacesOf(lab.name)).filter((name) => name.includes('host2'))).toEqual([]);
    const again = await lab.addHost();
    expect(again.name).toBe('host2');
    await lab.waitForPeers();
  });
});
