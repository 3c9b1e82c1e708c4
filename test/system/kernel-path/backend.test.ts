/** The udp backend with a kernel path: all traffic, byte for byte, whoever carries it, over paths that are not perfect. */
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { exec } from '../../../src/base/exec.js';
import { Bpf } from '../../../src/kernel-path/bpf.js';
import { OBJECT_PREFIX } from '../../../src/kernel-path/maps.js';
import { leaseOf, PORT } from '../datapath/support/host.js';
import type { Namespace } from '../datapath/support/namespace.js';
import { type Site, useSite } from '../datapath/support/site.js';
import { Sniffer, Udp } from '../datapath/support/sockets.js';
import { file, NumberedStream, ping, sendFile } from '../datapath/support/transfer.js';
import { until } from '../datapath/support/until.js';
import { carriedByKernel, expectInForce, featureOf, sparedBridges } from './support/by.js';
import { expectNoLeftovers } from './support/leftovers.js';

const MIB = 1 << 20;
const MODES = ['route', 'direct'] as const;

const site = useSite();
beforeAll(() => site().switch.ip('address add 192.168.77.250/24 dev br0'));
afterEach(async () => {
  const there = site();
  await there.stop();
  for (const { namespace } of there.hosts) {
    await namespace.run('sh', '-c', 'nft flush ruleset');
  }
  await there.setUnderlaySegmentation(true);
  await expectNoLeftovers(there.hosts);
});

async function nft(namespace: Namespace, input: string): Promise<void> {
  await namespace.enter(() => exec(['nft', '-f', '-'], { input }));
}

async function everything(there: Site): Promise<void> {
  const [one, two] = [there.host(1), there.host(2)];
  await ping(one.container, two.containerIp, 56);
  await ping(two.container, one.containerIp, 1400);
  await sendFile(one.end, two.end, file(4 * MIB, 1));
  await sendFile(two.end, one.end, file(4 * MIB, 2));
  for (const [from, to] of [
    [one, two],
    [two, one],
  ] as const) {
    const stream = new NumberedStream(from.end, to.end);
    for (const size of [4, 64, 64, 64, 1000, 1444]) stream.send(size);
    stream.sendUnchecked(200, 5);
    stream.sendSegmented(500, 20, 33);
    stream.sendEmpty();
    await stream.complete();
    stream.close();
  }
  await ping(one.container, two.containerIp, 4000, 2);
}

describe.each(MODES)('in mode %s', (mode) => {
  it.each([
    ['whole', true],
    ['one by one', false],
  ])('all traffic arrives, datagrams crossing the underlay %s', async (_, whole) => {
    const there = site();
    await there.setUnderlaySegmentation(whole);
    await there.start({ kernelPath: mode });
    await expectInForce(there.hosts, mode);
    await everything(there);
    for (const number of [1, 2]) {
      expect(await carriedByKernel(there.host(number))).toBeGreaterThan(1000);
      const { drops, peers } = await there.host(number).process.status();
      expect(Object.entries(drops).filter(([, count]) => count !== 0)).toEqual([]);
      expect(peers[0]?.rxPackets).toBeGreaterThan(1000);
      expect(peers[0]?.lastReceived).toBeGreaterThan(Date.now() - 60_000);
    }
  });

  it.each([
    ['whole', true],
    ['one by one', false],
  ])('talks to a host without one, both ways, datagrams crossing the underlay %s', async (_, whole) => {
    const there = site();
    await there.setUnderlaySegmentation(whole);
    await there.start({ kernelPath: mode }, { kernelPath: 'off' });
    await everything(there);
    const { totals } = await there.host(1).process.status();
    expect(totals.rx_packets).toBeGreaterThan(1000);
  });

  it.each([
    ['whole', true],
    ['one by one', false],
  ])('talks to a host whose own is refused, which takes what is unfinished, %s', async (_, whole) => {
    const there = site();
    await there.setUnderlaySegmentation(whole);
    // senders that are not checked: it may not start
    await there.start({ kernelPath: mode }, { kernelPath: mode, checkSenders: false });
    expect(await featureOf(there.host(2))).toMatchObject({ inForce: 'off', reason: /checks senders/ });
    await everything(there);
    const { totals } = await there.host(2).process.status();
    if (whole) expect(totals.rx_unfinished_packets).toBeGreaterThan(50);
  });

  it('jumbo frames pass whole', async () => {
    const there = site();
    await there.setMtu(9000);
    try {
      await there.start({ kernelPath: mode });
      await expectInForce(there.hosts, mode);
      await everything(there);
      await ping(there.host(1).container, there.host(2).containerIp, 8944);
    } finally {
      await there.stop();
      await there.setMtu(1500);
    }
  });

  it('what strangers send gets nowhere, and is counted', async () => {
    const there = site();
    await there.setUnderlaySegmentation(false);
    await there.start({ kernelPath: mode });
    const two = there.host(2);
    const stranger = new Udp(there.switch);
    await until('strangers are dropped', async () => {
      for (let i = 0; i < 100; i++) stranger.send(Buffer.alloc(100, i), two.publicIp, PORT);
      return ((await two.process.status()).drops.rx_unknown_sender ?? 0) > 1000;
    });
    await ping(there.host(1).container, two.containerIp, 56, 3);
  });

  it('is put back when somebody takes it off, and user space carries on meanwhile', async () => {
    const there = site();
    await there.start({ kernelPath: mode });
    const one = there.host(1);
    // the bridges come when their containers are found
    await ping(one.container, there.host(2).containerIp, 56, 1);
    for (const { process: host } of there.hosts) await host.reconcile();
    for (const host of there.hosts) expect(await sparedBridges(host)).toMatchObject({ inForce: 'br0' });
    const bpf = new Bpf();
    for (const { id } of bpf.links().filter(({ name }) => name.startsWith(OBJECT_PREFIX))) bpf.detachLink(id);
    const before = await carriedByKernel(one);
    await ping(one.container, there.host(2).containerIp, 56);
    expect(await carriedByKernel(one)).toBe(before);
    for (const { process: host } of there.hosts) {
      expect(await host.reconcile()).toEqual([
        "the kernel path's program on the ingress of eth0",
        "the kernel path's program on the egress of flannel0",
        "the kernel path's device for merging",
        "the kernel path's program on the egress of br0",
      ]);
      expect(await host.reconcile()).toEqual([]);
    }
    await ping(one.container, there.host(2).containerIp, 56);
    expect(await carriedByKernel(one)).toBeGreaterThan(before);
  });

  it('follows a peer that moves and one that goes', async () => {
    const there = site();
    await there.start({ kernelPath: mode });
    const [one, two] = [there.host(1), there.host(2)];
    await ping(one.container, two.containerIp, 56);
    await one.process.setPeers([]);
    const socket = new Udp(one.container);
    await until('there is no route', async () => {
      socket.send(Buffer.alloc(10), two.containerIp, 9);
      return ((await one.process.status()).drops.tx_no_route ?? 0) > 0;
    });
    await one.process.setPeers([leaseOf(2, two.publicIp, mode)]);
    await ping(one.container, two.containerIp, 56);
  });
});

describe('mode route', () => {
  /** How many frames a file of 4 MiB has come to a container in, and whether packets were spared the bridge. */
  const framesOf = async (there: Site): Promise<readonly [frames: number, spared: number]> => {
    const [one, two] = [there.host(1), there.host(2)];
    await ping(one.container, two.containerIp, 56, 1);
    await two.process.reconcile();
    const counted = async () => {
      const { stdout } = await two.container.run('ip', '-s', '-json', 'link', 'show', 'dev', 'eth0');
      const [link] = JSON.parse(stdout) as { stats64: { rx: { packets: number } } }[];
      return [link?.stats64.rx.packets ?? 0, (await two.process.status()).totals.kernel_past_bridge ?? 0] as const;
    };
    const [framesBefore, sparedBefore] = await counted();
    await sendFile(one.end, two.end, file(4 * MIB, 1));
    const [frames, spared] = await counted();
    return [frames - framesBefore, spared - sparedBefore];
  };

  it('brings super-packets whole to the container, past a bridge that would have them cut', async () => {
    const there = site();
    await there.setUnderlaySegmentation(true);
    await there.start({ kernelPath: 'route' });
    const [frames, spared] = await framesOf(there);
    expect(spared).toBeGreaterThan(50);
    // one by one they would be nearly 3000
    expect(frames).toBeGreaterThan(50);
    expect(frames).toBeLessThan(1000);
  });

  it('has everything pass a bridge that has rules, and says so', async () => {
    const there = site();
    const { namespace } = there.host(2);
    await nft(namespace, 'table bridge t {\nchain f {\ntype filter hook forward priority 0;\n}\n}\n');
    await there.start({ kernelPath: 'route' });
    const [frames, spared] = await framesOf(there);
    expect(await sparedBridges(there.host(2))).toMatchObject({
      inForce: 'none',
      reason: expect.stringMatching(/table bridge t may have rules/),
    });
    expect(spared).toBe(0);
    expect(frames).toBeGreaterThan(2000);
    await everything(there);
  });

  it('brings packets by another bridge when the container has moved there, and the first one is gone', async () => {
    const there = site();
    const [one, two] = [there.host(1), there.host(2)];
    await there.start({ kernelPath: 'route' });
    expect((await framesOf(there))[1]).toBeGreaterThan(50);
    await two.namespace.ip(
      'link add br9 type bridge',
      'link set br9 up',
      'link set vc nomaster',
      'link delete br0',
      'link set vc master br9',
      'address add 10.5.2.1/24 dev br9',
      `link set br9 mtu ${there.innerMtu}`,
    );
    try {
      await two.container.ip('neighbour flush dev eth0');
      await ping(two.container, one.containerIp, 56, 1);
      await two.process.reconcile();
      await until('it is spared the other bridge', async () => (await sparedBridges(two)).inForce === 'br9');
      expect((await framesOf(there))[1]).toBeGreaterThan(50);
    } finally {
      await two.namespace.ip(
        'link add br0 type bridge',
        'link set br0 up',
        'link set vc nomaster',
        'link delete br9',
        'link set vc master br0',
        'address add 10.5.2.1/24 dev br0',
        'address add fd00::2:1/112 dev br0 nodad',
        `link set br0 mtu ${there.innerMtu}`,
      );
      await two.container.ip('neighbour flush dev eth0');
    }
    await ping(two.container, one.containerIp, 56, 1);
  });
});

describe('mode direct', () => {
  /** Packets that the host's own devices saw coming in by the overlay, while a file went to its container. */
  const seenByHost = async (there: Site): Promise<number> => {
    const [one, two] = [there.host(1), there.host(2)];
    const sniffer = new Sniffer(two.namespace, 'flannel0', 'in');
    await sendFile(one.end, two.end, file(4 * MIB, 1));
    const seen = sniffer.drain().length;
    sniffer.close();
    return seen;
  };

  it('shows the host the beginning and the end of a connection, and nothing in between', async () => {
    const there = site();
    await there.setUnderlaySegmentation(false);
    await there.start({ kernelPath: 'route', kernelPathMerge: false });
    expect(await seenByHost(there)).toBeGreaterThan(2000);
    await there.stop();
    await there.start({ kernelPath: 'route' });
    expect(await seenByHost(there)).toBeGreaterThan(80);
    await there.stop();
    await there.start({ kernelPath: 'direct' });
    await ping(there.host(2).container, there.host(1).containerIp, 56, 1);
    await there.host(2).process.reconcile();
    expect(await seenByHost(there)).toBeLessThan(50);
  });
});

describe('mode auto', () => {
  it('goes straight to containers where nothing speaks against it', async () => {
    const there = site();
    await there.start({ kernelPath: 'auto' });
    await expectInForce(there.hosts, 'direct');
    await everything(there);
  });

  it('goes by route where packets are filtered, and says so; direct can be demanded', async () => {
    const there = site();
    const { namespace } = there.host(1);
    await nft(
      namespace,
      'table ip t {\nchain f {\ntype filter hook forward priority 0;\npolicy drop;\nip saddr 10.5.0.0/16 accept\n}\n}\n',
    );
    await there.start({ kernelPath: 'auto' });
    expect(await featureOf(there.host(1))).toMatchObject({
      inForce: 'route',
      reason: expect.stringMatching(/policy drop/),
    });
    await everything(there);
    await there.stop();
    await there.start({ kernelPath: 'direct' });
    await expectInForce(there.hosts, 'direct');
    await everything(there);
  });

  it('goes by route where rules ask for the state of connections, even when direct is demanded', async () => {
    const there = site();
    const { namespace } = there.host(1);
    await nft(
      namespace,
      'table ip t {\nchain f {\ntype filter hook forward priority 0;\nct state invalid drop\n}\n}\n',
    );
    await there.start({ kernelPath: 'direct' });
    expect(await featureOf(there.host(1))).toMatchObject({
      inForce: 'route',
      reason: expect.stringMatching(/"ct state invalid drop" asks for the state.*be_liberal=1/),
    });
    await everything(there);
    await there.stop();
    namespace.sysctl('netfilter/nf_conntrack_tcp_be_liberal', 1);
    await there.start({ kernelPath: 'direct' });
    await expectInForce(there.hosts, 'direct');
    await everything(there);
    namespace.sysctl('netfilter/nf_conntrack_tcp_be_liberal', 0);
  });
});
