import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DaemonStatus } from '../../../src/observe/status.js';
import { whyNoEtcd } from '../support/etcd.js';
import { HostEtcd } from './host-etcd.js';
import { deviceAddress, eventually, networkConfig, type TestHost, TestNetwork } from './hosts.js';

const PREFIX = '/coreos.com/network';

/** What the registry, the firewall, the neighbours or an earlier life of the host can do to a daemon. */
describe.skipIf(whyNoEtcd() !== '')('a daemon in trouble', () => {
  let network: TestNetwork;
  let etcd: HostEtcd;
  let directory: string;
  let first: TestHost;
  let second: TestHost;

  beforeEach(async () => {
    directory = await fs.mkdtemp(path.join(os.tmpdir(), 'tweed-trouble-'));
    network = await TestNetwork.create(null);
    [first, second] = network.hosts;
    etcd = new HostEtcd(first, path.join(directory, 'etcd'), ['--quota-backend-bytes=200000']);
    etcd.start();
  });
  afterEach(async () => {
    await etcd.kill();
    await network.remove();
    await fs.rm(directory, { recursive: true });
  });

  const put = (key: string, value: string) => etcd.control('put', `${PREFIX}/${key}`, value);
  const configure = (config = networkConfig) => put('config', config);
  const start = (host: TestHost, ...args: string[]) => host.start(['-etcd-endpoints', etcd.endpoint, ...args]);
  const keyOf = ({ lease }: DaemonStatus) => `subnets/${lease?.subnet.replace('/', '-')}`;
  const textOf = async (key: string) => (await etcd.control('get', '--print-value-only', `${PREFIX}/${key}`)).trim();

  /** Both daemons, ready and knowing each other. */
  async function pair(): Promise<[DaemonStatus, DaemonStatus]> {
    await configure();
    for (const host of [first, second]) start(host);
    return [await first.ready(1), await second.ready(1)];
  }

  it('is not ready once its lease has run out, and says so', async () => {
    await configure();
    start(first, '-subnet-ttl=6');
    await first.ready();
    // Until the server is full: then renewals are refused.
    for (let index = 0; index < 20; index++) {
      const filled = await first.run('env', 'ETCDCTL_API=3', 'etcdctl', 'put', `/filling/${index}`, 'x'.repeat(60_000));
      if (filled.stderr.includes('space exceeded')) break;
    }
    await eventually(async () => expect((await first.status()).ready).toBe(false));
    expect(await first.status()).toMatchObject({ phase: 'running', detail: expect.stringContaining('has expired') });
    const { status, stdout } = await first.tweed('status', '--ready');
    expect(status).toBe(1);
    expect(stdout).toMatch(/running: the lease has expired/);
    expect(stdout).toMatch(/lease .* expired\n/);
  });

  it('warns of a FORWARD chain that refuses whatever nftables accepts, and not where its own rules are enough', async () => {
    for (const host of [first, second]) {
      const forward = ['iptables', '-A', 'FORWARD'];
      await host.run(...forward, '-m', 'state', '--state', 'RELATED,ESTABLISHED', '-j', 'ACCEPT');
      await host.run(...forward, '-j', 'REJECT', '--reject-with', 'icmp-host-prohibited');
    }
    await configure(JSON.stringify({ ...JSON.parse(networkConfig), EnableNFTables: true }));
    const warned = start(first);
    await first.ready();
    await warned.says('forwarded packets are refused: iptables refuses forwarded packets, whatever nftables accepts');
    expect((await first.status()).warnings).toEqual([
      expect.stringContaining('; iptables -I FORWARD -s 100.96.0.0/16'),
    ]);
    expect((await first.tweed('status')).stdout).toMatch(/warning .*forwarded packets are refused/);
    expect(await warned.stop()).toBe(0);

    await configure();
    start(second);
    expect((await second.ready()).warnings).toEqual([]);
  });

  describe('with a device of its name', () => {
    const check = async () => (await first.tweed('run', '-check')).stdout;
    const doctor = async () => {
      const { stdout } = await first.tweed('doctor', '--json', '--iface=eth0', `--etcd-endpoints=${etcd.endpoint}`);
      return (JSON.parse(stdout) as { id: string }[]).find(({ id }) => id === 'overlay-device');
    };

    it('that was left without a process: takes it over', async () => {
      await configure();
      await first.run('ip', 'tuntap', 'add', 'dev', 'flannel0', 'mode', 'tun');
      expect(await check()).toContain('the udp backend will take it over');
      expect(await doctor()).toMatchObject({ level: 'ok', text: expect.stringContaining('will take it over') });
      const daemon = start(first);
      start(second);
      await first.ready(1);
      await first.reaches(deviceAddress(await second.ready(1)));
      expect(daemon.output).toContain('took over a device that nobody held');
      expect(await daemon.stop()).toBe(0);
      expect((await first.run('ip', '-br', 'link')).stdout).not.toContain('flannel0');
    });

    it.each([
      [
        'several queues',
        ['tuntap', 'add', 'dev', 'flannel0', 'mode', 'tun', 'multi_queue'],
        'ip tuntap del dev flannel0',
      ],
      ['another kind', ['link', 'add', 'flannel0', 'type', 'bridge'], 'ip link del flannel0'],
    ])('that has %s: says how to remove it, and so do the checks', async (_, make, removal) => {
      await configure();
      await first.run('ip', ...make);
      expect(await check()).toContain(removal);
      expect(await doctor()).toMatchObject({ level: 'fail', fix: expect.stringContaining(removal) });
      const daemon = start(first);
      expect(await daemon.exited).toBe(1);
      expect(daemon.output).toContain(removal);
    });
  });

  it('says, on both hosts, that they have one public address', async () => {
    await configure();
    start(first, '-public-ip=203.0.113.7');
    await first.ready();
    start(second, '-public-ip=203.0.113.7');
    for (const host of [first, second]) {
      await eventually(async () =>
        expect((await host.status()).warnings).toEqual([expect.stringContaining('the same public address')]),
      );
    }
    const key = keyOf(await first.status());
    const revision = async () =>
      /"mod_revision":(\d+)/.exec(await etcd.control('get', `${PREFIX}/${key}`, '-w', 'json'))?.[1];
    const before = await revision();
    // Neither writes again because of the other.
    const daemon = start(first, '-etcd-prefix=/another', '-device=flannel9'); // something that takes its time
    await daemon.says('waiting for the network config');
    expect(await revision()).toBe(before);
  });

  it('warns of a network that covers the hosts’ own, and with it the way to the registry', async () => {
    await configure('{"Network":"192.168.0.0/16","SubnetMin":"192.168.128.0","Backend":{"Type":"udp"}}');
    const daemon = first.start(['-etcd-endpoints', `${etcd.endpoint},http://192.168.99.1:2379`]);
    const { warnings } = await first.ready();
    expect(warnings).toEqual([
      expect.stringContaining('covers 192.168.77.1 of eth0'),
      expect.stringContaining('covers the way to the registry at http://192.168.99.1:2379'),
    ]);
    expect(daemon.output.match(/covers the way to the registry/g)).toHaveLength(1);
  });

  it('refuses peers that are reached through the overlay or this host, and an innocent one loses nothing by them', async () => {
    const [own, other] = await pair();
    const refused = {
      '100.96.200.0-24': ['100.96.200.5', 'lies inside the overlay'],
      '100.96.201.0-24': ['127.0.0.1', 'a loopback address'],
      '100.96.202.0-24': ['224.0.0.9', 'a multicast address'],
      '100.96.203.0-24': ['255.255.255.255', 'the broadcast address'],
      '100.96.204.0-24': ['0.1.2.3', 'of “this network”'],
      '100.96.205.0-24': ['240.0.0.1', 'of a reserved block'],
      '100.96.206.0-24': ['192.168.77.1', 'names this host'],
    };
    for (const [key, [PublicIP]] of Object.entries(refused)) {
      await put(`subnets/${key}`, JSON.stringify({ PublicIP, PublicIPv6: null }));
    }
    await eventually(async () =>
      expect((await first.status()).backend?.refused.map(({ subnet, reason }) => [subnet, reason])).toEqual(
        Object.entries(refused).map(([key, [, reason]]) => [
          key.replace('-', '/'),
          expect.stringContaining(reason as string),
        ]),
      ),
    );
    const before = await first.status();
    await first.run('ping', '-n', '-c1', '-W1', '100.96.200.9');
    const { stdout } = await first.run('ping', '-n', '-c50', '-i0.02', '-W2', deviceAddress(other));
    expect(stdout).toContain(' 50 received');
    // As a peer at 127.0.0.1 any user of this host could send into the overlay.
    const inject = `
      const packet = Buffer.alloc(28);
      packet.set([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 100, 96, 201, 1, ${deviceAddress(own).split('.').join(', ')}]);
      let sum = 0;
      for (let at = 0; at < 20; at += 2) sum += packet.readUInt16BE(at);
      packet.writeUInt16BE(~((sum & 0xffff) + (sum >>> 16)) & 0xffff, 10);
      const socket = require('dgram').createSocket('udp4');
      socket.bind(8285, '127.0.0.1', () => socket.send(packet, 8285, '${first.address}', () => socket.close()));`;
    expect((await first.run(process.execPath, '-e', inject)).status).toBe(0);
    await eventually(async () => {
      const { backend } = await first.status();
      expect(backend?.drops.rx_unknown_sender).toBe((before.backend?.drops.rx_unknown_sender ?? 0) + 1);
      expect(backend?.totals.tx_packets).toBe((before.backend?.totals.tx_packets ?? 0) + 50);
    });
  });

  it.each([
    ['garbage', 'garbage'],
    ['a lease of another backend', '{"PublicIP":"192.168.77.1","PublicIPv6":null,"BackendType":"vxlan"}'],
  ])(
    'writes its lease again where somebody has made %s of it, and a peer that comes later finds it',
    async (_, value) => {
      await configure();
      start(first);
      const own = await first.ready();
      const good = await textOf(keyOf(own));
      await put(keyOf(own), value);
      await eventually(async () => expect(await textOf(keyOf(own))).toBe(good));
      start(second);
      await second.ready(1);
      await second.reaches(deviceAddress(own));
      expect((await first.status()).ready).toBe(true);
    },
  );
});
