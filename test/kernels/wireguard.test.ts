/** WireGuard of the kernel as the engine that is taken by itself. */
import { readFileSync, statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { daemonStatus, readSubnet } from '../../src/lab/daemon.js';
import type { Lab } from '../../src/lab/lab.js';
import { formatMatrix } from '../../src/lab/matrix.js';
import { waitFor } from '../../src/lab/wait.js';
import { useLab } from '../system/support/lab.js';

const resync = '--iptables-resync=1';
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

async function devices(lab: Lab, host: string): Promise<unknown[]> {
  return JSON.parse(await print(lab, host, 'ip', '-json', '-details', 'link', 'show', 'type', 'wireguard'));
}

describe('hosts whose kernel has WireGuard', () => {
  const lab = useLab({ backend: 'wireguard', hosts: 2, containers: 1, daemonArgs: [resync] });
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
    const words = ['get', '--prefix', '/coreos.com/network/subnets/', '--print-value-only'];
    const stored = await print(lab(), 'etcd', 'etcdctl', '--endpoints=http://127.0.0.1:2379', ...words);
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
});
