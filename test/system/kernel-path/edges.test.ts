/** What the kernel path does not take, how it refuses, and what it puts on the wire. */
import { afterEach, expect, it } from 'vitest';
import { altered, payload, udp } from '../../unit/encap/support/packets.js';
import { word } from '../../unit/encap/support/reference.js';
import { PORT } from '../datapath/support/host.js';
import { useSite } from '../datapath/support/site.js';
import { RawIp, Sniffer, Udp } from '../datapath/support/sockets.js';
import { ping } from '../datapath/support/transfer.js';
import { until } from '../datapath/support/until.js';
import { DriverError, introduce, KernelDriver } from './support/driver.js';
import { expectNoLeftovers } from './support/leftovers.js';

/** raw(7): the caller writes the IP header. */
const IPPROTO_RAW = 255;

const site = useSite();
let driver: KernelDriver | undefined;

afterEach(async () => {
  await driver?.stop();
  await driver?.kill();
  driver = undefined;
  await expectNoLeftovers(site().hosts);
});

it('puts the same datagrams on the wire as user space, but for the UDP checksum', async () => {
  const there = site();
  const [one, two] = [there.host(1), there.host(2)];
  await there.setUnderlaySegmentation(false);
  await there.start();
  const packets = [0, 1, 8, 33, 1000, 1444].map((length, i) =>
    udp({ source: [1, 2], destination: [2, 2], id: 100 + i, tos: i, ttl: 3 + i, payload: payload(length, i) }),
  );
  const isOverlay = (packet: Buffer) => packet[9] === 17 && word(packet, 22) === PORT;
  const onTheWire = async () => {
    const wire = new Sniffer(one.namespace, 'eth0', 'out');
    const from = new RawIp(one.container, IPPROTO_RAW);
    for (const packet of packets) from.send(packet, two.containerIp);
    const seen = await wire.collect('the datagrams', packets.length, isOverlay);
    from.close();
    wire.close();
    return seen.slice(0, packets.length);
  };
  const bySpace = await onTheWire();
  driver = new KernelDriver(one);
  await driver.start();
  await introduce([one, two], [driver], there.mtu);
  const byKernel = await onTheWire();
  expect((await driver.counters()).totals.tx_packets).toBe(packets.length);
  const withoutChecksum = (packet: Buffer) => Buffer.from(altered(packet, { 26: 0, 27: 0 })).toString('hex');
  expect(byKernel.map((packet) => packet.toString('hex'))).toEqual(bySpace.map(withoutChecksum));
});

it('lets user space answer what has no way or whose TTL runs out', async () => {
  const there = site();
  const [one, two] = [there.host(1), there.host(2)];
  await there.start();
  driver = new KernelDriver(one);
  await driver.start();
  await introduce([one, two], [driver], there.mtu);
  // one hop is the host's own
  const dying = new Udp(one.container, { ttl: 2 });
  dying.send(payload(10), two.containerIp, 9);
  const lost = new Udp(one.container);
  lost.send(payload(10), (two.containerIp & 0xffff0000) + 0xc802, 9);
  await until('both are counted and answered', async () => {
    const { drops, totals } = await one.process.status();
    return drops.tx_ttl_expired === 1 && drops.tx_no_route === 1 && totals.tx_icmp_sent === 2;
  });
  expect((await driver.counters()).totals.tx_packets).toBe(0);
});

it('goes through user space to a peer that was taken away, and back to the kernel with it', async () => {
  const there = site();
  const [one, two] = [there.host(1), there.host(2)];
  await there.setUnderlaySegmentation(false);
  await there.start();
  driver = new KernelDriver(one);
  await driver.start();
  await introduce([one, two], [driver], there.mtu);
  await ping(one.container, two.containerIp, 56);
  const { tx_packets: before } = (await driver.counters()).totals;
  expect(before).toBeGreaterThan(0);
  await driver.stop();
  await ping(one.container, two.containerIp, 56);
  await driver.start();
  await introduce([one, two], [driver], there.mtu);
  await ping(one.container, two.containerIp, 56);
  // counts anew: its maps went with it
  expect((await driver.counters()).totals.tx_packets).toBeGreaterThan(0);
});

it('refuses without the right to load programs, and says what is missing', async () => {
  const there = site();
  await there.start();
  // CAP_BPF has a number only, to a tool that is older
  driver = new KernelDriver(there.host(1), ['setpriv', '--bounding-set', '-sys_admin,-cap_39']);
  const error = await driver.start().catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(DriverError);
  expect(error).toMatchObject({ code: 'KERNEL_PATH_REFUSED', stage: 'maps' });
  expect((error as DriverError).message).toMatch(/EPERM: .+; give the process CAP_BPF and CAP_NET_ADMIN/);
  await ping(there.host(1).container, there.host(2).containerIp, 56);
});

it('refuses a device without Ethernet as underlay', async () => {
  const there = site();
  await there.start();
  driver = new KernelDriver(there.host(1));
  const error = await driver.start({ underlay: { name: 'flannel0', index: 1, address: 1 } }).catch((thrown) => thrown);
  expect(error).toMatchObject({ stage: 'underlay', message: expect.stringMatching(/flannel0 is no Ethernet device/) });
});
