import { readFileSync, statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { containerAddress } from '../../../src/lab/containers.js';
import { daemonStatus, readSubnet } from '../../../src/lab/daemon.js';
import type { Lab } from '../../../src/lab/lab.js';
import { formatMatrix } from '../../../src/lab/matrix.js';
import { waitFor } from '../../../src/lab/wait.js';
import { useLab } from '../support/lab.js';

const psk = Buffer.alloc(32, 9).toString('base64');
const lab = useLab({
  backend: 'wireguard',
  hosts: 3,
  containers: 1,
  daemonArgs: ['--iptables-resync=1', '--healthz-port=9273', '--log-level=trace'],
  networkConfig: { Backend: { PSK: psk, PersistentKeepaliveInterval: 1 } },
});

async function expectGreen(): Promise<void> {
  const result = await lab().test({ transferBytes: 500_000 });
  expect(result.ok, formatMatrix(result)).toBe(true);
}

/** `wg` looks in one folder for the sockets of all devices; here each host's takes its place for one command. */
async function wg(host: string, ...words: string[]): Promise<string> {
  const folder = `${lab().files.runFolder(host)}/wireguard`;
  const script = 'mkdir -p /var/run/wireguard && mount --bind "$0" /var/run/wireguard && exec wg "$@"';
  const { stdout } = await lab().exec(host, ['unshare', '-m', 'sh', '-c', script, folder, ...words]);
  return stdout;
}

const keyFileOf = (one: Lab, host: string) => `${one.files.runFolder(host)}/wgkey`;

async function storedLeases(): Promise<string[]> {
  const words = ['get', '--prefix', '/coreos.com/network/subnets/', '--print-value-only'];
  const { stdout } = await lab().exec('etcd', ['etcdctl', '--endpoints=http://127.0.0.1:2379', ...words]);
  return stdout.trim().split('\n').sort();
}

const statusOf = async (host: string) => (await daemonStatus(lab().files, host))?.backend;

describe('a lab of three hosts with wireguard', () => {
  it('carries every kind of traffic, and its leases are what flannel would write', async () => {
    await expectGreen();
    const expected = await Promise.all(
      lab().hosts.map(async ({ name, address }) => {
        const key = (await wg(name, 'show', 'flannel-wg', 'public-key')).trim();
        const data = `{"PublicKey":"${key}","Port":51820}`;
        return `{"PublicIP":"${address}","PublicIPv6":null,"BackendType":"wireguard","BackendData":${data}}`;
      }),
    );
    expect(await storedLeases()).toEqual(expected.sort());
    expect((await readSubnet(lab().files, 'host1')).mtu).toBe(1420);
    const backend = await statusOf('host1');
    expect(backend).toMatchObject({ type: 'wireguard', device: 'flannel-wg', mtu: 1420 });
    expect(backend?.features.find(({ name }) => name === 'engine')).toMatchObject({ wanted: 'auto' });
    for (const { lastHandshake, endpoint, publicIp } of backend?.peers ?? []) {
      expect(Date.now() - Number(lastHandshake)).toBeLessThan(600_000);
      expect(endpoint).toBe(`${publicIp}:51820`);
    }
  });

  it('is shown by wg, as a device that it may not change', async () => {
    const lines = (await wg('host1', 'show', 'flannel-wg', 'dump')).trim().split('\n');
    expect(lines).toHaveLength(3);
    const peers = (await statusOf('host1'))?.peers ?? [];
    for (const line of lines.slice(1)) {
      const [, shared, endpoint, networks, handshake, , , keepalive] = line.split('\t');
      expect([shared, keepalive]).toEqual([psk, '1']);
      expect(peers.map((peer) => [peer.endpoint, peer.subnet])).toContainEqual([endpoint, networks]);
      expect(Number(handshake)).toBeGreaterThan(0);
    }
    await expect(wg('host1', 'set', 'flannel-wg', 'listen-port', '1')).rejects.toThrow(/not permitted/i);
    const socket = `${lab().files.runFolder('host1')}/wireguard/flannel-wg.sock`;
    expect(statSync(socket).mode & 0o777).toBe(0o600);
    expect(statSync(`${lab().files.runFolder('host1')}/wireguard`).mode & 0o777).toBe(0o700);
  });

  it('tells its secrets nobody else', async () => {
    const file = keyFileOf(lab(), 'host1');
    expect(statSync(file).mode & 0o777).toBe(0o400);
    const secrets = [readFileSync(file, 'utf8').trim(), psk];
    const ask = 'fetch("http://127.0.0.1:9273/metrics").then((a) => a.text()).then(console.log)';
    const metrics = (await lab().exec('host1', [process.execPath, '-e', ask])).stdout;
    expect(metrics).toContain('tweed_peer_last_handshake_time_seconds');
    expect(metrics).toMatch(/^tweed_handshakes_total [1-9]/m);
    const { pid } = (await daemonStatus(lab().files, 'host1').then((status) => ({ pid: status?.process }))) ?? {};
    const told = [
      metrics,
      JSON.stringify(await daemonStatus(lab().files, 'host1')),
      readFileSync(lab().files.log('host1'), 'utf8'),
      readFileSync(`/proc/${pid}/cmdline`, 'utf8') + readFileSync(`/proc/${pid}/environ`, 'utf8'),
    ];
    for (const text of told) {
      for (const secret of secrets) {
        expect(text).not.toContain(secret);
        expect(text).not.toContain(Buffer.from(secret, 'base64').toString('hex'));
      }
    }
  });

  it('keeps its key when it is killed and started anew, and its peers find it again', async () => {
    const before = await wg('host2', 'show', 'flannel-wg', 'public-key');
    await lab().stopDaemon('host2', 'SIGKILL');
    await lab().startDaemon('host2');
    await lab().waitForPeers();
    expect(await wg('host2', 'show', 'flannel-wg', 'public-key')).toBe(before);
    await expectGreen();
  });

  it('follows a host to another address', async () => {
    const address = '192.168.65.201';
    await lab().changeAddress('host2', address);
    const seesIt = async (host: string) => (await statusOf(host))?.peers.some(({ publicIp }) => publicIp === address);
    await waitFor('the others to see the address', async () => (await seesIt('host1')) && (await seesIt('host3')));
    await lab().waitForPeers();
    await expectGreen();
  });

  it('puts nothing of a packet on the underlay that can be read', async () => {
    const subnet = await readSubnet(lab().files, 'host3');
    const word = 'this is what nobody may read';
    const dump = lab().spawn('host3', ['tcpdump', '-ni', 'eth0', '-s0', '-w', '-', '-U'], { stdio: 'pipe' });
    let seen = Buffer.alloc(0);
    dump.stdout?.on('data', (chunk: Buffer) => {
      seen = Buffer.concat([seen, chunk]);
    });
    const pattern = Buffer.from(word).toString('hex').slice(0, 32);
    try {
      const ping = ['ping', '-c', '1', '-W', '1', '-s', '160', '-p', pattern, containerAddress(subnet, 1)];
      await waitFor('a sealed ping on the wire', async () => {
        await lab().exec('host1/c1', ping);
        return seen.length > 2000;
      });
    } finally {
      dump.kill('SIGTERM');
    }
    expect(seen.includes(Buffer.from(pattern, 'hex'))).toBe(false);
  });

  it('a host that comes has a session with each; one that goes takes its device along', async () => {
    const { name } = await lab().addHost({ containers: 1 });
    await lab().waitForPeers();
    await expectGreen();
    expect((await lab().exec(name, ['ip', '-brief', 'link', 'show'])).stdout).toContain('flannel-wg');
    await lab().stopDaemon(name);
    expect((await lab().exec(name, ['ip', '-brief', 'link', 'show'])).stdout).not.toContain('flannel-wg');
    expect(() => statSync(`${lab().files.runFolder(name)}/wireguard/flannel-wg.sock`)).toThrow('ENOENT');
  });
});
