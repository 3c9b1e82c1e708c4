/** Whatever anybody sends to the overlay's port: nothing wrong gets in, everything refused is counted under its reason. */
import { randomBytes } from 'node:crypto';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ACK, altered, fixHeaderChecksum, ip, payload, tcp, udp } from '../../unit/encap/support/packets.js';
import { parse, sameBytes, setWord, UDP } from '../../unit/encap/support/reference.js';
import { address, leaseOf, PORT } from './support/host.js';
import { forwarded } from './support/packet-changes.js';
import { useSite } from './support/site.js';
import { RawIp, Sniffer, Udp } from './support/sockets.js';
import { gather, until } from './support/until.js';

const ROGUE = '192.168.77.99';
const ICMP = 1;
const TIME_EXCEEDED = 11;

const site = useSite({ hosts: 3 });
/** Sockets of the hosts 2 and 3, at the address and port that a peer has; of host 2 at another port; of nobody. */
let peer: Udp;
let otherPeer: Udp;
let wrongPort: Udp;
let stranger: Udp;
let device: Sniffer;

beforeAll(() => site().switch.ip(`address add ${ROGUE}/24 dev br0`));

/** Only host 1 has a data path here; the others are these sockets. */
async function start(checkSenders: boolean): Promise<void> {
  const [one, two, three] = [site().host(1), site().host(2), site().host(3)];
  const peers = [leaseOf(2, two.publicIp), leaseOf(3, three.publicIp)];
  await one.process.start(one.publicIp, site().mtu, peers, { checkSenders });
  peer = new Udp(two.namespace, { address: two.publicIp, port: PORT });
  otherPeer = new Udp(three.namespace, { address: three.publicIp, port: PORT });
  wrongPort = new Udp(two.namespace, { address: two.publicIp });
  stranger = new Udp(site().switch, { address: address(ROGUE), port: PORT });
  device = new Sniffer(one.namespace, 'flannel0', 'in');
}

const send = (from: Udp, data: Uint8Array) => from.send(data, site().host(1).publicIp, PORT);

/** The drops of what came from the underlay that are not 0. The container's answers may have nowhere to go. */
async function drops(): Promise<Record<string, number>> {
  const { drops: all } = await site().host(1).process.status();
  return Object.fromEntries(Object.entries(all).filter(([name, count]) => name.startsWith('rx_') && count > 0));
}

async function expectDrops(expected: Record<string, number>): Promise<void> {
  const total = (counts: Record<string, number>) => Object.values(counts).reduce((sum, count) => sum + count, 0);
  await until('everything is counted', async () => total(await drops()) >= total(expected));
  expect(await drops()).toEqual(expected);
}

/** From a container of host 2 to the container of host 1; without DF and all with one id, so that none are merged. */
const ways = { source: [2, 2], destination: [1, 2], ttl: 60, fragment: 0 } as const;
const good = () => udp({ ...ways, payload: payload(300) });

let probes = 0;

/** A good packet still gets through, and nothing else has come out of the device before it. */
async function expectOnlyGood(): Promise<void> {
  const probe = udp({ ...ways, payload: payload(40, ++probes) });
  send(peer, probe);
  await device.collect('the good packet', 1, (packet) => sameBytes(packet, forwarded(probe)));
  expect(device.seen.filter((packet) => packet[0]! >> 4 === 4).length).toBe(1);
}

function withLength(packet: Uint8Array, length: number): Uint8Array {
  const copy = packet.slice();
  setWord(copy, 2, length);
  return fixHeaderChecksum(copy);
}

/** What a peer must not send, and the reason under which each is counted. */
const wrong: Record<string, readonly Uint8Array[]> = {
  rx_short: Array.from({ length: 20 }, (_, length) => good().slice(0, length)),
  rx_bad_version: [0, 1, 5, 6, 15].map((version) => altered(good(), { 0: (version << 4) | 5 })),
  rx_bad_header: [
    ...[0, 1, 2, 3, 4].map((words) => altered(good(), { 0: 0x40 | words })),
    altered(good().slice(0, 59), { 0: 0x4f }),
  ],
  rx_bad_length: [
    good().slice(0, 200),
    good().slice(0, 20),
    Uint8Array.from([...good(), 0]),
    withLength(good(), 0),
    withLength(good(), 19),
    withLength(good(), 65_535),
  ],
  rx_bad_header_checksum: [
    altered(good(), { 10: 0, 11: 0 }),
    altered(good(), { 15: 77 }),
    ip(UDP, payload(30), { ...ways, ipOptions: [1, 1, 1, 1] }).map((byte, at) => (at === 23 ? 2 : byte)),
  ],
  rx_ttl_zero: [udp({ ...ways, ttl: 0 })],
  rx_spoofed_source: [
    udp({ ...ways, source: [1, 9] }), // our own subnet
    udp({ ...ways, source: [1, 2] }),
    udp({ ...ways, source: [3, 2] }), // another peer's
    udp({ ...ways, source: [99, 2] }), // nobody's
    tcp({ ...ways, source: [3, 2], flags: ACK, payload: payload(900) }),
  ],
  rx_foreign_destination: [
    udp({ ...ways, destination: [3, 2] }),
    udp({ ...ways, destination: [2, 2] }),
    udp({ ...ways, destination: [99, 2] }),
    ...['8.8.8.8', '192.168.77.1', '127.0.0.1', '224.0.0.1', '255.255.255.255', '0.0.0.0'].map((text) => {
      const packet = good();
      new DataView(packet.buffer).setUint32(16, address(text));
      return fixHeaderChecksum(packet);
    }),
  ],
};

describe('with sender checks', () => {
  beforeEach(() => start(true));

  it.each(Object.keys(wrong))('%s', async (reason) => {
    const packets = wrong[reason]!;
    for (const packet of packets) send(peer, packet);
    await expectDrops({ [reason]: packets.length });
    await expectOnlyGood();
  });

  it('senders that are no peers, or use another port', async () => {
    for (const from of [stranger, wrongPort]) {
      send(from, good());
      send(from, new Uint8Array(0));
      send(from, randomBytes(1000));
    }
    await expectDrops({ rx_unknown_sender: 6 });
    await expectOnlyGood();
  });

  it('a peer that was one until now', async () => {
    const { process } = site().host(1);
    send(otherPeer, udp({ ...ways, source: [3, 2] }));
    await until('it is known at first', async () => (await process.status()).totals.rx_packets === 1);
    await process.setPeers([leaseOf(2, site().host(2).publicIp)]);
    send(otherPeer, udp({ ...ways, source: [3, 2] }));
    send(peer, udp({ ...ways, source: [3, 2] }));
    await expectDrops({ rx_unknown_sender: 1, rx_spoofed_source: 1 });
  });

  it('a TTL that ends here is reported to the sender through the tunnel', async () => {
    send(peer, udp({ ...ways, ttl: 1, payload: payload(100) }));
    await expectDrops({ rx_ttl_expired: 1 });
    const [answer] = await gather(
      'the ICMP error',
      () => peer.receive(),
      (all) => all.length > 0,
    );
    const { protocol, source, destination, transport } = parse(answer!.data);
    expect({ protocol, source: [...source], destination: [...destination], type: transport[0] }).toEqual({
      protocol: ICMP,
      source: [10, 5, 1, 0],
      destination: [10, 5, 2, 2],
      type: TIME_EXCEEDED,
    });
    await expectOnlyGood();
  });

  it('wrong ones amid a run of good ones: these alone are dropped', async () => {
    const one = udp({ ...ways, id: 1, payload: payload(500) });
    const run = Array.from({ length: 40 }, (_, i) => {
      if (i % 4 === 1) return altered(one, { 8: 9 });
      return i % 4 === 3 ? udp({ ...ways, source: [3, 2], payload: payload(500) }) : one;
    });
    peer.sendSegmented(Buffer.concat(run), one.length, site().host(1).publicIp, PORT);
    await expectDrops({ rx_bad_header_checksum: 10, rx_spoofed_source: 10 });
    const { totals } = await site().host(1).process.status();
    expect(totals).toMatchObject({ rx_datagrams: 40, rx_coalesced_datagrams: 40, rx_packets: 20 });
  });

  it('only a part of a datagram: the kernel waits for the rest, and nothing comes of it', async () => {
    const raw = new RawIp(site().host(2).namespace, 255);
    const { publicIp } = site().host(2);
    const outer = Buffer.from(ip(UDP, payload(808), { fragment: 0x2000 }));
    outer.writeUInt32BE(publicIp, 12);
    outer.writeUInt32BE(site().host(1).publicIp, 16);
    outer.writeUInt16BE(PORT, 20);
    outer.writeUInt16BE(PORT, 22);
    raw.send(fixHeaderChecksum(outer), site().host(1).publicIp);
    await expectOnlyGood();
    expect(await drops()).toEqual({});
  });

  it('any bytes at all', async () => {
    const count = 3000;
    for (let i = 0; i < count; i++) send(peer, randomBytes((i * 7) % 1400));
    const known = randomBytes(20);
    known[0] = 0x45;
    for (let i = 0; i < count; i++) {
      setWord(known, 2, 20 + (i % 900));
      send(peer, Buffer.concat([fixHeaderChecksum(known), randomBytes(i % 900)]));
    }
    await until('all of them are counted', async () => {
      const counts = Object.values(await drops());
      return counts.reduce((sum, one) => sum + one, 0) === 2 * count;
    });
    await expectOnlyGood();
  });

  it('a source outside the overlay is none of our business', async () => {
    const packet = good();
    new DataView(packet.buffer).setUint32(12, address('198.51.100.7'));
    const outside = fixHeaderChecksum(packet);
    send(peer, outside);
    await device.collect('the packet', 1, (seen) => sameBytes(seen.subarray(0, 20), forwarded(outside).slice(0, 20)));
    expect(await drops()).toEqual({});
  });
});

describe('without sender checks', () => {
  beforeEach(() => start(false));

  it('anybody may send for anybody', async () => {
    const spoofed = wrong.rx_spoofed_source!;
    const all = [...spoofed, good()];
    for (const from of [stranger, wrongPort, peer]) for (const packet of all) send(from, packet);
    const wanted = all.map(forwarded);
    await device.collect('all of them', 3 * all.length, (seen) => wanted.some((one) => sameBytes(one, seen)));
    expect(await drops()).toEqual({});
  });

  it('but what is wrong in itself stays out', async () => {
    const { rx_spoofed_source: _allowed, ...rest } = wrong;
    for (const packets of Object.values(rest)) for (const packet of packets) send(stranger, packet);
    await expectDrops(Object.fromEntries(Object.entries(rest).map(([reason, { length }]) => [reason, length])));
    await expectOnlyGood();
  });
});
