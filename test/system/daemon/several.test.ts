import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseEnvFile } from '../../../src/base/env-file.js';
import { exec } from '../../../src/base/exec.js';
import type { DaemonStatus } from '../../../src/observe/status.js';
import { fetchStatus, fetchStatuses } from '../../../src/operator/status-client.js';
import { whyNoEtcd } from '../support/etcd.js';
import { HostEtcd } from './host-etcd.js';
import { eventually, type RunningDaemon, type TestHost, TestNetwork } from './hosts.js';

/** An overlay among several on the same hosts. */
interface Overlay {
  readonly prefix: string;
  readonly network: string;
  readonly backend: Readonly<Record<string, unknown>>;
  readonly args: readonly string[];
}

/** Rules as a flanneld of still another network leaves them. */
const flanneldRules = `*nat
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.200.7.0/24 -d 10.200.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.200.0.0/16 -d 10.200.7.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s 10.200.0.0/16 -d 10.200.7.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.200.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s 10.200.0.0/16 -d 10.200.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
COMMIT
*filter
:FORWARD DROP [0:0]
:FLANNEL-FWD - [0:0]
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A FLANNEL-FWD -s 10.200.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d 10.200.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
COMMIT
`;

/** Outside of every overlay, joined to the first host, with no way back but to that host's own address. */
const WORLD = '203.0.113.9';

describe.skipIf(whyNoEtcd() !== '')('several daemons on each of two hosts', () => {
  let network: TestNetwork;
  let etcd: HostEtcd;
  let directory: string;
  const namespaces: string[] = [];

  beforeEach(async () => {
    directory = await fs.mkdtemp(path.join(os.tmpdir(), 'tweed-several-'));
    network = await TestNetwork.create(null);
    etcd = new HostEtcd(network.hosts[0], path.join(directory, 'etcd'));
    etcd.start();
    // What fits no other route is lost, as it is behind a gateway that knows nothing of overlays.
    for (const host of network.hosts) await host.run('ip', 'route', 'add', 'default', 'via', '192.168.77.254');
  });
  afterEach(async () => {
    await etcd.kill();
    for (const name of namespaces.splice(0)) await exec(['ip', 'netns', 'del', name], { tolerate: true });
    await network.remove();
    await fs.rm(directory, { recursive: true });
  });

  const subnetFileOf = (host: TestHost, { prefix }: Overlay) =>
    path.join(host.directory, `${prefix.replaceAll('/', '-')}.env`);
  const statusOf = (host: TestHost, overlay: Overlay) => fetchStatus(host.directory, { network: overlay.network });

  async function store({ prefix, network: Network, backend: Backend }: Overlay): Promise<void> {
    await etcd.control('put', `${prefix}/config`, JSON.stringify({ Network, Backend }));
  }

  function start(host: TestHost, overlay: Overlay): RunningDaemon {
    const own = ['-etcd-endpoints', etcd.endpoint, '-etcd-prefix', overlay.prefix];
    return host.start([...own, '-subnet-file', subnetFileOf(host, overlay), ...overlay.args]);
  }

  async function ready(overlay: Overlay): Promise<DaemonStatus[]> {
    const statuses: DaemonStatus[] = [];
    for (const host of network.hosts) {
      await eventually(async () => {
        const status = await statusOf(host, overlay);
        expect(status.ready && status.backend?.peers.length === 1).toBe(true);
        statuses.push(status);
      });
    }
    return statuses;
  }

  /** The address that containers of this overlay have as their gateway on this host. */
  async function gatewayOf(host: TestHost, overlay: Overlay): Promise<string> {
    return parseEnvFile(await fs.readFile(subnetFileOf(host, overlay), 'utf8')).get('FLANNEL_SUBNET') ?? '';
  }

  /** A namespace joined to the host. @returns its name, for `ip netns exec` */
  async function join(host: TestHost, link: string, hostAddress: string, address: string): Promise<string> {
    const name = `${host.namespace}-${link}`;
    await exec(['ip', 'netns', 'add', name]);
    namespaces.push(name);
    await host.run('ip', 'link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
    await host.run('ip', 'address', 'add', hostAddress, 'dev', link);
    await host.run('ip', 'link', 'set', link, 'up');
    await exec(['ip', '-n', name, 'address', 'add', address, 'dev', 'eth0']);
    await exec(['ip', '-n', name, 'link', 'set', 'eth0', 'up']);
    return name;
  }

  /** How many of so many pings are answered. */
  async function answered(from: string, to: string, count: number): Promise<number> {
    const argv = ['ip', 'netns', 'exec', from, 'ping', '-n', '-c', String(count), '-i0.3', '-W2', to];
    const { stdout } = await exec(argv, { tolerate: true });
    return Number(/(\d+) received/.exec(stdout)?.[1]);
  }

  it('vxlan and host-gw with no options but prefix and subnet file, each to its own network only', async () => {
    const vxlan = { prefix: '/vxlan/network', network: '10.11.0.0/16', backend: { Type: 'vxlan' }, args: [] };
    const hostGw = { prefix: '/hostgw/network', network: '10.12.0.0/16', backend: { Type: 'host-gw' }, args: [] };
    for (const overlay of [vxlan, hostGw]) await store(overlay);
    for (const host of network.hosts) for (const overlay of [vxlan, hostGw]) start(host, overlay);
    for (const overlay of [vxlan, hostGw]) {
      await ready(overlay);
      for (const host of network.hosts) {
        const device = `br${overlay.network.slice(3, 5)}`;
        await host.run('ip', 'link', 'add', device, 'type', 'bridge');
        await host.run('ip', 'address', 'add', await gatewayOf(host, overlay), 'dev', device);
        await host.run('ip', 'link', 'set', device, 'up');
      }
    }
    const [first, second] = network.hosts;
    const addressOf = async (host: TestHost, overlay: Overlay) => (await gatewayOf(host, overlay)).split('/')[0] ?? '';
    for (const overlay of [vxlan, hostGw]) {
      await first.reaches(await addressOf(second, overlay));
      await second.reaches(await addressOf(first, overlay));
    }
    const by = async (device: string, address: string) =>
      (await first.run('ping', '-n', '-c1', '-W1', '-I', device, address)).status;
    expect(await by('flannel.1', await addressOf(second, vxlan))).toBe(0);
    expect(await by('eth0', await addressOf(second, hostGw))).toBe(0);
    expect(await by('flannel.1', await addressOf(second, hostGw))).not.toBe(0);
    expect(await by('eth0', await addressOf(second, vxlan))).not.toBe(0);

    // The tools ask which one is meant.
    const either = await first.tweed('status', '--ready');
    expect(either).toMatchObject({ status: 1, stderr: expect.stringContaining('2 daemons answer') });
    expect((await first.tweed('status', '--ready', '--network=10.12.0.0/16')).status).toBe(0);
    expect((await first.tweed('ping', '--device=flannel.1', '-c1', second.address)).status).toBe(0);
    // Each keeps its own state.
    const caches = (await fs.readdir(first.directory)).filter((name) => name.endsWith('.cache.json'));
    expect(caches).toHaveLength(2);
  });

  it('a second one for a network or a device is refused, with the one that has it', async () => {
    const [host] = network.hosts;
    const vxlan = { prefix: '/one', network: '10.11.0.0/16', backend: { Type: 'vxlan' }, args: [] };
    const clashes: readonly (readonly [Overlay, string])[] = [
      [{ ...vxlan, prefix: '/two' }, 'network 10.11.0.0/16'],
      [{ ...vxlan, prefix: '/three', network: '10.13.0.0/16' }, 'device flannel.1'],
    ];
    for (const overlay of [vxlan, ...clashes.map(([overlay]) => overlay)]) await store(overlay);
    start(host, vxlan);
    await eventually(async () => expect((await statusOf(host, vxlan)).ready).toBe(true));
    const { process: holder } = await statusOf(host, vxlan);
    for (const [overlay, what] of clashes) {
      const daemon = start(host, overlay);
      expect(await daemon.exited).toBe(1);
      expect(daemon.output).toContain(`another tweed (process ${holder}) already serves the ${what}`);
      expect(daemon.output).not.toContain('flannel0 in');
    }
    expect((await statusOf(host, vxlan)).ready).toBe(true);
  });

  it('four overlays beside a flanneld’s, with masquerading and a closed FORWARD chain: no packet lost, nothing put back, all clean', async () => {
    const masquerading = ['-ip-masq', '-clean-up-on-exit'];
    const overlays: readonly Overlay[] = [
      { prefix: '/coreos.com/network', network: '10.96.0.0/16', backend: { Type: 'udp' }, args: masquerading },
      {
        prefix: '/second/network',
        network: '10.97.0.0/16',
        backend: { Type: 'udp', Port: 8286 },
        args: [...masquerading, '-device=flannel1'],
      },
      { prefix: '/third', network: '10.98.0.0/16', backend: { Type: 'vxlan' }, args: masquerading },
      { prefix: '/fourth', network: '10.99.0.0/16', backend: { Type: 'vxlan', VNI: 2 }, args: masquerading },
    ];
    const [first, second] = network.hosts;
    const rules = async (host: TestHost) =>
      (await host.run('iptables-save')).stdout.replaceAll(/^#.*\n|\[\d+:\d+\]/gm, '');
    for (const host of network.hosts) {
      await host.run('sysctl', '-qw', 'net.ipv4.ip_forward=1');
      await exec(['ip', 'netns', 'exec', host.namespace, 'iptables-restore'], { input: flanneldRules });
    }
    const before = await Promise.all(network.hosts.map(rules));
    await join(first, 'world', '203.0.113.1/24', `${WORLD}/24`);
    for (const overlay of overlays) await store(overlay);
    const daemons = network.hosts.flatMap((host) => overlays.map((overlay) => start(host, overlay)));

    const containers: { overlay: Overlay; from: string; to: string }[] = [];
    for (const [index, overlay] of overlays.entries()) {
      await ready(overlay);
      const ends: { name: string; address: string }[] = [];
      for (const host of network.hosts) {
        const gateway = await gatewayOf(host, overlay);
        const address = gateway.replace(/\.1\//, '.2/');
        const name = await join(host, `c${index}`, gateway, address);
        await exec(['ip', '-n', name, 'route', 'add', 'default', 'via', gateway.split('/')[0] as string]);
        ends.push({ name, address: address.split('/')[0] as string });
      }
      const [near, far] = ends as [(typeof ends)[0], (typeof ends)[0]];
      await eventually(async () => expect(await answered(near.name, far.address, 1)).toBe(1));
      containers.push({ overlay, from: near.name, to: far.address });
    }
    const running = await Promise.all(network.hosts.map(rules));

    const COUNT = 18; // 5 s, in which every daemon looks at its rules several times
    const counts = await Promise.all(
      containers.flatMap(({ from, to }) => [answered(from, to, COUNT), answered(from, WORLD, COUNT)]),
    );
    expect(counts).toEqual(containers.flatMap(() => [COUNT, COUNT]));
    for (const host of network.hosts) {
      const statuses = await fetchStatuses(host.directory);
      expect(statuses.map(({ repairs }) => repairs)).toEqual(overlays.map(() => 0));
    }
    expect(await Promise.all(network.hosts.map(rules))).toEqual(running);

    // Whoever goes takes what is its own, and no more.
    expect(await daemons[0]?.stop()).toBe(0);
    expect(await answered((containers[1] as (typeof containers)[0]).from, WORLD, 3)).toBe(3);
    await Promise.all(daemons.slice(1).map((daemon) => daemon.stop()));
    expect(await Promise.all(network.hosts.map(rules))).toEqual(before);
    for (const host of [first, second]) {
      const links = (await host.run('ip', '-br', 'link')).stdout;
      expect(links).not.toContain('flannel');
      expect((await host.run('ip', 'route')).stdout).not.toMatch(/10\.9[6-9]\.0\.0\/16|flannel/);
      expect((await fs.readdir(host.directory)).filter((name) => name.includes('.sock'))).toEqual([]);
    }
  });
});
