// What the daemon may do, and what others of the host may do to it.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { readRunRequest } from '../../../src/cli/options.js';
import { needsOf } from '../../../src/daemon/privileges.js';
import { exceeds, type Privileges, readPrivileges, setOf } from '../../../src/linux/privileges.js';
import { deviceAddress, eventually, TestNetwork } from './hosts.js';

const bin = fileURLToPath(new URL('../../../bin/tweed', import.meta.url));
const dist = fileURLToPath(new URL('../../../dist/', import.meta.url));
const kept = setOf(['NET_ADMIN', 'NET_RAW', 'NET_BIND_SERVICE']);
/** A module's text that makes Node's pool. */
const usesPool = encodeURIComponent('await (await import("node:fs/promises")).stat("/")');
const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=-all'];

let network: TestNetwork;
afterEach(() => network.remove());

/** What each thread of a process may do; the main one first. */
function threadsOf(pid: number): readonly Privileges[] {
  return fs.readdirSync(`/proc/${pid}/task`).map((thread) => readPrivileges(`/proc/${pid}/task/${thread}/status`));
}

/** The main thread, the forwarders and the pool have these; the threads that Node makes first are nobody's, and have none. */
function expectOnly(pid: number, set: bigint) {
  const threads = threadsOf(pid);
  expect(threads[0]?.root).toBe(true);
  for (const thread of threads.filter(({ root }) => root)) {
    expect(exceeds(thread, set)).toBe(false);
    expect(thread.effective).toBe(set);
  }
  const others = threads.filter(({ root }) => !root);
  for (const { inheritable, permitted, effective, ambient } of others) {
    expect([inheritable, permitted, effective, ambient]).toEqual([0n, 0n, 0n, 0n]);
  }
  return { armed: threads.length - others.length, disarmed: others.length };
}

/** Was the process started a second time, to give up its privileges? */
const startedAnew = (pid: number) => fs.readFileSync(`/proc/${pid}/environ`, 'latin1').includes('TWEED_STARTED_ANEW');

/** As another user of the host; the errors as text. */
function asNobody(...argv: string[]) {
  return spawnSync(nobody[0] as string, [...nobody.slice(1), ...argv], { encoding: 'utf8', timeout: 20_000 });
}

describe('the privileges of a running daemon', () => {
  it.each(['udp', 'vxlan', 'host-gw'])(
    'are three capabilities, and none in the threads that Node makes first, and %s works with them',
    async (type) => {
      network = await TestNetwork.create(`{"Network":"100.96.0.0/16","Backend":{"Type":"${type}"}}`);
      const [daemon] = await network.startBoth('-ip-masq', '-ip-blackhole-route', '-clean-up-on-exit');
      const [host, other] = network.hosts;
      const { process: pid, backend } = await host.status();
      const { armed, disarmed } = expectOnly(pid, kept);
      expect(armed).toBeGreaterThanOrEqual(5); // with the four of the pool
      expect(disarmed).toBeGreaterThanOrEqual(4); // V8's
      expect(startedAnew(pid)).toBe(false);
      expect(daemon.output).toContain('"capabilities":["NET_BIND_SERVICE","NET_ADMIN","NET_RAW"]');
      if (type === 'udp') {
        const buffers = backend?.features.filter(({ name }) => name.includes('buffer'));
        for (const { reason } of buffers ?? []) expect(reason).toBe('');
      }
      const peer = deviceAddress(await other.status());
      if (type !== 'host-gw') await host.reaches(peer);
      expect((await host.run('iptables', '-t', 'nat', '-S', 'FLANNEL-POSTRTG')).stdout).toContain('MASQUERADE');
      await host.run('iptables', '-t', 'nat', '-F', 'FLANNEL-POSTRTG');
      await daemon.says('put back');
      expect(await daemon.stop()).toBe(0);
    },
  );

  it.each(['route', 'direct'])('are more with a kernel path, and %s works with them', async (wanted) => {
    network = await TestNetwork.create();
    const also = needsOf(readRunRequest([`-kernel-path=${wanted}`], {}).options).also;
    await network.startBoth(`-kernel-path=${wanted}`);
    const [host, other] = network.hosts;
    const { process: pid } = await host.status();
    expectOnly(pid, kept | setOf(also));
    await eventually(async () => {
      const { backend } = await host.status();
      const { inForce, reason } = backend?.features.find(({ name }) => name === 'kernel_path') ?? {};
      expect([inForce, reason]).toEqual([wanted, '']);
    });
    await host.reaches(deviceAddress(await other.status()));
  });

  it('are all of them where the option says so', async () => {
    network = await TestNetwork.create();
    const [host] = network.hosts;
    host.start([network.endpoint, '-drop-privileges=false']);
    const { process: pid } = await host.ready();
    for (const thread of threadsOf(pid)) expect(exceeds(thread, kept)).toBe(true);
  });

  it('were lowered by the service manager: then it is not started a second time', async () => {
    network = await TestNetwork.create();
    const [host] = network.hosts;
    const bounding = '--bounding-set=-all,+net_admin,+net_raw';
    const daemon = host.start([network.endpoint], {
      through: ['setpriv', bounding, '--inh-caps=-all', '--no-new-privs'],
    });
    const { process: pid } = await host.ready();
    for (const thread of threadsOf(pid)) expect(thread.effective).toBe(setOf(['NET_ADMIN', 'NET_RAW']));
    expect(startedAnew(pid)).toBe(false);
    expect(daemon.output).toContain('"noNewPrivileges":true');
  });

  it('include reading or writing what is not root’s, where the options name such files', async () => {
    network = await TestNetwork.create();
    const [host] = network.hosts;
    const home = path.join(host.directory, 'home');
    fs.mkdirSync(home, { mode: 0o700 });
    fs.chownSync(home, 65534, 65534);
    host.start([network.endpoint, '-subnet-file', path.join(home, 'subnet.env')]);
    const { process: pid } = await host.ready();
    expectOnly(pid, kept | setOf(['DAC_OVERRIDE']));
  });

  it.each([
    ['Node’s pool was there first', ['env', `NODE_OPTIONS=--import=data:text/javascript,${usesPool}`]],
    ['it may not become somebody else', ['setpriv', '--bounding-set=-setuid', '--inh-caps=-all']],
    ['something is inheritable', ['setpriv', '--inh-caps=+net_raw']],
  ])('are the same after a second start, in every thread, where %s', async (_why, through) => {
    network = await TestNetwork.create();
    const [host] = network.hosts;
    host.start([network.endpoint], { through });
    const { process: pid } = await host.ready();
    expect(startedAnew(pid)).toBe(true);
    const { armed, disarmed } = expectOnly(pid, kept);
    expect(armed).toBeGreaterThan(8);
    expect(disarmed).toBe(0);
  });

  it('are not in the reach of its children’s environment, and its memory is not dumped', async () => {
    network = await TestNetwork.create();
    const [host] = network.hosts;
    const tools = path.join(host.directory, 'tools');
    fs.mkdirSync(tools);
    const spy = path.join(tools, 'ip');
    fs.writeFileSync(
      spy,
      `#!/bin/sh\nenv >>${host.directory}/seen\nexec ${execFileSync('which', ['ip'], { encoding: 'utf8' }).trim()} "$@"\n`,
      {
        mode: 0o755,
      },
    );
    const environment = { PATH: `${tools}:${process.env.PATH}`, FLANNELD_ETCD_PASSWORD: 'hunter2' };
    host.start([network.endpoint], { through: ['env', ...Object.entries(environment).map(([a, b]) => `${a}=${b}`)] });
    await host.ready();
    const seen = fs.readFileSync(path.join(host.directory, 'seen'), 'utf8');
    expect(seen).toContain('PATH=');
    expect(seen).not.toContain('hunter2');
    // /proc gives the files of a process that is not to be dumped to root, whoever runs it (proc(5))
    const look = `import { protectMemory } from ${JSON.stringify(path.join(dist, 'linux/privileges.js'))};
      import fs from 'node:fs';
      const before = fs.statSync('/proc/self/environ').uid;
      protectMemory();
      console.log(before, fs.statSync('/proc/self/environ').uid);`;
    expect(asNobody(process.execPath, '--input-type=module', '-e', look).stdout).toBe('65534 0\n');
  });
});

describe('another user of the host', () => {
  it('cannot keep the daemon from starting, or from ending', async () => {
    network = await TestNetwork.create();
    const [host] = network.hosts;
    const inode = fs.statSync(`/proc/self/ns/net`).ino;
    // whatever has a name that the daemon uses, before the daemon is there
    fs.chmodSync(host.directory, 0o755);
    const tried = [
      ['mkdir', '-p', '/run/tweed/x'],
      ['touch', `/run/tweed/device-flannel0.${inode}.lock`],
      ['ln', '-s', '/etc/passwd', '/run/tweed/network-100.96.0.0-16.lock'],
      ['ln', '-s', '/etc/passwd', path.join(host.directory, 'tweed.sock')],
      ['ln', '-s', '/etc/passwd', host.subnetFile],
    ];
    for (const argv of tried) expect([argv, asNobody(...argv).status]).not.toEqual([argv, 0]);
    const squat = `
      const net = require('node:net');
      for (const name of ['tweed/flannel0', 'flannel0', 'tweed']) net.createServer().listen('\\0' + name).on('error', () => {});
      setInterval(() => {}, 1000);`;
    const squatter = spawn('ip', ['netns', 'exec', host.namespace, ...nobody, process.execPath, '-e', squat]);
    try {
      const daemon = host.start([network.endpoint]);
      const { process: pid } = await host.ready();
      const locks = fs.readdirSync('/run/tweed').filter((name) => name.endsWith('.lock'));
      expect(locks.length).toBeGreaterThanOrEqual(2);
      for (const name of locks) {
        expect(asNobody('flock', '-n', path.join('/run/tweed', name), 'true').status).not.toBe(0);
        expect(asNobody('rm', '-f', path.join('/run/tweed', name)).status).not.toBe(0);
      }
      const reach = `require('node:net').connect(${JSON.stringify(path.join(host.directory, 'tweed.sock'))})
        .on('connect', () => process.exit(0)).on('error', () => process.exit(1))`;
      expect(asNobody(process.execPath, '-e', reach).status).toBe(1);
      for (const file of ['mem', 'environ', 'fd/0']) expect(asNobody('cat', `/proc/${pid}/${file}`).status).not.toBe(0);
      expect(asNobody('kill', '-USR1', `${pid}`).status).not.toBe(0);
      expect(await daemon.stop()).toBe(0);
      expect(daemon.output).not.toContain('cut short');
    } finally {
      squatter.kill('SIGKILL');
    }
  });

  it('finds nothing that listens but the overlay itself', async () => {
    network = await TestNetwork.create();
    const [host] = network.hosts;
    // in place of `node dist/cli/tweed.cjs`, the command itself
    host.start([network.endpoint], { through: ['sh', '-c', `shift 2; exec ${bin} "$@"`, 'sh'] });
    await host.ready();
    const { stdout } = await host.run('ss', '-Htuln');
    const listening = stdout
      .trim()
      .split('\n')
      .map((line) => line.split(/\s+/).slice(0, 5).join(' '));
    expect(listening).toEqual([expect.stringMatching(/^udp UNCONN \d+ \d+ 192\.168\.77\.1:8285$/)]);
  });
});
