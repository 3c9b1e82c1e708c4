import fs from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { deviceAddress, eventually, type TestHost, TestNetwork } from './hosts.js';
import { Service } from './service.js';
import { Traffic } from './traffic.js';

/** The kernel's number of the device: another one is another device, though it has the same name. */
async function deviceIndex(host: TestHost, device = 'flannel0'): Promise<string> {
  return (await host.run('cat', `/sys/class/net/${device}/ifindex`)).stdout.trim();
}

let network: TestNetwork;
let traffic: Traffic | null;
let service: Service | null;

beforeEach(async () => {
  network = await TestNetwork.create();
  traffic = null;
  service = null;
});
afterEach(async () => {
  await traffic?.end();
  await service?.end();
  await network.remove();
});

describe('a daemon that is upgraded under traffic', () => {
  it('gives its place to another 20 times, and not one packet is missing', async () => {
    const [first, second] = network.hosts;
    let [daemon] = await network.startBoth();
    await first.reaches(deviceAddress(await second.status()));
    const index = await deviceIndex(first);
    traffic = await Traffic.between(first, second);
    for (let round = 0; round < 20; round++) {
      const next = first.start([network.endpoint, '-take-over']);
      expect(await daemon.exited).toBe(0);
      daemon = next;
      await first.ready(1);
    }
    const result = await traffic.result();
    const drops = await Promise.all(network.hosts.map(async (host) => (await host.status()).backend?.drops));
    expect(result, `dropped: ${JSON.stringify(drops)}`).toEqual({ lost: 0, streams: 'whole' });
    expect(await deviceIndex(first)).toBe(index);
    expect((await first.status()).backend?.drops).toMatchObject({ tx_no_route: 0, tx_no_route_yet: 0 });
  });

  it('goes on when the one that is to take its place ends before it forwards', async () => {
    const [first, second] = network.hosts;
    const [daemon] = await network.startBoth();
    const target = deviceAddress(await second.status());
    await first.reaches(target);
    traffic = await Traffic.between(first, second);
    for (const option of ['-tun-tso=off', '-device=flannel1', '-socket-buffer=65536']) {
      const next = first.start([network.endpoint, '-take-over', option]);
      if (option.startsWith('-socket')) await next.stop('SIGKILL');
      expect(await next.exited).not.toBe(0);
    }
    expect(await traffic.result()).toEqual({ lost: 0, streams: 'whole' });
    await daemon.stop();
  });

  it('starts as ever when there is none whose place could be taken', async () => {
    const [first] = network.hosts;
    const daemon = first.start([network.endpoint, '-take-over']);
    await first.ready();
    expect(await fs.readdir(first.directory)).toContain('tweed.handover');
    await daemon.stop();
    expect((await fs.readdir(first.directory)).filter((name) => name.includes('handover'))).toEqual([]);
  });
});

describe('a daemon that its service manager restarts under traffic', () => {
  it.each(['SIGKILL', 'SIGTERM'])('loses nothing by %s where its descriptors are kept', async (signal) => {
    const [first, second] = network.hosts;
    // room for as many packets as come while a slow machine starts Node
    service = new Service(first, {}, network.endpoint, '-txqueuelen=30000');
    second.start([network.endpoint]);
    await Promise.all(network.hosts.map((host) => host.ready(1)));
    await first.reaches(deviceAddress(await second.status()));
    const index = await deviceIndex(first);
    traffic = await Traffic.between(first, second);
    for (let round = 0; round < 3; round++) await service.restart(signal);
    const { lost, streams } = await traffic.result();
    expect(streams).toBe('whole');
    // one that is killed takes with it what it has read and not sent yet: a turn's worth each time
    expect(lost).toBeLessThanOrEqual(signal === 'SIGKILL' ? 3 * 64 : 0);
    expect(await deviceIndex(first)).toBe(index);
  });

  it('makes the device anew where what was kept does not fit', async () => {
    const [first] = network.hosts;
    service = new Service(first, {}, network.endpoint);
    await first.ready();
    const index = await deviceIndex(first);
    await service.end();
    service = new Service(first, {}, network.endpoint, '-tun-tso=off');
    await first.ready();
    expect(await deviceIndex(first)).not.toBe(index);
  });

  it('is started as ever where nothing is kept', async () => {
    const [first] = network.hosts;
    service = new Service(first, { room: 0 }, network.endpoint);
    await first.ready();
    const index = await deviceIndex(first);
    await service.restart('SIGTERM');
    expect(await deviceIndex(first)).not.toBe(index);
  });
});

describe.each(['vxlan', 'host-gw'])('a %s daemon, where the kernel forwards', (type) => {
  it('is not missed while it is restarted or replaced', async () => {
    await network.remove();
    network = await TestNetwork.create(JSON.stringify({ Network: '100.96.0.0/16', Backend: { Type: type } }));
    const [first, second] = network.hosts;
    let [daemon] = await network.startBoth();
    traffic = await Traffic.between(first, second);
    for (const way of ['SIGTERM', 'SIGKILL', 'take-over'] as const) {
      if (way !== 'take-over') await daemon.stop(way);
      const next = first.start([network.endpoint, ...(way === 'take-over' ? ['-take-over'] : [])]);
      if (way === 'take-over') expect(await daemon.exited).toBe(0);
      daemon = next;
      await first.ready();
    }
    expect(await traffic.result()).toEqual({ lost: 0, streams: 'whole' });
  });
});

/**
 * A process that hands over leaves its sessions to the next. One that ends otherwise does not: what a peer sends under them
 * afterwards is lost, and no more.
 */
describe('a daemon that encrypts and is upgraded under traffic', () => {
  const config = '{"Network":"100.96.0.0/16","Backend":{"Type":"wireguard"}}';
  const own = (host: TestHost) => [
    '-wireguard-engine=user',
    `-wireguard-key-file=${host.directory}/wgkey`,
    `-wireguard-socket-dir=${host.directory}/wg`,
  ];
  beforeEach(async () => {
    await network.registry.setConfig(config, null);
  });

  /** Its peers have a session with it that is younger than `since`. */
  const greeted = (host: TestHost, since: number) =>
    eventually(async () => {
      const { peers = [] } = (await host.status()).backend ?? {};
      expect(peers.map(({ lastHandshake }) => (lastHandshake ?? 0) > since)).toEqual([true]);
    });

  it('gives its place to others: device and sessions stay, and not one packet is missing', async () => {
    const [first, second] = network.hosts;
    // from the end of one to the beginning of the next packets wait; the stream alone can fill a queue of the usual length
    const queue = '-txqueuelen=30000';
    let daemon = first.start([network.endpoint, queue, ...own(first)]);
    second.start([network.endpoint, ...own(second)]);
    await Promise.all(network.hosts.map((host) => host.ready(1)));
    await first.reaches(deviceAddress(await second.status()));
    const index = await deviceIndex(first, 'flannel-wg');
    traffic = await Traffic.between(first, second);
    const session = async (host: TestHost) => (await host.status()).backend?.peers[0]?.lastHandshake;
    const sessions = await Promise.all(network.hosts.map(session));
    const losses: Record<string, unknown>[] = [];
    const lossesOf = async (host: TestHost) => {
      const { tx_no_route, tx_no_route_yet, rx_not_authentic, rx_unknown_session, rx_replayed } =
        (await host.status()).backend?.drops ?? {};
      return { tx_no_route, tx_no_route_yet, rx_not_authentic, rx_unknown_session, rx_replayed };
    };
    for (let round = 0; round < 5; round++) {
      const next = first.start([network.endpoint, '-take-over', queue, ...own(first)]);
      losses.push(await lossesOf(first));
      expect(await daemon.exited).toBe(0);
      daemon = next;
      await first.ready(1);
    }
    const result = await traffic.result();
    losses.push(...(await Promise.all(network.hosts.map(lossesOf))));
    const none = { tx_no_route: 0, tx_no_route_yet: 0, rx_not_authentic: 0, rx_unknown_session: 0, rx_replayed: 0 };
    for (const each of losses) expect(each).toEqual(none);
    expect(result).toEqual({ lost: 0, streams: 'whole' });
    expect(await deviceIndex(first, 'flannel-wg')).toBe(index);
    expect(await Promise.all(network.hosts.map(session))).toEqual(sessions);
  });

  it('greets its peers where the sessions are none of its own', async () => {
    const [first, second] = network.hosts;
    const daemon = first.start([network.endpoint, ...own(first)]);
    second.start([network.endpoint, ...own(second)]);
    await Promise.all(network.hosts.map((host) => host.ready(1)));
    await first.reaches(deviceAddress(await second.status()));
    await fs.rm(`${first.directory}/wgkey`);
    const since = Date.now();
    first.start([network.endpoint, '-take-over', ...own(first)]);
    expect(await daemon.exited).toBe(0);
    await first.ready(1);
    await first.reaches(deviceAddress(await second.status()));
    await greeted(first, since);
    await greeted(second, since);
  });

  it('gives the devices of both families away', async () => {
    const [first, second] = network.hosts;
    const both =
      '{"Network":"100.96.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:96::/48","Backend":{"Type":"wireguard"}}';
    await network.registry.setConfig(both, null);
    for (const [i, host] of network.hosts.entries()) {
      await host.run('ip', 'address', 'add', `fd00:77::${i + 1}/64`, 'dev', 'eth0', 'nodad');
    }
    const daemon = first.start([network.endpoint, ...own(first)]);
    second.start([network.endpoint, ...own(second)]);
    await Promise.all(network.hosts.map((host) => host.ready(1)));
    const indices = () => Promise.all(['flannel-wg', 'flannel-wg-v6'].map((device) => deviceIndex(first, device)));
    const before = await indices();
    first.start([network.endpoint, '-take-over', ...own(first)]);
    expect(await daemon.exited).toBe(0);
    const { backend } = await first.ready(1);
    expect(backend).toMatchObject({ device: 'flannel-wg, flannel-wg-v6', peers: [{ publicIpv6: 'fd00:77::2' }] });
    expect(await indices()).toEqual(before);
    const { lease } = await second.status();
    for (const subnet of [lease?.subnet, lease?.subnetV6]) await first.reaches(String(subnet).replace(/\/\d+$/, ''));
  });

  it.each(['SIGKILL', 'SIGTERM'])('is restarted by %s: the device stays, streams go on', async (signal) => {
    const [first, second] = network.hosts;
    service = new Service(first, {}, network.endpoint, '-txqueuelen=30000', ...own(first));
    second.start([network.endpoint, ...own(second)]);
    await Promise.all(network.hosts.map((host) => host.ready(1)));
    await first.reaches(deviceAddress(await second.status()));
    const index = await deviceIndex(first, 'flannel-wg');
    traffic = await Traffic.between(first, second);
    for (let round = 0; round < 2; round++) {
      const since = Date.now();
      await service.restart(signal);
      await greeted(first, since);
    }
    expect((await traffic.result()).streams).toBe('whole');
    expect(await deviceIndex(first, 'flannel-wg')).toBe(index);
  });
});
