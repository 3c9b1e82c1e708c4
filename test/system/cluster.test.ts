/** What a cluster goes through, with real traffic all the while: etcd dies, hosts come, move, crash and go. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { containerAddress } from '../../src/lab/containers.js';
import { daemonStatus, readSubnet } from '../../src/lab/daemon.js';
import type { Lab } from '../../src/lab/lab.js';
import { etcdAddress } from '../../src/lab/options.js';
import { waitFor } from '../../src/lab/wait.js';
import type { DaemonStatus } from '../../src/observe/status.js';
import { useLab } from './support/lab.js';

const MANY = 2000;

async function addressOf(lab: Lab, host: string): Promise<string> {
  return containerAddress(await readSubnet(lab.files, host), 1);
}

/** Waits until the status of a host's daemon is as wanted. */
function waitForStatus(lab: Lab, host: string, what: string, wanted: (status: DaemonStatus) => boolean) {
  return waitFor(`${host}: ${what}`, async () => {
    const status = await daemonStatus(lab.files, host);
    return status !== null && wanted(status) ? status : null;
  });
}

function peersOf(status: DaemonStatus): number {
  return status.backend?.peers.length ?? 0;
}

/** Collects what a child prints, and tells when it printed something. */
function outputOf(child: ChildProcess): () => string {
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  return () => output;
}

/** Pings every 20 ms from one container to another host's while `work` runs. What is unanswered between answers is lost. */
async function pingDuring(lab: Lab, from: string, toHost: string, work: () => Promise<void>) {
  const argv = ['ping', '-n', '-i', '0.02', await addressOf(lab, toHost)];
  const ping = lab.spawn(from, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  const output = outputOf(ping);
  const closed = once(ping, 'close');
  const answers = () => new Set(Array.from(output().matchAll(/icmp_seq=(\d+) ttl/g), ([, number]) => Number(number)));
  const moreAnswers = async (what: string) => {
    const before = answers().size;
    await waitFor(what, () => answers().size > before + 2);
  };
  try {
    await moreAnswers('the first answers');
    await work();
    await moreAnswers('answers after it');
  } finally {
    ping.kill('SIGINT');
    await closed;
  }
  const answered = answers();
  const sent = Math.max(...answered);
  return { sent, lost: sent - answered.size };
}

function pingOnce(lab: Lab, from: string, address: string) {
  return lab.exec(from, ['ping', '-n', '-c', '1', '-W', '2', address], { tolerate: true });
}

describe('a cluster', () => {
  const lab = useLab({ containers: 1, network: '100.96.0.0/12', daemonArgs: ['--release-on-exit'] });

  it('gives every host a subnet of its own, though all start at once', async () => {
    const subnets = await Promise.all(lab().hosts.map(({ name }) => readSubnet(lab().files, name)));
    expect(new Set(subnets.map((subnet) => JSON.stringify(subnet))).size).toBe(3);
  });

  it('loses not one packet while etcd is killed and comes back', async () => {
    const { sent, lost } = await pingDuring(lab(), 'host1/c1', 'host2', async () => {
      await lab().stopEtcd('SIGKILL');
      await waitForStatus(lab(), 'host1', 'misses etcd', ({ registry }) => !registry.connected);
      await lab().startEtcd();
      for (const { name } of lab().hosts) {
        await waitForStatus(lab(), name, 'has etcd again', ({ registry }) => registry.connected);
      }
    });
    expect(sent).toBeGreaterThan(10);
    expect(lost).toBe(0);
  });

  it(`loses not one packet while ${MANY} hosts appear and vanish at once`, async () => {
    const endpoint = `http://${etcdAddress}:2379`;
    const script = fileURLToPath(new URL('support/many-leases.mjs', import.meta.url));
    // far above what the three hosts took: they choose among the first hundred
    const argv = [process.execPath, script, endpoint, '100.100.0.0', String(MANY)];
    const { lost } = await pingDuring(lab(), 'host1/c1', 'host2', async () => {
      const child = lab().spawn('etcd', argv, { stdio: ['pipe', 'pipe', 'inherit'] });
      const output = outputOf(child);
      const closed = once(child, 'close');
      const started = performance.now();
      await waitForStatus(lab(), 'host1', 'knows the many', (status) => peersOf(status) === MANY + 2);
      const appeared = performance.now() - started;
      await waitFor('all to be put', () => output().includes('put'));
      const leaving = performance.now();
      child.stdin?.write('\n');
      await waitForStatus(lab(), 'host1', 'forgot the many', (status) => peersOf(status) === 2);
      process.stderr.write(
        `${MANY} leases known ${Math.round(appeared)} ms after their writer started, forgotten in ${Math.round(performance.now() - leaving)} ms\n`,
      );
      await closed;
    });
    expect(lost).toBe(0);
  });

  it('keeps a TCP connection over a daemon that is killed and started again, and the subnet', async () => {
    const before = await addressOf(lab(), 'host2');
    const server = lab().spawn('host2/c1', ['iperf3', '--server', '--one-off', '--forceflush'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const serverOutput = outputOf(server);
    await waitFor('iperf3 to listen', () => serverOutput().includes('listening'));
    const client = lab().spawn('host1/c1', ['iperf3', '--client', before, '--bytes', '400M', '--bitrate', '400M'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const clientClosed = once(client, 'close');
    const received = () => daemonStatus(lab().files, 'host2').then((status) => status?.backend?.totals.rx_bytes ?? 0);
    await waitFor('the transfer to run', async () => (await received()) > 1_000_000);
    const killed = performance.now();
    await lab().stopDaemon('host2', 'SIGKILL');
    await lab().startDaemon('host2');
    await waitFor('the transfer to go on', async () => (await received()) > 1_000_000);
    process.stderr.write(`traffic again ${Math.round(performance.now() - killed)} ms after SIGKILL\n`);
    expect(await clientClosed).toEqual([0, null]);
    expect(await addressOf(lab(), 'host2')).toBe(before);
  });

  it('follows a host to another public address', async () => {
    const subnet = await addressOf(lab(), 'host3');
    await lab().changeAddress('host3', '192.168.65.77');
    for (const name of ['host1', 'host2']) {
      await waitForStatus(lab(), name, 'knows the new address', (status) =>
        (status.backend?.peers ?? []).some(({ publicIp }) => publicIp === '192.168.65.77'),
      );
    }
    expect(await addressOf(lab(), 'host3')).toBe(subnet);
    await waitFor('an answer', async () => (await pingOnce(lab(), 'host1/c1', subnet)).status === 0);
  });

  it('takes a host in, and tells senders that it is gone when it has left', async () => {
    const { name } = await lab().addHost();
    await lab().waitForPeers();
    const address = await addressOf(lab(), name);
    expect((await pingOnce(lab(), 'host1/c1', address)).status).toBe(0);
    await lab().stopDaemon(name);
    await waitForStatus(lab(), 'host1', 'forgot the host', (status) => peersOf(status) === 2);
    expect((await pingOnce(lab(), 'host1/c1', address)).stdout).toContain('Destination Net Unreachable');
    await lab().removeHost(name);
  });
});
