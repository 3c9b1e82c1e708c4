import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exec } from '../../src/base/exec.js';
import { docker } from '../../src/lab/docker/engine.js';
import { DockerLab, dockerName } from '../../src/lab/docker/lab.js';
import { formatMatrix, type MatrixResult } from '../../src/lab/matrix.js';
import { waitFor } from '../../src/lab/wait.js';
import { addressOf, report, Traffic, untilPing } from './support/watch.js';

const program = fileURLToPath(new URL('../../docker/lab.mjs', import.meta.url));
const network = 'tweed-underlay';
const host1 = dockerName('host1');

/** Runs `npm run lab:docker -- …` as people do. */
function labDocker(...words: string[]) {
  return exec([process.execPath, program, ...words], { tolerate: true, timeoutMs: 600_000 });
}

let lab: DockerLab;

beforeAll(async () => {
  const up = await labDocker('up');
  expect(up.status, up.stdout + up.stderr).toBe(0);
  lab = await DockerLab.find();
});

afterAll(async () => {
  await lab?.close();
  const down = await labDocker('down');
  expect(down.status, down.stdout + down.stderr).toBe(0);
});

function expectGreen(result: MatrixResult): void {
  expect(result.ok, formatMatrix(result)).toBe(true);
  expect(result.pairs).toHaveLength(60);
}

async function inspect<T>(name: string, format: string): Promise<T> {
  return JSON.parse((await docker(['inspect', '--format', `{{json ${format}}}`, name])).stdout) as T;
}

/** The effective capabilities of a host's daemon, by their numbers. */
async function daemonCapabilities(host: string): Promise<number[]> {
  const { stdout } = await lab.exec(host, ['cat', `/proc/${(await lab.status(host))?.process}/status`]);
  const bits = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(stdout)?.[1]}`);
  return Array.from({ length: 64 }, (_, index) => index).filter((index) => (bits >> BigInt(index)) & 1n);
}

describe('the compose lab', () => {
  it('carries every kind of traffic between every ordered pair of containers, by both families', async () => {
    const { status, stdout } = await labDocker('test');
    expect(status, stdout).toBe(0);
    expect(stdout).toContain('240 of 240 checks passed');
  });

  it('runs programs in its places and passes their status on', async () => {
    const address = await addressOf(lab, 'host1/c1');
    expect((await labDocker('exec', 'host1/c1', '--', 'ip', '-br', 'address')).stdout).toContain(`${address}/24`);
    expect((await labDocker('exec', 'host2', '--', 'tweed', 'status')).stdout).toContain('peers: 2');
    expect((await labDocker('exec', 'etcd', '--', 'sh', '-c', 'exit 7')).status).toBe(7);
    expect((await labDocker('exec', 'host9', '--', 'true')).status).not.toBe(0);
    expect((await labDocker('no-such-command')).stdout).toContain('usage:');
  });

  it('shows the datagrams on the underlay', async () => {
    const capture = lab.exec('host1', ['timeout', '20', 'tcpdump', '-ni', 'eth0', '-c', '2', 'udp', 'port', '8285']);
    const address = await addressOf(lab, 'host2/c1');
    const end = new AbortController();
    const pings = (async () => {
      while (!end.signal.aborted) await lab.probe('host1/c1').ask('ping', { address, timeout: 1_000 });
    })();
    const { stdout } = await capture.finally(() => end.abort());
    await pings;
    expect(stdout).toContain('198.18.85.11.8285 > 198.18.85.12.8285: UDP');
  });

  it('follows a packet through every device of two hosts, and reads what the datagram carries', async () => {
    const { status, stdout, stderr } = await labDocker('trace', 'host1/c1', 'host2/c1', '--back');
    expect(status, stdout + stderr).toBe(0);
    expect(stdout).toMatch(/host1 +flannel0→ [\s\S]*host1 +eth0→ [\s\S]*host2 +→eth0 [\s\S]*host2\/c1 +→eth0 /);
    expect(stdout).toMatch(
      /UDP 198\.18\.85\.11:8285 → 198\.18\.85\.12:8285.*\n +└ ICMP echo request .*, TTL 62, 84 bytes/,
    );
    expect(stdout).toContain('and was answered with ICMP echo reply');
    const closed = await labDocker('trace', 'host1/c1', 'host2/c2', '--tcp', '9');
    expect(closed).toMatchObject({ status: 1, stdout: expect.stringContaining('nothing listens at TCP port 9') });
    expect((await labDocker('trace', 'host1/c1')).stdout).toContain('usage:');
  });

  it('reports its hosts as healthy to Docker', async () => {
    for (const host of lab.hosts) {
      const healthy = async () => (await inspect(dockerName(host), '.State.Health.Status')) === 'healthy';
      await waitFor(`${host} to be healthy`, healthy, { timeoutMs: 60_000, everyMs: 500 });
    }
  });

  it('gives no host more than it needs, and the daemon less than its host', async () => {
    const settings = await inspect<{ Privileged: boolean; CapDrop: string[]; CapAdd: string[] }>(host1, '.HostConfig');
    expect(settings.Privileged).toBe(false);
    expect(settings.CapDrop).toEqual(['ALL']);
    expect(settings.CapAdd.map((name) => name.replace('CAP_', '')).sort()).toEqual(
      ['KILL', 'NET_ADMIN', 'NET_RAW', 'SETGID', 'SETPCAP', 'SETUID', 'SYS_ADMIN'].sort(),
    );
    const netAdmin = 12; // include/uapi/linux/capability.h
    expect(await daemonCapabilities('host1')).toEqual([netAdmin]);
  });
});

describe('faults, which the other hosts notice only as the absence of their peer', () => {
  /** Bystanders are undisturbed from before the fault until all is back; then everything works as before. */
  async function withBystanders(work: () => Promise<void>): Promise<void> {
    const bystanders = await Traffic.start(lab, 'host2/c1', 'host3/c1');
    await work();
    await lab.waitForPeers();
    await bystanders.expectUndisturbed();
    expectGreen(await lab.test({ transferBytes: 100_000 }));
  }

  it('etcd stopped and started again', async () => {
    await withBystanders(async () => {
      const traffic = await Traffic.start(lab, 'host1/c1', 'host2/c2');
      const connected = (wanted: boolean) => async () => {
        const status = await Promise.all(lab.hosts.map((host) => lab.status(host)));
        return status.every((one) => one?.registry.connected === wanted);
      };
      await docker(['stop', dockerName('etcd')]);
      await waitFor('every host to notice', connected(false), { timeoutMs: 60_000 });
      expectGreen(await lab.test({ transferBytes: 100_000 }));
      await docker(['start', dockerName('etcd')]);
      const started = performance.now();
      await waitFor('every host to find etcd again', connected(true), { timeoutMs: 60_000 });
      report('etcd started → every host has it again', performance.now() - started);
      await traffic.expectUndisturbed();
    });
  });

  it('a host killed and started again', async () => {
    const subnet = await lab.subnet('host1');
    const address = await addressOf(lab, 'host1/c1');
    await withBystanders(async () => {
      await docker(['kill', host1]);
      await untilPing(lab.probe('host2/c2'), address, false);
      await docker(['start', host1]);
      report('host started → its container answers', await untilPing(lab.probe('host2/c2'), address, true));
      expect(await lab.subnet('host1')).toEqual(subnet);
    });
  });

  it('a host paused', async () => {
    const address = await addressOf(lab, 'host1/c1');
    await withBystanders(async () => {
      const traffic = await Traffic.start(lab, 'host2/c2', 'host1/c2');
      await docker(['pause', host1]);
      await untilPing(lab.probe('host2/c2'), address, false);
      await docker(['unpause', host1]);
      report('host unpaused → its container answers', await untilPing(lab.probe('host2/c2'), address, true));
      await traffic.expectConnected();
    });
  });

  it('a host disconnected from the network and connected again, by an interface of another name', async () => {
    const address = await addressOf(lab, 'host1/c1');
    await withBystanders(async () => {
      const traffic = await Traffic.start(lab, 'host2/c2', 'host1/c2');
      const before = (await lab.status('host1'))?.underlay;
      await docker(['network', 'disconnect', network, host1]);
      await untilPing(lab.probe('host2/c2'), address, false);
      const addresses = ['--ip', before?.address as string, '--ip6', before?.addressV6 as string];
      await docker(['network', 'connect', ...addresses, network, host1]);
      report('host connected → its container answers', await untilPing(lab.probe('host2/c2'), address, true));
      const followed = async () => {
        const underlay = (await lab.status('host1'))?.underlay;
        return underlay?.interface !== before?.interface && underlay?.address === before?.address;
      };
      await waitFor('the daemon to follow its interface', followed, { timeoutMs: 60_000, everyMs: 200 });
      await traffic.expectConnected();
    });
  });

  it('a host connected again under another address', async () => {
    const address = await addressOf(lab, 'host1/c1');
    await withBystanders(async () => {
      await docker(['network', 'disconnect', network, host1]);
      await docker(['network', 'connect', '--ip', '198.18.85.99', network, host1]);
      report('host connected elsewhere → its container answers', await untilPing(lab.probe('host2/c2'), address, true));
      expect((await lab.status('host1'))?.lease?.publicIp).toBe('198.18.85.99');
    });
  });

  it('a host stopped ends in order, within the 2 seconds that it is given', async () => {
    const started = performance.now();
    await docker(['stop', '--time', '2', host1]);
    report('docker stop', performance.now() - started);
    expect(await inspect(host1, '.State.ExitCode')).toBe(0); // 137 if it had to be killed
  });
});
