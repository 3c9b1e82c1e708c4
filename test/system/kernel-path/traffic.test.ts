/** The kernel path between two hosts whose user space runs as ever: whole traffic, every byte checked, and who carried it. */
import { afterEach, describe, expect, it } from 'vitest';
import type { KernelPathOptions } from '../../../src/kernel-path/kernel-path.js';
import { mergePairNames } from '../../../src/kernel-path/merge-pair.js';
import { PORT } from '../datapath/support/host.js';
import { type Site, useSite } from '../datapath/support/site.js';
import { file, NumberedStream, ping, sendFile } from '../datapath/support/transfer.js';
import { until } from '../datapath/support/until.js';
import { containerOf, introduce, KernelDriver } from './support/driver.js';
import { expectNoLeftovers } from './support/leftovers.js';

const MEBIBYTE = 1 << 20;

const site = useSite();
const drivers: KernelDriver[] = [];

afterEach(async () => {
  for (const driver of drivers) await driver.stop();
  await Promise.all(drivers.splice(0).map((driver) => driver.kill()));
  await expectNoLeftovers(site().hosts);
});

/** Starts the kernel path of these hosts; the others do without. */
async function engage(
  there: Site,
  numbers: readonly number[],
  options: Partial<KernelPathOptions>,
  othersToo = true,
): Promise<void> {
  for (const number of numbers) {
    const host = there.host(number);
    const driver = new KernelDriver(host);
    drivers.push(driver);
    await driver.start(options);
    if (options.mode === 'direct') expect(await driver.setContainers([await containerOf(host)])).toEqual([]);
    const others = there.hosts.filter((other) => other !== host);
    await introduce([host, ...others], [driver], there.mtu, othersToo);
  }
}

async function everything(there: Site): Promise<void> {
  const [one, two] = [there.host(1), there.host(2)];
  await ping(one.container, two.containerIp, 56);
  await ping(two.container, one.containerIp, 1400);
  await sendFile(one.end, two.end, file(8 * MEBIBYTE, 1));
  await sendFile(two.end, one.end, file(8 * MEBIBYTE, 2));
  const stream = new NumberedStream(one.end, two.end);
  for (const size of [4, 64, 64, 64, 1000, 1444]) stream.send(size);
  stream.sendUnchecked(200, 5);
  stream.sendSegmented(500, 20, 33);
  stream.sendEmpty();
  await stream.complete();
  // in fragments, which go through user space
  await ping(one.container, two.containerIp, 4000, 2);
}

/** Packets that user space has carried in both directions. */
async function byUserSpace(there: Site, number: number): Promise<number> {
  const { totals } = await there.host(number).process.status();
  return (totals.tx_packets ?? 0) + (totals.rx_packets ?? 0);
}

describe.each(['tcx', 'clsact'] as const)('attached by %s', (way) => {
  describe.each(['route', 'direct'] as const)('in mode %s', (mode) => {
    it.each([
      ['whole', true],
      ['one by one', false],
    ])('carries everything, datagrams crossing the underlay %s', async (_, whole) => {
      const there = site();
      await there.setUnderlaySegmentation(whole);
      await there.start();
      await engage(there, [1, 2], { mode, way });
      await everything(there);
      for (const [i, driver] of drivers.entries()) {
        // the last acknowledgements may still be on their way
        const { totals, drops } = await until('both countings agree', async () => {
          const [peer] = await driver.peers();
          const counted = await driver.counters();
          const { tx_packets, rx_packets } = counted.totals;
          return peer?.txPackets === tx_packets && peer?.rxPackets === rx_packets && counted;
        });
        expect(drops).toEqual(Object.fromEntries(Object.keys(drops).map((name) => [name, 0])));
        expect(totals.tx_packets).toBeGreaterThan(1000);
        expect(totals.rx_packets).toBeGreaterThan(1000);
        // super-packets of UDP, and what began before the kernel path was there
        expect(await byUserSpace(there, i + 1)).toBeLessThan(50);
        const [peer] = await driver.peers();
        expect(peer?.silentForMs).toBeLessThan(60_000);
      }
    });
  });
});

it('talks to a host that has only user space, where datagrams cross one by one and complete as on a plain NIC', async () => {
  const there = site();
  await there.setUnderlaySegmentation(false);
  await there.start();
  await engage(there, [1], { mode: 'route' });
  await everything(there);
  const { totals } = await (drivers[0] as KernelDriver).counters();
  expect(totals.tx_packets).toBeGreaterThan(1000);
});

it('sends by user space to a host that has only user space, where the underlay hands packets on unfinished', async () => {
  const there = site();
  await there.setUnderlaySegmentation(true);
  await there.start();
  await engage(there, [1], { mode: 'route' }, false);
  await everything(there);
  const { totals, drops } = await (drivers[0] as KernelDriver).counters();
  expect(totals.tx_packets).toBe(0);
  expect(drops).toEqual(Object.fromEntries(Object.keys(drops).map((name) => [name, 0])));
});

it('leaves nothing behind when its process is killed, and user space goes on', async () => {
  const there = site();
  await there.setUnderlaySegmentation(true);
  await there.start();
  await engage(there, [1, 2], { mode: 'route' });
  await ping(there.host(1).container, there.host(2).containerIp, 56);
  await Promise.all(drivers.splice(0).map((driver) => driver.kill()));
  // whose devices the next process takes over or removes
  for (const { namespace } of there.hosts) await namespace.ip(`link delete ${mergePairNames(PORT).into}`);
  await expectNoLeftovers(there.hosts);
  await everything(there);
});
