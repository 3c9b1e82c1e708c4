/** What happens around the data path while it works: a busy control thread, devices that go, peers that move. */
import { afterEach, describe, expect, it } from 'vitest';
import { Flood, stopFloods } from './support/flood.js';
import { AUTO, HostProcess, leaseOf, OFF, PORT } from './support/host.js';
import type { Namespace } from './support/namespace.js';
import { useSite } from './support/site.js';
import { Udp } from './support/sockets.js';
import { file, ping, sendFile } from './support/transfer.js';
import { gather, until } from './support/until.js';

const site = useSite({ hosts: 3 });
afterEach(stopFloods);

const MIB = 1 << 20;

/** What a device has counted as dropped of what came by it. */
function receiveDrops(namespace: Namespace, device: string): number {
  const line = namespace.read('/proc/thread-self/net/dev').match(new RegExp(`^ *${device}:(.*)$`, 'm'))?.[1] ?? '';
  const [, , , dropped] = line.trim().split(/\s+/);
  return Number(dropped);
}

describe.each([
  ['all on', AUTO, 'off'],
  ['all off', OFF, 'off'],
  ['kernel path by route', AUTO, 'route'],
  ['kernel path to the container', AUTO, 'direct'],
] as const)('%s', (_name, offloads, kernelPath) => {
  const options = { offloads, kernelPath };

  it('a control thread that is busy for five seconds stops no packet', async () => {
    const there = site();
    const [one, two] = [there.host(1), there.host(2)];
    await there.start(options);
    const blocks = [one.process.block(5000), two.process.block(5000)];
    await Promise.all(blocks.map(({ begun }) => begun));
    let over = false;
    const allOver = Promise.all(blocks.map((block) => block.over)).then(() => {
      over = true;
    });
    let pings = 0;
    while (!over) {
      await ping(one.container, two.containerIp, 100, 10);
      await sendFile(two.end, one.end, file(MIB, pings));
      if (!over) pings += 10;
    }
    await allOver;
    expect(pings).toBeGreaterThan(50);
  });

  it('a process that is stopped and continued amid a transfer loses nothing', async () => {
    const there = site();
    const [one, two] = [there.host(1), there.host(2)];
    await there.start(options);
    let stops = 0;
    await sendFile(one.end, two.end, file(8 * MIB, 1), (total) => {
      if (total < (stops + 1) * MIB) return;
      stops++;
      process.kill(two.process.pid, 'SIGSTOP');
      setImmediate(() => process.kill(two.process.pid, 'SIGCONT'));
    });
    expect(stops).toBeGreaterThan(3);
  });

  describe('the device', () => {
    it('is set down and up again: what cannot be delivered is counted, then everything is as before', async () => {
      const there = site();
      const [one, two] = [there.host(1), there.host(2)];
      await there.start(options);
      await one.namespace.ip('link set flannel0 down');
      const socket = new Udp(two.container);
      await until('packets are dropped', async () => {
        socket.send(Buffer.alloc(100), one.containerIp, 9);
        // by the kernel, which counts what a program hands to a device that is down
        const { rx_tun_down: dropped = 0 } = (await one.process.status()).drops;
        return dropped + receiveDrops(one.namespace, 'flannel0') > 0;
      });
      expect(one.process.failure).toBe('');
      const repairs = await one.process.reconcile();
      expect(repairs.join('\n')).toContain('set flannel0 up');
      await ping(one.container, two.containerIp, 56);
      await sendFile(two.end, one.end, file(MIB, 1));
      expect(await one.process.reconcile()).toEqual([]);
    });

    it('is deleted by hand: forwarding fails for good, with the reason, and can be started again', async () => {
      const there = site();
      const [one, two] = [there.host(1), there.host(2)];
      await there.start(options);
      await ping(one.container, two.containerIp, 56);
      await one.namespace.ip('link del flannel0');
      await until('the failure is known', () => one.process.failure !== '');
      expect(one.process.failure).toMatch(/^FORWARDER_FAILED: .*flannel0 removed\? restart the daemon$/);
      await one.process.stop();
      await one.process.start(one.publicIp, there.mtu, [leaseOf(2, two.publicIp, kernelPath)], options);
      await ping(one.container, two.containerIp, 56);
    });

    it('is gone after a stop under traffic, and so are threads and descriptors', async () => {
      const there = site();
      const [one, two] = [there.host(1), there.host(2)];
      new Flood(one.end, two.end);
      new Flood(two.end, one.end, { run: 40 });
      let usage: number | null = null;
      for (let round = 0; round < 2; round++) {
        await there.start(options);
        await until('traffic flows', async () => {
          const { totals } = await one.process.status();
          return totals.tx_packets! > 1000 && totals.rx_packets! > 1000;
        });
        await there.stop();
        await expect(one.namespace.run('ip', 'link', 'show', 'flannel0')).rejects.toThrow('does not exist');
        const { descriptors } = await one.process.usage();
        usage ??= descriptors;
        expect(descriptors).toBe(usage);
      }
    });
  });

  it('the underlay goes down and comes back: what cannot be sent is counted, then everything is as before', async () => {
    const there = site();
    const [one, two] = [there.host(1), there.host(2)];
    await there.start(options);
    await one.namespace.ip('link set eth0 down');
    const socket = new Udp(one.container);
    await until('packets are dropped', async () => {
      socket.send(Buffer.alloc(100), two.containerIp, 9);
      const { totals, drops } = await one.process.status();
      // a program does not hear what becomes of what it hands on
      return drops.tx_underlay_unreachable! + (totals.kernel_tx_packets ?? 0) > 0;
    });
    await one.namespace.ip('link set eth0 up');
    await ping(one.container, two.containerIp, 56);
    await sendFile(two.end, one.end, file(MIB, 1));
    expect(one.process.failure).toBe('');
  });

  it('a host is started anew amid a transfer, which goes on', async () => {
    const there = site();
    const [one, two] = [there.host(1), there.host(2)];
    await there.start(options);
    const restart = async (host: typeof one, other: typeof one) => {
      await host.process.stop();
      await host.process.start(host.publicIp, there.mtu, [leaseOf(other.number, other.publicIp, kernelPath)], options);
    };
    let restarts: Promise<void> | null = null;
    await sendFile(one.end, two.end, file(24 * MIB, 1), (total) => {
      if (total > 2 * MIB) restarts ??= restart(two, one).then(() => restart(one, two));
    });
    await restarts;
    // the peers were there before the first packet
    for (const { process } of [one, two]) expect((await process.status()).drops.tx_no_route).toBe(0);
    await ping(one.container, two.containerIp, 56);
  });

  it('a subnet moves to another host: from then on not a packet goes to the old one', async () => {
    const there = site();
    const [one, two, three] = [there.host(1), there.host(2), there.host(3)];
    const former = leaseOf(2, two.publicIp, kernelPath);
    const now = leaseOf(2, three.publicIp, kernelPath);
    await one.process.start(one.publicIp, there.mtu, [former], options);
    const sender = new Udp(one.container);
    const [oldHost, newHost] = [two, three].map(
      ({ namespace, publicIp }) => new Udp(namespace, { address: publicIp, port: PORT }),
    );
    const tell = (text: string) => {
      for (let i = 0; i < 50; i++) sender.send(Buffer.from(`${text} ${i}`), two.containerIp, 9);
    };
    const arrived = (host: Udp | undefined, text: string) =>
      gather(
        text,
        () => host!.receive(),
        (all) => all.filter(({ data }) => data.includes(text)).length === 50,
      );
    tell('before');
    await arrived(oldHost, 'before');
    await one.process.setPeers([now]);
    tell('after');
    await arrived(newHost, 'after');
    await one.process.setPeers([]);
    tell('at last');
    await until('they have no route', async () => (await one.process.status()).drops.tx_no_route! >= 50);
    expect(oldHost!.receive()).toEqual([]);
    expect(newHost!.receive()).toEqual([]);
  });
});

it("the underlay's address goes and comes back: no offload is blamed for it", async () => {
  const there = site();
  const [one, two] = [there.host(1), there.host(2)];
  await there.start();
  await one.namespace.ip('address del 192.168.77.1/24 dev eth0');
  await one.namespace.ip('route add 192.168.77.0/24 dev eth0');
  const socket = new Udp(one.container);
  await until('packets are dropped', async () => {
    socket.sendSegmented(Buffer.alloc(5000), 1000, two.containerIp, 9);
    const { tx_underlay_unreachable: unreachable = 0, tx_send_error: other = 0 } = (await one.process.status()).drops;
    return unreachable + other > 0;
  });
  await one.namespace.ip('address add 192.168.77.1/24 dev eth0');
  await sendFile(one.end, two.end, file(MIB, 1));
  const { features, totals } = await one.process.status();
  expect(features.filter(({ reason }) => reason !== '')).toEqual([]);
  expect(totals.tx_segmented_sends).toBeGreaterThan(0);
});

describe('the device, whoever carries the packets', () => {
  it('belongs to one daemon: a second one is refused and harms nothing', async () => {
    const there = site();
    const [one, two] = [there.host(1), there.host(2)];
    await there.start();
    const second = new HostProcess(one.namespace, 7);
    try {
      await expect(second.start(one.publicIp, there.mtu, [])).rejects.toMatchObject({
        kind: 'DeviceBusyError',
        code: 'DEVICE_BUSY',
      });
      // with a device of its own it is the port that is taken; the device goes again
      await expect(second.start(one.publicIp, there.mtu, [], { deviceName: 'flannel9' })).rejects.toMatchObject({
        code: 'SYSCALL_EADDRINUSE',
      });
      await expect(one.namespace.run('ip', 'link', 'show', 'flannel9')).rejects.toThrow('does not exist');
    } finally {
      await second.close();
    }
    await ping(one.container, two.containerIp, 56);
  });

  it('gets back what somebody took away', async () => {
    const there = site();
    const [one, two] = [there.host(1), there.host(2)];
    await there.start();
    const damages = [
      'route del 10.5.0.0/16 dev flannel0',
      'address del 10.5.1.0/32 dev flannel0',
      'link set flannel0 mtu 1000',
      'link set flannel0 txqueuelen 10',
    ];
    for (const damage of damages) {
      await one.namespace.ip(damage);
      expect((await one.process.reconcile()).length, damage).toBeGreaterThan(0);
      expect(await one.process.reconcile(), damage).toEqual([]);
    }
    await sendFile(one.end, two.end, file(MIB, 1));
    await ping(two.container, one.containerIp, 56);
  });
});
