import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { whyNoEtcd } from '../support/etcd.js';
import { HostEtcd } from './host-etcd.js';
import { deviceAddress, eventually, networkConfig, TestNetwork } from './hosts.js';

describe.skipIf(whyNoEtcd() !== '')('a daemon with etcd', () => {
  let network: TestNetwork;
  let etcd: HostEtcd;
  let directory: string;

  beforeEach(async () => {
    directory = await fs.mkdtemp(path.join(os.tmpdir(), 'tweed-daemon-etcd-'));
    network = await TestNetwork.create();
    etcd = new HostEtcd(network.hosts[0], directory);
  });
  afterEach(async () => {
    await etcd.kill();
    await network.remove();
    await fs.rm(directory, { recursive: true });
  });

  it('waits for it without any option, finds it at its usual place, and then for the configuration', async () => {
    const [host] = network.hosts;
    const daemon = host.start([]);
    await daemon.says('waiting for the registry');
    const waiting = { phase: 'waiting', registry: { kind: 'etcd', connected: false } };
    await eventually(async () => expect(await host.status()).toMatchObject(waiting)); // the socket opens a moment later
    etcd.start();
    await daemon.says('has none; write one');
    await eventually(async () => expect((await host.tweed('network', 'set', networkConfig)).status).toBe(0));
    await host.ready();
    expect(JSON.parse((await host.tweed('leases', '--json')).stdout)).toMatchObject({
      leases: [{ publicIp: '192.168.77.1', backend: 'udp', secondsLeft: expect.any(Number) }],
      malformed: [],
    });
    expect(await daemon.stop()).toBe(0);
  });

  it('goes on forwarding without it, and starts from the cache when told to', async () => {
    const [first, second] = network.hosts;
    const endpoints = '-etcd-endpoints=http://192.168.77.1:2379';
    etcd.start();
    await eventually(async () => expect((await first.tweed('network', 'set', networkConfig)).status).toBe(0));
    const daemon = first.start([endpoints]);
    second.start([endpoints]);
    const lease = (await first.ready(1)).lease;
    const remote = deviceAddress(await second.ready(1));
    await first.reaches(remote);
    const cache = path.join(first.directory, 'flannel0.cache.json');
    await eventually(async () => expect(await fs.readFile(cache, 'utf8')).toContain('192.168.77.2'));

    await etcd.kill();
    await eventually(async () => expect((await first.status()).registry.connected).toBe(false));
    await first.reaches(remote);

    await daemon.stop('SIGKILL');
    const again = first.start([endpoints, '-start-from-cache']);
    expect((await first.ready(1)).lease).toMatchObject({ subnet: lease?.subnet, fromCache: true });
    await first.reaches(remote);

    etcd.start();
    await eventually(async () => expect((await first.status()).lease).toMatchObject({ fromCache: false }));
    expect(await again.stop()).toBe(0);
  });
});
