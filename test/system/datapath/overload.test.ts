/** More packets than can be carried: the data path lives on, says what it lost, and needs no more memory for it. */
import { afterEach, describe, expect, it } from 'vitest';
import { Flood, stopFloods } from './support/flood.js';
import { address, leaseOf } from './support/host.js';
import { type Host, type Site, useSite } from './support/site.js';
import { Udp } from './support/sockets.js';
import { file, NumberedStream, ping, sendFile } from './support/transfer.js';
import { gather, until } from './support/until.js';

const site = useSite();
afterEach(stopFloods);

async function received(host: Host): Promise<number> {
  return (await host.process.status()).totals.rx_packets!;
}

/** Drops that only a fault of the data path could explain. */
async function faults(host: Host): Promise<Record<string, number>> {
  const { drops } = await host.process.status();
  const overload = ['tx_tun_queue_full', 'rx_socket_queue_full', 'tx_send_buffer_full'];
  return Object.fromEntries(Object.entries(drops).filter(([name, count]) => count > 0 && !overload.includes(name)));
}

describe('a flood of 64-byte packets both ways', () => {
  it.each([
    [1, 1, 'off'],
    [1, 2, 'off'],
    [64, 1, 'off'],
    [64, 2, 'off'],
    [1, 1, 'route'],
    [1, 1, 'direct'],
    [64, 1, 'direct'],
  ] as const)(
    '%i a send, by %i forwarder threads, kernel path %s, while the status is read and peers come and go',
    async (run, threads, kernelPath) => {
      const there = site();
      const [one, two] = [there.host(1), there.host(2)];
      await there.start({ forwarderThreads: threads, kernelPath });
      const floods = [new Flood(one.end, two.end, { run }), new Flood(two.end, one.end, { run })];
      const others = Array.from({ length: 50 }, (_, i) => leaseOf(100 + i, address('192.168.77.100') + i));
      // the kernel carries them on the flooders' own time
      const enough = kernelPath === 'off' ? 200_000 : 50_000;
      while (Math.min(await received(one), await received(two)) < enough) {
        for (const { process, number } of there.hosts) {
          const other = there.host(3 - number);
          const lasting = leaseOf(other.number, other.publicIp, kernelPath);
          await process.setPeers([lasting, ...others]);
          expect((await process.status()).peers.length).toBe(1 + others.length);
          await process.setPeers([lasting]);
          expect((await process.status()).peers.length).toBe(1);
        }
      }
      for (const flood of floods) await flood.stop();
      await sendFile(one.end, two.end, file(1 << 20, 1));
      await ping(two.container, one.containerIp, 56);
      for (const host of there.hosts) {
        expect(host.process.failure).toBe('');
        expect(await faults(host)).toEqual({});
      }
    },
  );

  it('what the queues cannot hold is counted: the TUN in front of the sender, the socket of the receiver', async () => {
    const there = site();
    const [one, two] = [there.host(1), there.host(2)];
    await there.start({ txQueueLength: 2 }, { socketBuffer: 2048 });
    new Flood(one.end, two.end, { run: 64 });
    await until('both queues run over', async () => {
      const [sender, receiver] = await Promise.all([one.process.status(), two.process.status()]);
      return sender.drops.tx_tun_queue_full! > 0 && receiver.drops.rx_socket_queue_full! > 0;
    });
    await stopFloods();
    await sendFile(two.end, one.end, file(20_000, 1));
  });

  it('takes no more memory and no more descriptors after millions of packets', async () => {
    const there = site();
    const [one, two] = [there.host(1), there.host(2)];
    await there.start();
    new Flood(one.end, two.end, { run: 64 });
    new Flood(two.end, one.end, { run: 64 });
    const carried = async (packets: number) => {
      await until(
        `${packets} packets are carried`,
        async () => Math.min(await received(one), await received(two)) >= packets,
        60_000,
      );
      return Promise.all(there.hosts.map(({ process }) => process.usage()));
    };
    const before = await carried(300_000);
    const after = await carried(1_500_000);
    for (const [i, usage] of after.entries()) {
      expect(usage.descriptors).toBe(before[i]!.descriptors);
      expect(usage.residentKib - before[i]!.residentKib).toBeLessThan(16 << 10);
    }
  });
});

describe.each([1, 2] as const)('a device below that is slower than what comes, %i forwarder threads', (threads) => {
  /** Lets so much out of the first host, and keeps what is more in a queue that is never full. */
  async function slowDown(there: Site, rate: string): Promise<void> {
    await there
      .host(1)
      .namespace.run(
        ...['tc', 'qdisc', 'add', 'dev', 'eth0', 'root', 'tbf', 'rate', rate, 'burst', '20kb', 'limit', '100mb'],
      );
  }

  afterEach(async () => {
    await site().host(1).namespace.run('tc', 'qdisc', 'delete', 'dev', 'eth0', 'root');
  });

  it('makes sends wait, loses nothing that waits, and goes on to forward what arrives', async () => {
    const there = site();
    const [one, two] = [there.host(1), there.host(2)];
    await there.start({ forwarderThreads: threads, socketBuffer: 65_536 });
    await slowDown(there, '20mbit');
    new Flood(one.end, two.end, { run: 64 });
    await until('the TUN’s queue runs over', async () => (await one.process.status()).drops.tx_tun_queue_full! > 0);
    const arriving = new NumberedStream(two.end, one.end);
    for (let round = 0; round < 10; round++) {
      arriving.send(1000, 20);
      await arriving.complete();
    }
    arriving.close();
    const { drops } = await one.process.status();
    expect(drops.tx_send_buffer_full).toBe(0);
    await stopFloods();
    await sendFile(two.end, one.end, file(100_000, 1));
  });

  it('that stands still has sends given up and counted, while what arrives is still forwarded', async () => {
    const there = site();
    const [one, two] = [there.host(1), there.host(2)];
    await there.start({ forwarderThreads: threads, socketBuffer: 65_536 });
    await slowDown(there, '8kbit');
    new Flood(one.end, two.end, { run: 64 });
    const arriving = new NumberedStream(two.end, one.end);
    const before = (await one.process.status()).drops.tx_send_buffer_full!;
    await until('sends are given up', async () => {
      arriving.send(1000, 20);
      await arriving.complete();
      return (await one.process.status()).drops.tx_send_buffer_full! > before;
    });
    arriving.close();
  });
});

it('a thousand flows at once: every datagram of each arrives', async () => {
  const there = site();
  const [one, two] = [there.host(1), there.host(2)];
  await there.start();
  const receiver = new Udp(two.container);
  const { port } = receiver;
  const senders = Array.from({ length: 1000 }, () => new Udp(one.container));
  const numbers = new Map(senders.map((sender, i) => [sender.port, i]));
  for (let round = 0; round < 5; round++) {
    for (const [i, sender] of senders.entries()) {
      sender.send(Buffer.from(`${i} ${round}`.padEnd(20 + (i % 300))), two.containerIp, port);
      // not more than the queues hold
      if (i % 200 === 199) await ping(one.container, two.containerIp, 10, 1);
    }
    const arrived = await gather(
      'a datagram of each flow',
      () => receiver.receive(),
      (all) => all.length >= senders.length,
    );
    const seen = arrived.map((one) => [numbers.get(one.port), one.data.toString().trimEnd(), one.data.length]);
    const sent = senders.map((_, i) => [i, `${i} ${round}`, 20 + (i % 300)]);
    expect(seen.sort((a, b) => Number(a[0]) - Number(b[0]))).toEqual(sent);
  }
});
