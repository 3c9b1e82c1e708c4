/** WireGuard of the kernel: as the engine that is taken by itself, and at the other end of tweed's own engine. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { containerAddresses } from '../../src/lab/containers.js';
import { daemonStatus, readSubnet } from '../../src/lab/daemon.js';
import type { Lab } from '../../src/lab/lab.js';
import { formatMatrix } from '../../src/lab/matrix.js';
import { patient } from '../../src/lab/patience.js';
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
async function shown(lab: Lab, host: string, what: string, device = 'flannel-wg'): Promise<Record<string, string>> {
  const lines = (await print(lab, host, 'wg', 'show', device, what)).split('\n').filter((line) => line !== '');
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

  it('go on with a peer while others come and go', async () => {
    const other = await publicKey('host2');
    // one that is taken away and put back begins at 0
    const received = async () => Number((await shown(lab(), 'host1', 'transfer'))[other]);
    const before = await received();
    const { name } = await lab().addHost({ containers: 1, daemonArgs: [resync, '--release-on-exit'] });
    await lab().waitForPeers();
    await expectGreen(lab());
    await lab().stopDaemon(name);
    expect(await devices(lab(), name)).toEqual([]);
    const peers = async () => Object.keys(await shown(lab(), 'host1', 'allowed-ips'));
    await waitFor('the peer to go', async () => (await peers()).length === 1);
    expect(await peers()).toEqual([other]);
    expect(await received()).toBeGreaterThan(before);
    await lab().removeHost(name);
  });

  it('have device and peers back when somebody took them away', async () => {
    const other = await publicKey('host2');
    const isBack = async () => other in (await shown(lab(), 'host1', 'allowed-ips').catch(() => ({})));
    await lab().exec('host1', ['wg', 'set', 'flannel-wg', 'peer', other, 'remove']);
    await waitFor('the peer to come back', isBack);
    await lab().exec('host1', ['ip', 'link', 'del', 'flannel-wg']);
    await waitFor('the device to come back', isBack);
    await expectGreen(lab());
  });

  it('forward while no daemon runs, keep their key, and have no device after a stop', async () => {
    const before = await publicKey('host2');
    await lab().stopDaemon('host2', 'SIGKILL');
    await expectGreen(lab());
    await lab().startDaemon('host2');
    await lab().waitForPeers();
    expect(await publicKey('host2')).toBe(before);
    await expectGreen(lab());
    await lab().stopDaemon('host2');
    expect(await devices(lab(), 'host2')).toEqual([]);
    expect(statSync(keyFile('host2')).mode & 0o777).toBe(0o400);
  });
});

/** One ping after the other, until it is ended. */
class Pings {
  readonly #child: ChildProcess;
  #text = '';

  constructor(lab: Lab, from: string, to: string) {
    this.#child = lab.spawn(from, ['ping', '-n', '-i', '0.5', to], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#text += text;
    });
  }

  /** The numbers of those that were answered. */
  get answered(): number[] {
    return [...this.#text.matchAll(/icmp_seq=(\d+) ttl/g)].map(([, number]) => Number(number));
  }

  async end(): Promise<void> {
    const ended = once(this.#child, 'close');
    this.#child.kill('SIGINT');
    await ended;
  }
}

const presharedKey = Buffer.alloc(32, 9).toString('base64');

describe.each([
  ['a device for each family and a preshared key', { PSK: presharedKey }],
  ['one device for both families, by IPv6', { Mode: 'ipv6' }],
])('the kernel’s engine on one host and tweed’s own on the other, %s', (...[, options]) => {
  const lab = useLab({
    backend: 'wireguard',
    hosts: 1,
    containers: 1,
    ipFamilies: 'dual',
    underlayFamily: 'dual',
    networkConfig: { Backend: options },
    daemonArgs: [resync, '--wireguard-engine=kernel'],
  });
  const addressesOf = async (host: string) =>
    containerAddresses(await readSubnet(lab().files, host), 1) as [string, string];

  beforeAll(async () => {
    await lab().addHost({ daemonArgs: [resync, '--wireguard-engine=user'] });
    await lab().waitForPeers();
  });

  if ('PSK' in options)
    it(
      'renew their sessions after two minutes, whoever began them, and lose nothing',
      async () => {
        // the first word of an initiation, behind the headers of UDP
        const filter = 'udp[8:4] = 0x01000000 or (ip6 and udp and ip6[48:4] = 0x01000000)';
        const dump = lab().spawn('host1', ['tcpdump', '-Z', 'root', '-nli', 'eth0', filter], {
          stdio: ['ignore', 'pipe', 'inherit'],
        });
        let seen = '';
        dump.stdout?.setEncoding('utf8').on('data', (text: string) => {
          seen += text;
        });
        const begun = (host: string) =>
          lab()
            .host(host)
            .addresses.map((one) => seen.split(new RegExp(`IP6? ${one}[.]5182[01] >`)).length - 1);
        const pings: Pings[] = [];
        try {
          // tcpdump says nothing that could be awaited before it has seen something: a stranger's initiation
          const stranger = `require('dgram').createSocket('udp4').send(Buffer.from('01000000', 'hex'), 9, '${lab().host('host1').address}', () => process.exit())`;
          await waitFor('tcpdump', async () => {
            await lab().exec('host2', [process.execPath, '-e', stranger]);
            return seen !== '';
          });
          const [[own], [, otherV6]] = [await addressesOf('host2'), await addressesOf('host1')];
          pings.push(new Pings(lab(), 'host1/c1', own), new Pings(lab(), 'host2/c1', otherV6));
          await waitFor(
            'both ends to have renewed what they began',
            () => (begun('host1')[0] ?? 0) >= 2 && (begun('host2')[1] ?? 0) >= 2,
            { timeoutMs: 200_000, everyMs: 500 },
          );
          const counts = pings.map(({ answered }) => answered.length);
          await waitFor('ten more pings of each', () =>
            pings.every(({ answered }, i) => answered.length >= counts[i] + 10),
          );
        } finally {
          dump.kill('SIGTERM');
          await Promise.all(pings.map((one) => one.end()));
        }
        for (const { answered } of pings) expect(answered).toEqual(answered.map((_, i) => i + 1));
        expect((await statusOf(lab(), 'host2'))?.totals.rekeys).toBeGreaterThanOrEqual(2);
      },
      patient(300_000),
    );

  it('each has its own, and all kinds of traffic of both families pass', async () => {
    expect(await engineOf(lab(), 'host1')).toMatchObject({ inForce: 'kernel' });
    expect(await engineOf(lab(), 'host2')).toMatchObject({ inForce: 'user' });
    await expectGreen(lab());
    const { drops = {} } = (await statusOf(lab(), 'host2')) ?? {};
    const faults = ['rx_not_authentic', 'rx_replayed', 'rx_not_wireguard', 'rx_not_ip', 'rx_spoofed_source'];
    expect(faults.map((name) => [name, drops[name]])).toEqual(faults.map((name) => [name, 0]));
  });

  it('either end finds the other again after a restart', async () => {
    for (const host of ['host1', 'host2']) {
      await lab().stopDaemon(host);
      await lab().startDaemon(host);
      await lab().waitForPeers();
      await expectGreen(lab());
    }
  });
});
