/** The path becomes too small for the tunnel's packets while a transfer is under way: nothing breaks, senders are told. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BackendStatus } from '../../../src/backend/backend.js';
import type { KernelPathWish } from '../../../src/backend/udp/options.js';
import { type Family, formatAddress } from '../../../src/base/address.js';
import { payload, udp } from '../../unit/encap/support/packets.js';
import { sameBytes } from '../../unit/encap/support/reference.js';
import { AUTO, OFF, type Offloads } from './support/host.js';
import { connect, Namespace } from './support/namespace.js';
import { Host, reportOn, setSegmentation, startAll } from './support/site.js';
import { closeSockets, RawIp, Sniffer } from './support/sockets.js';
import { file, NumberedStream, sendFile } from './support/transfer.js';
import { until } from './support/until.js';

const MTU = 1500;
const SMALL = 1400;
/** What IP and UDP take of a packet, inside the tunnel and outside. */
const HEADERS = { 4: 28, 6: 48 } as const;
const MIB = 1 << 20;
/** raw(7): the caller writes the IP header. */
const IPPROTO_RAW = 255;

/** Two hosts on different networks with a router between them. */
let router: Namespace;
let one: Host;
let two: Host;

beforeEach(async () => {
  router = new Namespace();
  one = new Host(1, '192.168.77');
  two = new Host(2, '192.168.78');
  router.sysctl('ipv4/ip_forward', 1);
  router.sysctl('ipv6/conf/all/forwarding', 1);
  for (const [host, port] of [
    [one, 'left'],
    [two, 'right'],
  ] as const) {
    await connect(router, port, host.namespace, 'eth0', MTU);
    await router.ip(
      `address add ${host.network}.254/24 dev ${port}`,
      `address add ${host.networkV6}254/64 dev ${port} nodad`,
    );
    await host.build(MTU);
    await host.namespace.ip(`route add default via ${host.network}.254`, `route add default via ${host.networkV6}254`);
  }
});

afterEach(async ({ task }) => {
  if (task.result?.state === 'fail') process.stderr.write(`${await reportOn([one, two])}\n`);
  closeSockets();
  await Promise.all([one.close(), two.close()]);
  router.close();
});

/** What makes the path from the first host to the second smaller. */
const changes: Record<string, () => Promise<void>> = {
  'the MTU of the sending host': () => one.namespace.ip(`link set eth0 mtu ${SMALL}`),
  'the MTU of a router in the middle': () => router.ip(`link set right mtu ${SMALL}`),
};

interface Case {
  readonly change: string;
  readonly name: string;
  readonly offloads: Offloads;
  readonly kernelPath: KernelPathWish;
  /** Of the containers, and of the hosts between them. */
  readonly inner: Family;
  readonly outer: Family;
}

const cases = Object.keys(changes).flatMap((change): Case[] => {
  const ipv4 = { change, kernelPath: 'off', inner: 4, outer: 4 } as const;
  return [
    { ...ipv4, name: 'all on', offloads: AUTO },
    { ...ipv4, name: 'all off', offloads: OFF },
    { ...ipv4, name: 'kernel path by route', offloads: AUTO, kernelPath: 'route' },
    { ...ipv4, name: 'kernel path to the container', offloads: AUTO, kernelPath: 'direct' },
    { ...ipv4, name: 'all on', offloads: AUTO, inner: 6 },
    { ...ipv4, name: 'all on', offloads: AUTO, outer: 6 },
    { ...ipv4, name: 'all on', offloads: AUTO, inner: 6, outer: 6 },
  ];
});

/** A daemon looks after its backend every few seconds; here it does all the time. Stops with the host. */
async function lookAfter(host: Host): Promise<void> {
  while (host.process.alive) {
    try {
      await host.process.reconcile();
    } catch {
      return;
    }
    await delay(100);
  }
}

/** The path MTU that a container has learned for the other one; 0 when it has not learned any. */
async function learned(family: Family): Promise<number> {
  const { stdout } = await one.container.run('ip', '-json', 'route', 'get', formatAddress(two.endOf(family).address));
  const [route] = JSON.parse(stdout) as { metrics?: readonly { mtu?: number }[] }[];
  return route?.metrics?.[0]?.mtu ?? 0;
}

function expectPlausible({ totals, drops }: BackendStatus, kernelPath = 'off'): void {
  expect(totals.tx_icmp_sent).toBeGreaterThan(0);
  // what is too long for the path goes to user space before it is sent
  if (kernelPath !== 'off') return;
  expect(totals.tx_replayed_packets).toBeGreaterThan(0);
  expect(totals.tx_replayed_packets).toBeLessThan(totals.tx_packets!);
  expect(drops).toMatchObject({ tx_message_too_long: 0, tx_send_error: 0, tx_underlay_unreachable: 0 });
}

describe.each(cases)('$change falls below the tunnel, $name, IPv$inner over IPv$outer', (options) => {
  const { change, offloads, kernelPath, inner, outer } = options;
  const dualOver = inner === 6 || outer === 6 ? outer : null;
  /** What the containers' packets may have, before and after. */
  const innerMtu = MTU - HEADERS[outer];
  const left = SMALL - HEADERS[outer];
  const full = innerMtu - HEADERS[inner];

  beforeEach(async () => {
    for (const host of [one, two]) await host.setContainerMtu(innerMtu);
    await startAll([one, two], MTU, { offloads, kernelPath, dualOver });
    if (kernelPath !== 'off') void lookAfter(one);
  });

  it('amid a transfer: the sender is asked for smaller packets, and the file arrives', async () => {
    let changing: Promise<void> | null = null;
    await sendFile(one.endOf(inner), two.endOf(inner), file(8 * MIB, 1), (total) => {
      if (total > 2 * MIB) changing ??= changes[change]!();
    });
    await changing;
    // the kernel path hears of it with the next look after it, when the file may be there already
    if (kernelPath !== 'off') {
      await until('the container has learned', async () => {
        await sendFile(one.endOf(inner), two.endOf(inner), file(MIB, 2));
        return (await learned(inner)) === left;
      });
    }
    expect(await learned(inner)).toBe(left);
    expectPlausible(await one.process.status(), kernelPath);
    expect((await two.process.status()).totals.rx_bad_inner_checksum).toBe(0);
  });

  it('datagrams keep arriving, whether or not they may be cut', async () => {
    const stream = new NumberedStream(one.endOf(inner), two.endOf(inner));
    stream.send(full, 30);
    await stream.complete();
    await changes[change]!();
    // the next look after it tells the kernel path
    if (kernelPath !== 'off') await one.process.reconcile();
    if (change.includes('router')) {
      // what the router drops to say so is lost, as on any path
      const probe = new NumberedStream(one.endOf(inner), two.endOf(inner));
      await until('the host has learned', async () => {
        probe.send(full);
        const { totals } = await one.process.status();
        return (kernelPath === 'off' ? totals.tx_replayed_packets! : totals.tx_icmp_sent!) > 0;
      });
    }
    stream.send(full, 30);
    stream.sendSegmented(600, 60, 11);
    stream.send(20_000);
    await until('the container has learned', async () => (await learned(inner)) === left);
    stream.send(full, 30);
    stream.send(20_000);
    await stream.complete();
    expect(stream.duplicates).toBe(0);
    if (inner === 6) return; // has no packets that a router may cut

    // packets without DF: their sender does not want to hear of it
    const before = (await one.process.status()).totals.tx_icmp_sent;
    await one.container.ip('route flush cache'); // or the container would cut them itself
    await setSegmentation(two.namespace, 'vc', false);
    const sniffer = new Sniffer(two.container, 'eth0', 'in');
    const raw = new RawIp(one.container, IPPROTO_RAW);
    const packets = Array.from({ length: 10 }, (_, id) =>
      udp({ fragment: 0, ttl: 64, id, payload: payload(full, id) }),
    );
    for (const packet of packets) raw.send(packet, two.containerIp);
    const isWhole = (seen: Buffer) => packets.some((packet) => sameBytes(packet.slice(20), seen.subarray(20)));
    await sniffer.collect('all of them', packets.length, isWhole);
    expectPlausible(await one.process.status(), kernelPath);
    expect((await one.process.status()).totals.tx_icmp_sent).toBe(before);
  });
});
