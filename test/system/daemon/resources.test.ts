// A host that is short of something, and guests that want to take it: the daemon says so and goes on.
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { fetchStatus } from '../../../src/operator/status-client.js';
import { deviceAddress, eventually, type RunningDaemon, type TestHost, TestNetwork } from './hosts.js';

let network: TestNetwork;
const cleanUps: (() => void)[] = [];
/** Control groups, which can be removed once nothing runs in them. */
const groups: string[] = [];

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) cleanUp();
  await network.remove();
  for (const group of groups.splice(0)) await eventually(() => fs.rmdirSync(group));
});

const health = ['-healthz-port=8081', '-healthz-ip=0.0.0.0'];

/** Connects so many times to the daemon's health port from inside the namespace, and says nothing. */
async function silentCrowd(host: TestHost, size: number): Promise<void> {
  const script = `
    const net = require('node:net');
    let left = ${size};
    const next = () => {
      if (left-- === 0) return console.log('all');
      net.connect(8081, '127.0.0.1').on('error', () => {}).once('connect', next).resume();
    };
    next();
    setInterval(() => {}, 1000);`;
  const child = spawn('ip', ['netns', 'exec', host.namespace, process.execPath, '-e', script]);
  cleanUps.push(() => child.kill('SIGKILL'));
  let said = '';
  child.stdout.on('data', (chunk) => {
    said += chunk;
  });
  await eventually(() => expect(said).toContain('all'));
}

/** The same to a unix socket. */
async function silentGuests(file: string, size: number): Promise<void> {
  for (let i = 0; i < size; i++) {
    const socket = net.connect(file);
    cleanUps.push(() => socket.destroy());
    socket.resume().on('error', () => {});
    await new Promise<void>((resolve) => socket.once('connect', resolve).once('error', () => resolve()));
  }
}

function limitDescriptors(pid: number, limit: number): void {
  execFileSync('prlimit', ['--pid', `${pid}`, `--nofile=${limit}:4096`]);
}

const openDescriptors = (pid: number) => fs.readdirSync(`/proc/${pid}/fd`).length;

/** After this many more checks everything that is looked at regularly has been. */
async function afterChecks(host: TestHost): Promise<void> {
  const before = (await host.status()).repairs;
  await host.run('ip', 'address', 'flush', 'dev', 'flannel0');
  await eventually(async () => expect((await host.status()).repairs).toBeGreaterThan(before));
}

describe('descriptors', () => {
  it('are not for guests: 400 silent ones on the health port and on the status socket', async () => {
    network = await TestNetwork.create();
    const [daemon] = await network.startBoth(...health);
    const [host, other] = network.hosts;
    const { process: pid } = await host.status();
    limitDescriptors(pid, 300);
    await silentCrowd(host, 400);
    await silentGuests(path.join(host.directory, 'tweed.sock'), 400);
    expect(openDescriptors(pid)).toBeLessThan(100);
    await afterChecks(host);
    await host.reaches(deviceAddress(await other.status()));
    expect(await host.get('http://127.0.0.1:8081/healthz')).toEqual([200, 'flanneld is running']);
    expect(await host.status()).toMatchObject({ process: pid, ready: true });
    // guests that are still there do not keep it from ending, either
    expect(await daemon.stop()).toBe(0);
    expect(daemon.output).not.toContain('cut short');
  });

  it('that are all gone cost checks, no packet, and it mends what is missing when there are some again', async () => {
    network = await TestNetwork.create();
    const [daemon] = await network.startBoth(...health);
    const [host, other] = network.hosts;
    const { process: pid } = await host.status();
    const peer = deviceAddress(await other.status());
    limitDescriptors(pid, 8); // poll(2) itself refuses more entries than the limit
    await daemon.says('no file descriptor is left');
    await host.reaches(peer);
    daemon.signal('SIGUSR1');
    await daemon.says('"status":{"schema":1');
    const { stdout } = await host.run('ip', 'address', 'show', 'dev', 'flannel0');
    expect(stdout).toContain('flannel0');
    limitDescriptors(pid, 4096);
    await daemon.says('works again');
    await afterChecks(host);
    expect(await host.status()).toMatchObject({ process: pid, ready: true });
    await host.reaches(peer);
  });

  it('that are few at the start: it runs, or says one clear line', async () => {
    network = await TestNetwork.create();
    const [host] = network.hosts;
    for (let limit = 20; limit <= 50; limit += 5) {
      const daemon = host.start([network.endpoint], { through: ['prlimit', `--nofile=${limit}:${limit}`] });
      const ended = await Promise.race([
        daemon.exited,
        host.ready().then(
          () => 'runs',
          () => 'hangs',
        ),
      ]);
      if (ended === 'runs') {
        expect(await daemon.stop()).toBe(0);
        continue;
      }
      if (ended === 'hangs') {
        // It forwards, and has none left to answer with. It says so, too.
        expect([limit, daemon.output]).toEqual([limit, expect.stringContaining('no file descriptor is left')]);
        expect([limit, await daemon.stop()]).toEqual([limit, 0]);
        continue;
      }
      // Node itself cannot begin with fewer than it needs, and aborts with words of its own
      if (!daemon.output.includes('"tweed starts"')) continue;
      expect([limit, ended]).toEqual([limit, 1]);
      expect(daemon.output).toMatch(/^tweed: .+$/m);
      expect(daemon.output).not.toMatch(/^ {4}at /m);
    }
  }, 240_000);
});

/** Some hundred kilobytes of log; signals that come faster than they are handled are one. */
async function fillLog(daemon: RunningDaemon): Promise<void> {
  for (let i = 0; i < 100; i++) {
    daemon.signal('SIGUSR1');
    await delay(4);
  }
}

describe('the log', () => {
  it.each(['tweed.cjs', 'flanneld.cjs'])(
    'on a full disk does not end %s, and status and metrics tell of it',
    async (binary) => {
      network = await TestNetwork.create();
      const [host, other] = network.hosts;
      const through = ['sh', '-c', 'exec "$@" 2>/dev/full', 'sh'];
      const daemon = host.start([network.endpoint, ...health], { binary, through });
      other.start([network.endpoint]);
      await Promise.all([host.ready(1), other.ready(1)]);
      await host.reaches(deviceAddress(await other.status()));
      const { log } = await host.status();
      expect(log).toMatchObject({ error: 'ENOSPC', waiting: expect.any(Number) });
      expect((await host.tweed('status')).stdout).toMatch(/^ {2}log +\d+ lines lost, [1-9]\d* wait \(ENOSPC\)$/m);
      await eventually(async () => {
        await fillLog(daemon);
        expect((await host.get('http://127.0.0.1:8081/metrics'))[1]).toMatch(/^tweed_log_lines_lost_total [1-9]/m);
      });
      expect((await host.status()).ready).toBe(true);
      expect(await daemon.stop()).toBe(0);
    },
  );

  it('that nobody reads does not hold the control thread, nor its end; what is read again is whole', async () => {
    network = await TestNetwork.create();
    const [host, other] = network.hosts;
    const fifo = path.join(host.directory, 'log');
    execFileSync('mkfifo', [fifo]);
    const reader = fs.openSync(fifo, fs.constants.O_RDWR | fs.constants.O_NONBLOCK);
    cleanUps.push(() => fs.closeSync(reader));
    const daemon = host.start([network.endpoint], { through: ['sh', '-c', `exec "$@" 2>${fifo}`, 'sh'] });
    other.start([network.endpoint]);
    await Promise.all([host.ready(1), other.ready(1)]);
    await eventually(async () => {
      await fillLog(daemon);
      expect((await host.status()).log.lost).toBeGreaterThan(0);
    });
    await afterChecks(host);
    await host.reaches(deviceAddress(await other.status()));
    let text = '';
    const buffer = Buffer.alloc(65_536);
    await eventually(async () => {
      try {
        for (;;) text += buffer.toString('latin1', 0, fs.readSync(reader, buffer));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      }
      daemon.signal('SIGHUP');
      expect(text).toContain('log lines were lost here');
      expect((await host.status()).log.waiting).toBe(0);
    });
    const lines = text.slice(0, text.lastIndexOf('\n')).split('\n');
    for (const line of lines) expect(JSON.parse(line)).toHaveProperty('msg');
    // and full again on the way out
    await eventually(async () => {
      await fillLog(daemon);
      expect((await host.status()).log.waiting).toBeGreaterThan(0);
    });
    expect(await daemon.stop()).toBe(0);
  });
});

describe('a full disk', () => {
  it('is complained of once, costs no packet, and is made up for when there is room', async () => {
    network = await TestNetwork.create();
    const [host, other] = network.hosts;
    const small = path.join(host.directory, 'small');
    fs.mkdirSync(small);
    const script = `mount -t tmpfs -o size=64k none ${small} && cat /dev/zero >${small}/fill 2>/dev/null; exec "$@"`;
    const files = ['-run-dir', small, '-subnet-file', path.join(small, 'subnet.env')];
    const daemon = host.start([network.endpoint, ...files], { through: ['unshare', '-m', 'sh', '-c', script, 'sh'] });
    other.start([network.endpoint]);
    await daemon.says('ENOSPC');
    await other.ready(1);
    const inside = `/proc/${/"process":(\d+)/.exec(daemon.output)?.[1]}/root${small}`;
    await host.reaches(deviceAddress(await other.status()));
    await eventually(async () => expect(await fetchStatus(inside)).toMatchObject({ ready: false, phase: 'running' }));
    await daemon.says('saving the last known state');
    const complaints = () => daemon.output.match(/writing \S+subnet.env: [^"]*ENOSPC/g)?.length ?? 0;
    const before = complaints();
    fs.rmSync(path.join(inside, 'fill'));
    await eventually(async () => expect((await fetchStatus(inside)).ready).toBe(true));
    expect([before, complaints()]).toEqual([1, 1]);
    expect(fs.readFileSync(path.join(inside, 'subnet.env'), 'utf8')).toContain('FLANNEL_SUBNET=');
    await eventually(() => expect(fs.readdirSync(inside)).toContain('flannel0.cache.json'));
    expect(fs.readdirSync(inside).filter((name) => name.startsWith('.tmp-'))).toEqual([]);
  });
});

/** A control group that limits processes; null where there is none to be had. */
function makeGroup(): {
  limit(count: number | 'max'): void;
  add(pid: number): void;
  readonly size: number;
  file: string;
} | null {
  const root = ['/sys/fs/cgroup/pids', '/sys/fs/cgroup'].find((place) =>
    fs.existsSync(path.join(place, 'cgroup.procs')),
  );
  if (root === undefined) return null;
  const group = path.join(root, `tweed-test-${process.pid}`);
  try {
    fs.mkdirSync(group);
  } catch {
    return null;
  }
  groups.push(group);
  if (!fs.existsSync(path.join(group, 'pids.max'))) return null;
  const at = (name: string) => path.join(group, name);
  return {
    limit: (count) => fs.writeFileSync(at('pids.max'), `${count}`),
    add: (pid) => fs.writeFileSync(at('cgroup.procs'), `${pid}`),
    get size() {
      return Number(fs.readFileSync(at('pids.current'), 'utf8'));
    },
    file: at('cgroup.procs'),
  };
}

describe('processes', () => {
  it('that cannot be made while it runs cost checks and no packet', async ({ skip }) => {
    network = await TestNetwork.create();
    const [daemon] = await network.startBoth();
    const group = makeGroup();
    if (group === null) return skip('no pids control group here');
    const [host, other] = network.hosts;
    const { process: pid } = await host.status();
    group.add(pid);
    group.limit(group.size);
    await daemon.says('no process can be made');
    await host.reaches(deviceAddress(await other.status()));
    expect(await host.status()).toMatchObject({ process: pid, ready: true });
    group.limit('max');
    await daemon.says('works again');
    await afterChecks(host);
  });

  it('or threads that cannot be made at the start end it with one line', async ({ skip }) => {
    network = await TestNetwork.create();
    const [host] = network.hosts;
    const group = makeGroup();
    if (group === null) return skip('no pids control group here');
    let seen = '';
    // Which of the two it is that comes last below the limit that suffices depends on how many threads Node has here.
    for (let limit = 10; limit <= 20; limit++) {
      group.limit(limit);
      const daemon: RunningDaemon = host.start([network.endpoint], {
        through: ['sh', '-c', `echo $$ >/proc/${process.pid}/root${group.file} && exec "$@"`, 'sh'],
      });
      const goesOn = eventually(() => expect(daemon.output).toMatch(/"msg":"ready"|will be tried again/));
      const ended = await Promise.race([
        daemon.exited,
        goesOn.then(
          () => 'goes on',
          () => 'hangs',
        ),
      ]);
      if (ended === 'goes on') {
        expect(await daemon.stop()).toBe(0);
        break;
      }
      if (!daemon.output.includes('"tweed starts"')) continue; // Node itself needs a dozen threads
      seen += daemon.output;
      expect(ended).toBe(1);
      expect(daemon.output).toMatch(/^tweed: .+$/m);
      expect(daemon.output).not.toMatch(/^ {4}at /m);
    }
    expect(seen).toMatch(/no (process|thread) can be made/);
  });
});
