/**
 * What is on the wire between two hosts: flannel's format, one whole inner packet in each UDP datagram and nothing
 * around it, so that flannel's own proxy at the far end can tell no difference.
 */
import { beforeEach, describe, expect, it } from 'vitest';
import { formatIpv4 } from '../../../src/base/ipv4.js';
import { ACK, payload, tcp, udp } from '../../unit/encap/support/packets.js';
import { faults, parse, sameBytes, UDP, word } from '../../unit/encap/support/reference.js';
import { AUTO, leaseOf, OFF, PORT } from './support/host.js';
import { forwarded } from './support/packet-changes.js';
import { type Site, setSegmentation, useSite } from './support/site.js';
import { RawIp, Sniffer, Udp } from './support/sockets.js';
import { file, NumberedStream, ping, sendFile } from './support/transfer.js';
import { gather } from './support/until.js';

/** raw(7): the caller writes the IP header. */
const IPPROTO_RAW = 255;
const UNASSIGNED_PROTOCOL = 253;
const IPV4_HEADER = 20;

const site = useSite();

/** The inner packet of a datagram of the overlay, after everything around it has been found right. */
function innerOf(datagram: Uint8Array): Uint8Array {
  expect(faults(datagram)).toEqual([]);
  const { protocol, fragment, sourcePort, destinationPort, payload: inner } = parse(datagram);
  expect({ protocol, fragment, sourcePort, destinationPort }).toEqual({
    protocol: UDP,
    fragment: 0x4000,
    sourcePort: PORT,
    destinationPort: PORT,
  });
  return inner;
}

const isOverlay = (packet: Uint8Array) => packet[0] === 0x45 && packet[9] === UDP && word(packet, 22) === PORT;
const isInner = (packet: Uint8Array) => packet[0]! >> 4 === 4;

async function someOfEverything(there: Site): Promise<void> {
  const [one, two] = [there.host(1), there.host(2)];
  await sendFile(one.end, two.end, file(300_000, 1));
  const stream = new NumberedStream(one.end, two.end);
  for (const size of [4, 64, 64, 64, 1000, 1444, 5000]) stream.send(size);
  stream.sendSegmented(500, 20, 33);
  await stream.complete();
  await ping(one.container, two.containerIp, 56);
  await ping(one.container, two.containerIp, 4000);
}

describe('between two hosts', () => {
  // complete datagrams are to be seen, as on a plain NIC
  beforeEach(() => site().setUnderlaySegmentation(false));

  it('all off: each datagram is a packet of the device with its TTL taken down by one', async () => {
    const there = site();
    const { namespace } = there.host(1);
    await there.start({ offloads: OFF });
    const device = new Sniffer(namespace, 'flannel0', 'out');
    const wire = new Sniffer(namespace, 'eth0', 'out');
    await someOfEverything(there);
    const inner = device.drain().filter(isInner);
    const sent = (await wire.collect('datagrams', inner.length, isOverlay)).map(innerOf);
    expect(inner.length).toBeGreaterThan(200);
    expect(sent.length).toBe(inner.length);
    const different = inner.findIndex((packet, i) => !sameBytes(forwarded(packet), sent[i]!));
    expect(different).toBe(-1);
  });

  it('all on: each datagram is a packet, complete and correct by itself', async () => {
    const there = site();
    await there.start({ offloads: AUTO });
    const wire = new Sniffer(there.host(2).namespace, 'eth0', 'in');
    await someOfEverything(there);
    const inner = wire.drain().filter(isOverlay).map(innerOf);
    expect(inner.length).toBeGreaterThan(200);
    expect(inner.flatMap(faults)).toEqual([]);
    expect(inner.every(({ length }) => length <= there.mtu - 28)).toBe(true);
    expect(new Set(inner.map((packet) => packet[8]))).toEqual(new Set([62])); // the host's kernel and tweed took one each
  });
});

describe.each([
  ['all off', OFF, 'off'],
  ['all on', AUTO, 'off'],
  ['kernel path by route', AUTO, 'route'],
  ['kernel path to the container', AUTO, 'direct'],
] as const)('with a plain peer that knows nothing of offloads, %s', (_name, offloads, kernelPath) => {
  /** A stand-in for flannel's proxy at the second host: a socket that sends and receives one datagram at a time. */
  async function start(): Promise<{ readonly peer: Udp; readonly there: Site }> {
    const there = site();
    const [one, two] = [there.host(1), there.host(2)];
    await one.process.start(one.publicIp, there.mtu, [leaseOf(2, two.publicIp)], { offloads, kernelPath });
    return { there, peer: new Udp(two.namespace, { address: two.publicIp, port: PORT }) };
  }

  it('its packets reach the container as they are, and the answers come back to it', async () => {
    const { there, peer } = await start();
    const { namespace, container, publicIp } = there.host(1);
    await setSegmentation(namespace, 'vc', false); // so that the sniffer sees packets, not what they were merged into
    const sniffer = new Sniffer(container, 'eth0', 'in');
    const raw = new RawIp(container, IPPROTO_RAW);
    // without DF, so that a merge must not give up the ids
    const ways = { source: [2, 2], destination: [1, 2], ttl: 60, fragment: 0 } as const;
    const packets = [
      udp({ ...ways, id: 7, payload: payload(100) }),
      udp({ ...ways, id: 70, payload: payload(1400) }),
      udp({ ...ways, id: 80, ipOptions: [1, 1, 1, 1], payload: payload(55) }),
      ...Array.from({ length: 20 }, (_, i) => udp({ ...ways, id: 100 + i, payload: payload(700, i) })),
      ...Array.from({ length: 20 }, (_, i) =>
        tcp({ ...ways, sequence: 1000 * i, flags: ACK, id: 200 + i, payload: payload(1000, i) }),
      ),
    ];
    for (const packet of packets) peer.send(packet, publicIp, PORT);
    // one off the TTL by tweed, and one by the host's kernel that routes to the bridge
    const wanted = packets.map((packet) => Buffer.from(forwarded(forwarded(packet))));
    const seen = await sniffer.collect('packets in the container', wanted.length, (packet) =>
      wanted.some((one) => one.equals(packet)),
    );
    expect(seen.length).toBe(wanted.length);

    const back = udp({ source: [1, 2], destination: [2, 2], ttl: 64, payload: payload(900) });
    raw.send(back, there.host(2).containerIp);
    const sent = Buffer.from(forwarded(forwarded(back)));
    const arrived = await gather(
      'the answer',
      () => peer.receive(),
      (all) => all.some(({ data }) => data.equals(sent)),
    );
    const found = arrived.find(({ data }) => data.equals(sent));
    expect(found).toMatchObject({ address: formatIpv4(publicIp), port: PORT });
  });
});

it('packets of protocols that nobody knows cross as well', async () => {
  const there = site();
  const [one, two] = [there.host(1), there.host(2)];
  await there.start();
  const from = new RawIp(one.container, UNASSIGNED_PROTOCOL);
  const to = new RawIp(two.container, UNASSIGNED_PROTOCOL);
  const sizes = [1, 20, 21, 500, there.mtu - 28 - IPV4_HEADER, 3000];
  for (const size of sizes) from.send(payload(size, size), two.containerIp);
  const arrived = await gather(
    'packets of another protocol',
    () => to.receive(),
    (all) => all.length >= sizes.length,
  );
  for (const packet of arrived) {
    const data = packet.subarray(IPV4_HEADER);
    expect(sameBytes(data, payload(data.length, data.length))).toBe(true);
  }
});
