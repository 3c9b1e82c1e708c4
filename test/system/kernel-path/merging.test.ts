/** Single packets of TCP, as a network card brings them, merged by the kernel before they go on: how few, every byte of them, and whose device. */
import { afterEach, describe, expect, it } from 'vitest';
import { exec } from '../../../src/base/exec.js';
import { mergePairNames } from '../../../src/kernel-path/merge-pair.js';
import { PORT } from '../datapath/support/host.js';
import { type Host, type Site, useSite } from '../datapath/support/site.js';
import { ifIndex } from '../datapath/support/sockets.js';
import { file, sendFile } from '../datapath/support/transfer.js';
import { until } from '../datapath/support/until.js';
import { merging } from './support/by.js';
import { introduce, KernelDriver } from './support/driver.js';
import { expectNoLeftovers } from './support/leftovers.js';

const MIB = 1 << 20;
/** As many packets as a file of 4 MiB has when nobody merges them. */
const SINGLES = (4 * MIB) / 1432;
const { into, out } = mergePairNames(PORT);
const drivers: KernelDriver[] = [];

const site = useSite();
afterEach(async () => {
  const there = site();
  await Promise.all(drivers.splice(0).map((driver) => driver.kill()));
  await there.stop();
  await there.switch.run('nft', 'flush', 'ruleset');
  await there.setUnderlaySegmentation(true);
  await expectNoLeftovers(there.hosts);
});

interface Statistics {
  readonly stats64: { readonly rx: { readonly packets: number }; readonly tx: { readonly packets: number } };
}

async function packets(namespace: Host['namespace'], device: string, way: 'rx' | 'tx'): Promise<number> {
  const { stdout } = await namespace.run('ip', '-s', '-json', 'link', 'show', 'dev', device);
  const [link] = JSON.parse(stdout) as Statistics[];
  return link?.stats64[way].packets ?? 0;
}

/** Sends a file of 4 MiB from the first container to the second, and counts the frames in which it comes. */
async function framesOf(there: Site): Promise<number> {
  const [one, two] = [there.host(1), there.host(2)];
  const before = await packets(two.container, 'eth0', 'rx');
  await sendFile(one.end, two.end, file(4 * MIB, 1));
  return (await packets(two.container, 'eth0', 'rx')) - before;
}

const isThere = async ({ namespace }: Host) =>
  (await namespace.run('ip', '-brief', 'link', 'show')).stdout.includes(`${into}@`);

/** Whether this kernel merges at all is known from the first pair that is made; where it does not, that is said, and packets go on singly. */
async function mergesHere(there: Site, skip: (reason: string) => void): Promise<void> {
  for (const host of there.hosts) {
    const { inForce, reason } = await merging(host);
    if (reason === 'veth devices of this kernel do not merge') {
      expect(await isThere(host)).toBe(false);
      expect(await framesOf(there)).toBeGreaterThan(SINGLES * 0.9);
      skip(reason);
    }
    expect({ inForce, reason }).toEqual({ inForce: 'on', reason: '' });
  }
}

describe.each(['route', 'direct'] as const)('kernel path %s', (kernelPath) => {
  it('brings a stream in a fraction of its packets', async ({ skip }) => {
    const there = site();
    await there.setUnderlaySegmentation(false);
    await there.start({ kernelPath });
    await mergesHere(there, skip);
    expect(await framesOf(there)).toBeLessThan(SINGLES / 4);
    expect(await packets(there.host(2).namespace, into, 'tx')).toBeGreaterThan(SINGLES * 0.9);
    expect((await there.host(2).process.status()).drops.rx_merge_queue_full).toBe(0);
  });

  it('leaves packets as they are where that is not wanted', async () => {
    const there = site();
    await there.setUnderlaySegmentation(false);
    await there.start({ kernelPath, kernelPathMerge: false });
    expect(await merging(there.host(2))).toMatchObject({ wanted: 'off', inForce: 'off', reason: '' });
    expect(await isThere(there.host(2))).toBe(false);
    expect(await framesOf(there)).toBeGreaterThan(SINGLES * 0.9);
  });

  it('sends next to nothing that way while super-packets arrive whole', async ({ skip }) => {
    const there = site();
    await there.start({ kernelPath });
    await mergesHere(there, skip);
    await sendFile(there.host(1).end, there.host(2).end, file(MIB, 1));
    await there.host(2).process.reconcile(); // the container is known now, and packets are spared its bridge
    const before = await packets(there.host(2).namespace, into, 'tx');
    expect(await framesOf(there)).toBeLessThan(SINGLES / 4);
    // each processor finds out by itself
    expect((await packets(there.host(2).namespace, into, 'tx')) - before).toBeLessThan(SINGLES / 10);
  });

  it('every byte arrives when the underlay loses packets', async () => {
    const there = site();
    await there.setUnderlaySegmentation(false);
    await there.start({ kernelPath });
    const rules =
      'table bridge t {\nchain f {\ntype filter hook forward priority 0;\nnumgen random mod 200 == 0 drop\n}\n}\n';
    await there.switch.enter(() => exec(['nft', '-f', '-'], { input: rules }));
    await sendFile(there.host(1).end, there.host(2).end, file(2 * MIB, 1));
    await sendFile(there.host(2).end, there.host(1).end, file(2 * MIB, 2));
  });
});

describe('the devices', () => {
  it('come back when somebody removes them', async ({ skip }) => {
    const there = site();
    await there.setUnderlaySegmentation(false);
    await there.start({ kernelPath: 'route' });
    await mergesHere(there, skip);
    const two = there.host(2);
    await two.process.reconcile();
    await two.namespace.ip(`link delete ${out}`);
    expect(await two.process.reconcile()).toEqual(["the kernel path's device for merging"]);
    expect(await two.process.reconcile()).toEqual([]);
    expect(await framesOf(there)).toBeLessThan(SINGLES / 4);
  });

  it('are done without where something else has their name, and it says so', async () => {
    const there = site();
    await there.setUnderlaySegmentation(false);
    const two = there.host(2);
    await two.namespace.ip(`link add ${into} type veth peer name other`);
    try {
      await there.start({ kernelPath: 'route' });
      expect(await merging(two)).toMatchObject({
        inForce: 'off',
        reason: `there is a device ${into} that is not tweed's; remove or rename it`,
      });
      expect(await framesOf(there)).toBeGreaterThan(SINGLES * 0.9);
      await there.stop();
      expect(await isThere(two)).toBe(true);
    } finally {
      await two.namespace.ip(`link delete ${into}`);
    }
  });

  it.each(['auto', 'clsact'] as const)('that a killed process left are taken over, way %s', async (way) => {
    const there = site();
    await there.setUnderlaySegmentation(false);
    await there.start({ kernelPath: 'off' });
    const two = there.host(2);
    const killed = new KernelDriver(two);
    drivers.push(killed);
    expect(await killed.start({ way })).toMatchObject({ merging: { into, reason: '' } });
    const index = ifIndex(two.namespace, into);
    await killed.kill();
    expect(await isThere(two)).toBe(true);
    const next = new KernelDriver(two);
    drivers.push(next);
    expect(await next.start({ way })).toMatchObject({ merging: { into, reason: '' } });
    expect(ifIndex(two.namespace, into)).toBe(index);
    await next.stop();
    expect(await isThere(two)).toBe(false);
  });

  it.each(['auto', 'clsact'] as const)(
    'that a killed process left go with its filters where there is to be no kernel path, way %s',
    async (way) => {
      const there = site();
      await there.setUnderlaySegmentation(false);
      await there.start({ kernelPath: 'off' });
      const [one, two] = [there.host(1), there.host(2)];
      const killed = new KernelDriver(two);
      drivers.push(killed);
      await killed.start({ way });
      await introduce([two, one], [killed], there.mtu);
      await killed.kill();
      await there.stop();
      await there.start({ kernelPath: 'off' });
      await two.process.reconcile();
      await until('the devices are gone', async () => !(await isThere(two)));
      await sendFile(one.end, two.end, file(MIB, 1));
    },
  );

  it('stay as long as another process has its program there', async () => {
    const there = site();
    await there.start({ kernelPath: 'off' });
    const two = there.host(2);
    const [old, heir] = [new KernelDriver(two), new KernelDriver(two)];
    drivers.push(old, heir);
    await old.start();
    await heir.start();
    await old.stop();
    expect(await isThere(two)).toBe(true);
    await heir.stop();
    expect(await isThere(two)).toBe(false);
  });
});
