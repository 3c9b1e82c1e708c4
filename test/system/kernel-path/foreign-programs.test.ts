/** Programs of others on the hooks that the kernel path uses: they stay, have their turn in the order of the hook, and their word. */
import { afterEach, describe, expect, it } from 'vitest';
import { useSite } from '../datapath/support/site.js';
import { Udp } from '../datapath/support/sockets.js';
import { file, ping, sendFile } from '../datapath/support/transfer.js';
import { until } from '../datapath/support/until.js';
import { containerOf, introduce, KernelDriver } from './support/driver.js';
import { DROP, Foreign, type ForeignPlace, PASS } from './support/foreign.js';
import { expectNoLeftovers } from './support/leftovers.js';

const MIB = 1 << 20;
/** Of filters; tweed's is its port, 8285. */
const BEFORE = 100;
const BEHIND = 9000;

const site = useSite();
const foreigners: Foreign[] = [];
const drivers: KernelDriver[] = [];

afterEach(async () => {
  for (const driver of drivers) await driver.stop();
  await Promise.all(drivers.splice(0).map((driver) => driver.kill()));
  for (const foreign of foreigners.splice(0)) await foreign.remove();
  await expectNoLeftovers(site().hosts);
});

async function put(verdict: number, place: Omit<ForeignPlace, 'namespace'>): Promise<Foreign> {
  const foreign = new Foreign(verdict);
  foreigners.push(foreign);
  await foreign.attach({ namespace: site().host(1).namespace, ...place });
  return foreign;
}

/** User space on both hosts; datagrams one by one, so that each program sees the same ones. */
async function start(): Promise<void> {
  await site().setUnderlaySegmentation(false);
  await site().start();
}

/** Starts the kernel path of both hosts. @returns that of the first one, where the others' programs are */
async function engage(way: 'tcx' | 'clsact'): Promise<KernelDriver> {
  for (const host of site().hosts) {
    const driver = new KernelDriver(host);
    drivers.push(driver);
    await driver.start({ way });
  }
  await introduce(site().hosts, drivers, site().mtu);
  return drivers[0] as KernelDriver;
}

const carried = async (by: KernelDriver, name: 'tx_packets' | 'rx_packets') => (await by.counters()).totals[name] ?? 0;

describe.each(['tcx', 'clsact'] as const)('by %s', (way) => {
  describe.each([
    ['the underlay’s way in', 'eth0', 'ingress', 'rx_packets'],
    ['flannel0’s way out', 'flannel0', 'egress', 'tx_packets'],
  ] as const)('on %s', (_, device, direction, name) => {
    it('one that was there before sees every packet, and is there when tweed has gone', async () => {
      await start();
      const [one, two] = [site().host(1), site().host(2)];
      const foreign = await put(PASS, { device, direction, way, pref: BEFORE });
      const path = await engage(way);
      await sendFile(one.end, two.end, file(MIB, 1));
      await sendFile(two.end, one.end, file(MIB, 2));
      const packets = await carried(path, name);
      expect(packets).toBeGreaterThan(500);
      // a super-packet is one here, and tweed counts its segments
      expect(foreign.seen).toBeGreaterThan(20);
      await path.stop();
      const before = foreign.seen;
      await ping(one.container, two.containerIp, 56);
      expect(foreign.seen).toBeGreaterThanOrEqual(before + 5);
    });

    it('one that drops what it likes is obeyed', async () => {
      await start();
      const [one, two] = [site().host(1), site().host(2)];
      // the neighbours are known, who would be asked for by what is dropped
      await ping(one.container, two.containerIp, 56);
      const foreign = await put(DROP, { device, direction, way, pref: BEFORE });
      const path = await engage(way);
      const socket = new Udp(one.container);
      const answering = new Udp(two.container);
      await until('it has dropped some', () => {
        socket.send(Buffer.alloc(100), two.containerIp, 9);
        answering.send(Buffer.alloc(100), one.containerIp, 9);
        return foreign.seen > 20;
      });
      expect(await carried(path, name)).toBe(0);
      await foreign.takeOff();
      await ping(one.container, two.containerIp, 56);
      expect(await carried(path, name)).toBeGreaterThanOrEqual(5);
    });

    it('one behind sees what tweed leaves, and only that', async () => {
      await start();
      const [one, two] = [site().host(1), site().host(2)];
      await ping(one.container, two.containerIp, 56);
      const path = await engage(way);
      const foreign = await put(PASS, { device, direction, way, pref: BEHIND });
      await sendFile(one.end, two.end, file(MIB, 1));
      await sendFile(two.end, one.end, file(MIB, 2));
      expect(await carried(path, name)).toBeGreaterThan(500);
      // at most what has nothing to do with the overlay, such as ARP
      const others = foreign.seen;
      expect(others).toBeLessThan(20);
      // in fragments, which user space carries
      await ping(one.container, two.containerIp, 4000, 10);
      expect(foreign.seen).toBeGreaterThanOrEqual(others + 30);
    });
  });
});

/** Starts both hosts, which pass super-packets on whole, and has those for the first one's container be spared its bridge. */
async function spared(way: 'tcx' | 'clsact'): Promise<KernelDriver> {
  await site().setUnderlaySegmentation(true);
  await site().start();
  const path = await engage(way);
  const [one, two] = [site().host(1), site().host(2)];
  await ping(one.container, two.containerIp, 56);
  await path.setContainers([await containerOf(one)]);
  await path.spareBridge();
  return path;
}

describe.each(['tcx', 'clsact'] as const)('on a bridge’s way out, by %s', (way) => {
  const talk = () => sendFile(site().host(2).end, site().host(1).end, file(MIB, 1));
  const pastBridge = async (path: KernelDriver) => (await path.counters()).pastBridge;

  it('packets are spared it, and it is passed again when tweed has gone', async () => {
    const path = await spared(way);
    expect((await path.status()).bridges).toEqual({ spared: ['br0'], reason: '' });
    await talk();
    expect(await pastBridge(path)).toBeGreaterThanOrEqual(5);
    await path.stop();
    await talk();
  });

  it('a filter of somebody else’s has every packet, and tweed says which', async () => {
    const path = await spared(way);
    const foreign = await put(PASS, { device: 'br0', direction: 'egress', way: 'clsact', pref: BEHIND });
    await path.spareBridge();
    expect((await path.status()).bridges).toEqual({
      spared: [],
      reason: expect.stringMatching(/the filter foreign hangs on the way out of br0/),
    });
    const before = [await pastBridge(path), foreign.seen] as const;
    await talk();
    expect(await pastBridge(path)).toBe(before[0]);
    expect(foreign.seen).toBeGreaterThanOrEqual(before[1] + 5);
  });

  it('what a killed process left is gone once another has started', async () => {
    const path = await spared(way);
    drivers.splice(drivers.indexOf(path), 1);
    await path.kill();
    const one = site().host(1);
    const left = async () => (await one.namespace.run('tc', 'filter', 'show', 'dev', 'br0', 'egress')).stdout;
    if (way === 'clsact') expect(await left()).toContain('tweed_deliver');
    const next = new KernelDriver(one);
    drivers.push(next);
    await next.start({ way });
    expect(await left()).toBe('');
  });
});

it('a link of somebody else’s on a bridge’s way out, that came later, has its turn before tweed’s', async () => {
  const path = await spared('tcx');
  const [one, two] = [site().host(1), site().host(2)];
  const foreign = await put(PASS, { device: 'br0', direction: 'egress', way: 'tcx' });
  expect(await path.spareBridge()).toEqual([]);
  const [passed, seen] = [(await path.counters()).pastBridge, foreign.seen];
  await sendFile(two.end, one.end, file(MIB, 1));
  expect((await path.counters()).pastBridge).toBeGreaterThanOrEqual(passed + 5);
  expect(foreign.seen).toBeGreaterThanOrEqual(seen + 5);
});

it('a filter of somebody else’s stays, though tweed hangs by a link', async () => {
  await start();
  const [one, two] = [site().host(1), site().host(2)];
  const foreign = await put(PASS, { device: 'eth0', direction: 'ingress', way: 'clsact' });
  const path = await engage('tcx');
  await ping(one.container, two.containerIp, 56);
  expect(await carried(path, 'rx_packets')).toBeGreaterThanOrEqual(5);
  await path.stop();
  const before = foreign.seen;
  await ping(one.container, two.containerIp, 56);
  expect(foreign.seen).toBeGreaterThanOrEqual(before + 5);
});
