/** WireGuard of the kernel as the engine that is taken by itself, and against tweed's own at the other end. */
import { readFileSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { containerAddress } from '../../src/lab/containers.js';
import { daemonStatus, readSubnet } from '../../src/lab/daemon.js';
import type { Lab } from '../../src/lab/lab.js';
import { formatMatrix } from '../../src/lab/matrix.js';
import { waitFor } from '../../src/lab/wait.js';
import { useLab } from '../system/support/lab.js';

const resync = '--iptables-resync=1';
/** tweed, with an engine other than that which it takes by itself while the environment says so. */
const daemon = fileURLToPath(new URL('../system/wireguard/support/wireguard-go-host.mjs', import.meta.url));
const leases = '/coreos.com/network/subnets';
const key = expect.stringMatching(/^[A-Za-z0-9+/]{43}=$/);

const print = async (lab: Lab, place: string, ...argv: string[]) => (await lab.exec(place, argv)).stdout;
const statusOf = async (lab: Lab, host: string) => (await daemonStatus(lab.files, host))?.backend;

async function engineOf(lab: Lab, host: string) {
  return (await statusOf(lab, host))?.features.find(({ name }) => name === 'engine');
}

async function expectGreen(lab: Lab): Promise<void> {
  const result = await lab.test({ transferBytes: 500_000 });
  expect(result.ok, formatMatrix(result)).toBe(true);
}

/** Of each peer of a device one of the things that `wg show` tells. */
async function shown(lab: Lab, host: string, what: string): Promise<Record<string, string>> {
  const lines = (await print(lab, host, 'wg', 'show', 'flannel-wg', what)).split('\n').filter((line) => line !== '');
  return Object.fromEntries(lines.map((line) => line.split('\t') as [string, string]));
}

/** Waits until one of host1's containers has an answer from one of host2's. */
async function expectPing(lab: Lab): Promise<void> {
  const address = containerAddress(await readSubnet(lab.files, 'host2'), 1);
  await waitFor('an answer to a ping', () =>
    lab.exec('host1/c1', ['ping', '-c', '1', '-W', '5', address]).then(
      () => true,
      () => false,
    ),
  );
}

async function etcdctl(lab: Lab, ...words: string[]): Promise<string> {
  return print(lab, 'etcd', 'etcdctl', '--endpoints=http://127.0.0.1:2379', ...words);
}

async function devices(lab: Lab, host: string): Promise<unknown[]> {
  const links = await print(lab, host, 'ip', '-json', '-details', 'link', 'show', 'type', 'wireguard');
  return JSON.parse(links || '[]'); // of none it says nothing
}

describe('hosts whose kernel has WireGuard', () => {
  const lab = useLab({
    ...{ backend: 'wireguard', hosts: 2, containers: 1 },
    ...{ daemonCommand: [process.execPath, daemon], daemonArgs: [resync] },
  });
  const keyFile = (host: string) => `${lab().files.runFolder(host)}/wgkey`;
  const publicKey = async (host: string) => (await print(lab(), host, 'wg', 'show', 'flannel-wg', 'public-key')).trim();

  it('use it by themselves, and all kinds of traffic pass', async () => {
    for (const { name } of lab().hosts) {
      expect(await engineOf(lab(), name)).toEqual({ name: 'engine', wanted: 'auto', inForce: 'kernel', reason: '' });
      expect(await devices(lab(), name)).toMatchObject([{ ifname: 'flannel-wg', mtu: 1420 }]);
    }
    await expectGreen(lab());
  });

  it('have leases as flannel writes them, keys that only root can read, and a route for the network', async () => {
    const stored = await etcdctl(lab(), 'get', '--prefix', `${leases}/`, '--print-value-only');
    const expected = lab().hosts.map(async ({ name, address }) => {
      const data = `{"PublicKey":"${await publicKey(name)}","Port":51820}`;
      return `{"PublicIP":"${address}","PublicIPv6":null,"BackendType":"wireguard","BackendData":${data}}`;
    });
    expect(stored.trim().split('\n').sort()).toEqual((await Promise.all(expected)).sort());
    const { mtu, gateways } = await readSubnet(lab().files, 'host1');
    expect(mtu).toBe(1420);
    expect(gateways).toHaveLength(1);
    expect(statSync(keyFile('host1')).mode & 0o777).toBe(0o400);
    expect(await print(lab(), 'host1', 'ip', 'route', 'show', 'dev', 'flannel-wg')).toMatch(
      /^100\.96\.0\.0\/16 .*scope link/,
    );
  });

  it('tell of their peers what the kernel says, and no secret', async () => {
    const peer = await waitFor('the status to have what was sent', async () => {
      const [one] = (await statusOf(lab(), 'host1'))?.peers ?? [];
      return (
        one !== undefined && one.lastHandshake !== null && Math.min(one.txBytes ?? 0, one.rxBytes ?? 0) > 500_000 && one
      );
    });
    expect(peer.endpoint).toBe(`${peer.publicIp}:51820`);
    expect(Object.entries(await shown(lab(), 'host1', 'allowed-ips'))).toEqual([[key, peer.subnet]]);
    const secret = readFileSync(keyFile('host1'), 'utf8').trim();
    expect(readFileSync(lab().files.log('host1'), 'utf8')).not.toContain(secret);
    expect(JSON.stringify(await daemonStatus(lab().files, 'host1'))).not.toContain(secret);
  });

  it('leave a session alone while another peer comes and goes', async () => {
    const [peer] = Object.keys(await shown(lab(), 'host1', 'transfer')) as [string];
    const carried = async () => Number((await shown(lab(), 'host1', 'transfer'))[peer]);
    const before = await carried();
    const other = { key: `${'A'.repeat(42)}E=`, lease: `${leases}/100.96.200.0-24` };
    const data = { PublicKey: other.key, Port: 51820 };
    const value = { PublicIP: '192.168.65.99', PublicIPv6: null, BackendType: 'wireguard', BackendData: data };
    const networks = async () => await shown(lab(), 'host1', 'allowed-ips');
    await etcdctl(lab(), 'put', other.lease, JSON.stringify(value));
    await waitFor('the peer that comes', async () => (await networks())[other.key] === '100.96.200.0/24');
    await expectPing(lab());
    await etcdctl(lab(), 'del', other.lease);
    await waitFor('the peer to go', async () => (await networks())[other.key] === undefined);
    await expectPing(lab());
    // a peer that was made anew would count from nothing
    expect(await carried()).toBeGreaterThan(before);
  });

  it('put the device back that somebody removed', async () => {
    const before = await publicKey('host1');
    await lab().exec('host1', ['ip', 'link', 'del', 'flannel-wg']);
    await waitFor('the device', async () => (await devices(lab(), 'host1')).length === 1);
    await waitFor('its peer', async () => Object.keys(await shown(lab(), 'host1', 'allowed-ips')).length === 1);
    expect(await publicKey('host1')).toBe(before);
    await expectPing(lab());
  });

  it('go on carrying packets when the daemon is killed, and when it comes back', async () => {
    const before = await publicKey('host1');
    await lab().stopDaemon('host1', 'SIGKILL');
    await expectPing(lab());
    await lab().startDaemon('host1');
    expect(await publicKey('host1')).toBe(before);
    await expectPing(lab());
    expect(await engineOf(lab(), 'host1')).toMatchObject({ inForce: 'kernel' });
  });

  it('understand a host whose engine is tweed’s own, through a new session, too', async () => {
    await lab().stopDaemon('host2');
    process.env.WIREGUARD_ENGINE = 'user';
    try {
      await lab().startDaemon('host2');
    } finally {
      delete process.env.WIREGUARD_ENGINE;
    }
    await lab().waitForPeers();
    expect(await engineOf(lab(), 'host1')).toMatchObject({ inForce: 'kernel' });
    expect(await engineOf(lab(), 'host2')).toMatchObject({ inForce: 'user' });
    await expectGreen(lab());
    const handshake = async () => Number(Object.values(await shown(lab(), 'host1', 'latest-handshakes'))[0]);
    const before = await handshake();
    const renewed = async () => {
      await expectPing(lab()); // sessions are made anew only where something is said
      return (await handshake()) > before;
    };
    await waitFor('the next session', renewed, { timeoutMs: 15_000, everyMs: 1000 });
    await expectPing(lab());
  });

  it('take their device along when they stop', async () => {
    await lab().stopDaemon('host1');
    expect(await devices(lab(), 'host1')).toEqual([]);
  });
});
