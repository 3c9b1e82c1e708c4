/** Whatever anybody sends to the overlay's port: nothing wrong gets in, everything refused is counted under its reason. */
import { randomBytes } from 'node:crypto';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Family } from '../../../src/base/address.js';
import {
  EXTENSION_DESTINATION as DESTINATION_OPTIONS,
  EXTENSION_FRAGMENT as FRAGMENT,
  EXTENSION_HOP_BY_HOP as HOP_BY_HOP,
  EXTENSION_ROUTING as ROUTING,
} from '../../../src/encap/wire/headers.js';
import { putIpv6 } from '../../../src/linux/structs.js';
import {
  ACK,
  address6,
  altered,
  extended,
  fixHeaderChecksum,
  fragmentHeader,
  ip,
  MORE_FRAGMENTS,
  PADDING,
  payload,
  tcp,
  type UdpFields,
  udp,
} from '../../unit/encap/support/packets.js';
import { parse, sameBytes, setWord, UDP } from '../../unit/encap/support/reference.js';
import { expectInForce } from '../kernel-path/support/by.js';
import { AUTO, address, addressV6, dualLeaseOf, leaseOf, PORT } from './support/host.js';
import { forwarded } from './support/packet-changes.js';
import { useSite } from './support/site.js';
import { RawIp, Sniffer, Udp } from './support/sockets.js';
import { gather, until } from './support/until.js';

const ROGUE = { 4: address('192.168.77.99'), 6: addressV6('fd00:77::99') } as const;
const ICMP = 1;
const ICMPV6 = 58;
const TIME_EXCEEDED = 11;
const HOP_LIMIT_EXCEEDED = 3;

const site = useSite({ hosts: 3 });

beforeAll(() => site().switch.ip('address add 192.168.77.99/24 dev br0', 'address add fd00:77::99/64 dev br0 nodad'));

/** From a container of host 2 to the container of host 1; without DF and all with one id, so that none are merged. */
const ways = { source: [2, 2], destination: [1, 2], ttl: 60, fragment: 0 } as const;

function withLength(packet: Uint8Array, length: number): Uint8Array {
  const copy = packet.slice();
  setWord(copy, 2, length);
  return fixHeaderChecksum(copy);
}

type Packets = Readonly<Record<string, readonly Uint8Array[]>>;

const spoofed = (version: Family) => [
  udp({ ...ways, version, source: [1, 9] }), // our own subnet
  udp({ ...ways, version, source: [1, 2] }),
  udp({ ...ways, version, source: [3, 2] }), // another peer's
  udp({ ...ways, version, source: [99, 2] }), // nobody's
  tcp({ ...ways, version, source: [3, 2], flags: ACK, payload: payload(900) }),
];
const ofOtherHosts = (version: Family) =>
  [3, 2, 99].map((subnet) => udp({ ...ways, version, destination: [subnet, 2] }));

function wrongV4(): Packets {
  const good = () => udp({ ...ways, payload: payload(300) });
  return {
    rx_short: Array.from({ length: 20 }, (_, length) => good().slice(0, length)),
    rx_bad_version: [0, 1, 5, 7, 15].map((version) => altered(good(), { 0: (version << 4) | 5 })),
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
    rx_spoofed_source: spoofed(4),
    rx_foreign_destination: [
      ...ofOtherHosts(4),
      ...['8.8.8.8', '192.168.77.1', '127.0.0.1', '224.0.0.1', '255.255.255.255', '0.0.0.0'].map((text) => {
        const packet = good();
        new DataView(packet.buffer).setUint32(16, address(text));
        return fixHeaderChecksum(packet);
      }),
    ],
  };
}

const SOURCE = 8;
const DESTINATION = 24;

/** With another address; the checksum behind it is nothing that a tunnel looks at. */
function readdressed(packet: Uint8Array, at: typeof SOURCE | typeof DESTINATION, text: string): Uint8Array {
  const copy = packet.slice();
  putIpv6(copy, at, addressV6(text));
  return copy;
}

function wrongV6(): Packets {
  const good = () => udp({ ...ways, version: 6, payload: payload(300) });
  const withPayloadLength = (length: number) => altered(good(), { 4: length >> 8, 5: length & 255 });
  return {
    rx_short: Array.from({ length: 40 }, (_, length) => good().slice(0, length)),
    rx_bad_version: [0, 1, 5, 7, 15].map((version) => altered(good(), { 0: version << 4 })),
    rx_bad_length: [
      good().slice(0, 200),
      good().slice(0, 40),
      Uint8Array.from([...good(), 0]),
      withPayloadLength(0),
      withPayloadLength(307),
      withPayloadLength(65_535),
    ],
    rx_ttl_zero: [udp({ ...ways, version: 6, ttl: 0 })],
    rx_multicast_or_link_local: ['ff02::1', 'ff0e::1', 'fe80::1'].map((text) => readdressed(good(), SOURCE, text)),
    rx_spoofed_source: spoofed(6),
    rx_foreign_destination: [
      ...ofOtherHosts(6),
      ...['2001:db8::1', 'fd00:77::1', '::1', 'ff02::1', 'fe80::1', '::', '::ffff:10.5.1.2'].map((text) =>
        readdressed(good(), DESTINATION, text),
      ),
    ],
  };
}

/** What a peer must not send, and the reason under which each is counted. */
const wrongOf: Readonly<Record<Family, Packets>> = { 4: wrongV4(), 6: wrongV6() };

interface Case {
  readonly inner: Family;
  readonly outer: Family;
  readonly kernelPath: 'off' | 'route' | 'direct';
}

const cases: readonly Case[] = [
  ...([4, 6] as const).flatMap((inner) =>
    ([4, 6] as const).map((outer) => ({ inner, outer, kernelPath: 'off' as const })),
  ),
  // which carries IPv4 by IPv4
  ...(['route', 'direct'] as const).map((kernelPath) => ({ inner: 4, outer: 4, kernelPath }) as const),
];

describe.each(cases)('IPv$inner over IPv$outer, kernel path $kernelPath', ({ inner, outer, kernelPath }) => {
  const wrong = wrongOf[inner];
  /** IPv4 alone is what it was before there was another family. */
  const dualOver = inner === 4 && outer === 4 ? null : outer;
  const from = (subnet: number, others: Partial<UdpFields> = {}) =>
    udp({ ...ways, version: inner, source: [subnet, 2], ...others });
  const good = () => from(2, { payload: payload(300) });
  const lease = (number: number) => {
    const host = site().host(number);
    return dualOver === null ? leaseOf(number, host.publicIp, kernelPath) : dualLeaseOf(number, host, dualOver);
  };
  /** Sockets of the hosts 2 and 3, at the address and port that a peer has; of host 2 at another port; of nobody. */
  let peer: Udp;
  let otherPeer: Udp;
  let wrongPort: Udp;
  let stranger: Udp;
  let device: Sniffer;
  let probes = 0;

  /** Only host 1 has a data path here; the others are these sockets. */
  async function start(checkSenders: boolean, offloads = AUTO): Promise<void> {
    const [one, two, three] = [site().host(1), site().host(2), site().host(3)];
    await one.process.start(one, site().mtu, [lease(2), lease(3)], { checkSenders, offloads, dualOver, kernelPath });
    await expectInForce([one], kernelPath);
    // what has an outer checksum that no card has verified, a program leaves to user space
    const noChecksum = kernelPath !== 'off';
    peer = new Udp(two.namespace, { address: two.publicAddress(outer), port: PORT, noChecksum });
    otherPeer = new Udp(three.namespace, { address: three.publicAddress(outer), port: PORT, noChecksum });
    wrongPort = new Udp(two.namespace, { address: two.publicAddress(outer), noChecksum });
    stranger = new Udp(site().switch, { address: ROGUE[outer], port: PORT, noChecksum });
    device = new Sniffer(one.namespace, 'flannel0', 'in');
  }

  const send = (socket: Udp, data: Uint8Array) => socket.send(data, site().host(1).publicAddress(outer), PORT);

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

  /** A good packet still gets through, and nothing else has come out of the device before it. */
  async function expectOnlyGood(): Promise<void> {
    const probe = from(2, { payload: payload(40, ++probes) });
    send(peer, probe);
    await device.collect('the good packet', 1, (packet) => sameBytes(packet, forwarded(probe)));
    expect(device.seen.filter((packet) => packet[0]! >> 4 === inner).length).toBe(1);
  }

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
      send(otherPeer, from(3));
      await until('it is known at first', async () => (await process.status()).totals.rx_packets === 1);
      await process.setPeers([lease(2)]);
      send(otherPeer, from(3));
      send(peer, from(3));
      await expectDrops({ rx_unknown_sender: 1, rx_spoofed_source: 1 });
    });

    it('a TTL that ends here is reported to the sender through the tunnel', async () => {
      send(peer, from(2, { ttl: 1, payload: payload(100) }));
      await expectDrops({ rx_ttl_expired: 1 });
      const [answer] = await gather(
        'the ICMP error',
        () => peer.receive(),
        (all) => all.length > 0,
      );
      const { protocol, source, destination, transport } = parse(answer!.data);
      const expected =
        inner === 4
          ? { protocol: ICMP, source: [10, 5, 1, 0], destination: [10, 5, 2, 2], type: TIME_EXCEEDED }
          : { protocol: ICMPV6, source: address6([1, 0]), destination: address6([2, 2]), type: HOP_LIMIT_EXCEEDED };
      expect({ protocol, source: [...source], destination: [...destination], type: transport[0] }).toEqual(expected);
      await expectOnlyGood();
    });

    // a send in segments has checksums
    if (kernelPath === 'off')
      it('wrong ones amid a run of good ones: these alone are dropped', async () => {
        const one = from(2, { id: 1, payload: payload(500) });
        const run = Array.from({ length: 40 }, (_, i) => {
          if (i % 4 === 1) return inner === 4 ? altered(one, { 8: 9 }) : altered(one, { 5: 9 });
          return i % 4 === 3 ? from(3, { payload: payload(500) }) : one;
        });
        peer.sendSegmented(Buffer.concat(run), one.length, site().host(1).publicAddress(outer), PORT);
        await expectDrops({ [inner === 4 ? 'rx_bad_header_checksum' : 'rx_bad_length']: 10, rx_spoofed_source: 10 });
        const { totals } = await site().host(1).process.status();
        expect(totals).toMatchObject({ rx_datagrams: 40, rx_coalesced_datagrams: 40, rx_packets: 20 });
      });

    it('only a part of a datagram: the kernel waits for the rest, and nothing comes of it', async () => {
      const [one, two] = [site().host(1), site().host(2)];
      const raw = new RawIp(two.namespace, 255, outer);
      const part = payload(808);
      setWord(part, 0, PORT);
      setWord(part, 2, PORT);
      const whole = ip(UDP, part, { version: outer, fragment: MORE_FRAGMENTS });
      if (outer === 4) {
        new DataView(whole.buffer).setUint32(12, two.publicIp);
        new DataView(whole.buffer).setUint32(16, one.publicIp);
        raw.send(fixHeaderChecksum(whole), one.publicIp);
      } else {
        putIpv6(whole, SOURCE, two.publicIpv6);
        putIpv6(whole, DESTINATION, one.publicIpv6);
        raw.send(extended(whole, [FRAGMENT, fragmentHeader(0, true)]), one.publicIpv6);
      }
      await expectOnlyGood();
      expect(await drops()).toEqual({});
    });

    it('any bytes at all', async () => {
      const count = 3000;
      for (let i = 0; i < count; i++) send(peer, randomBytes((i * 7) % 1400));
      // and with a header that is right as far as it can be without addresses
      for (let i = 0; i < count; i++) {
        const known = randomBytes(inner === 4 ? 20 : 40);
        known[0] = inner === 4 ? 0x45 : 0x60;
        if (inner === 4) setWord(known, 2, 20 + (i % 900));
        else setWord(known, 4, i % 900);
        send(peer, Buffer.concat([inner === 4 ? fixHeaderChecksum(known) : known, randomBytes(i % 900)]));
      }
      await until('all of them are counted', async () => {
        const counts = Object.values(await drops());
        return counts.reduce((sum, one) => sum + one, 0) === 2 * count;
      });
      await expectOnlyGood();
    });

    it('a source outside the overlay is none of our business', async () => {
      const packet = good();
      if (inner === 4) new DataView(packet.buffer).setUint32(12, address('198.51.100.7'));
      const outside = inner === 4 ? fixHeaderChecksum(packet) : readdressed(packet, SOURCE, '2001:db8::7');
      send(peer, outside);
      const header = inner === 4 ? 20 : 40;
      const expected = forwarded(outside).slice(0, header);
      await device.collect('the packet', 1, (seen) => sameBytes(seen.subarray(0, header), expected));
      expect(await drops()).toEqual({});
    });

    if (inner === 6)
      it('extension headers are carried as they are, whatever they are', async () => {
        const plain = from(2, { payload: payload(64) });
        const packets = [
          extended(plain, [HOP_BY_HOP, PADDING]),
          extended(plain, [DESTINATION_OPTIONS, PADDING], [DESTINATION_OPTIONS, PADDING]),
          extended(plain, [ROUTING, Uint8Array.of(0, 0, 4, 0, 0, 0, 0, 0)]),
          extended(plain, [FRAGMENT, fragmentHeader(0, true)]),
          extended(plain, [FRAGMENT, fragmentHeader(100, false)]),
          altered(plain, { 6: 253 }), // a protocol that nobody knows (RFC 3692)
          altered(plain, { 6: 59 }), // no next header, with bytes behind it all the same
          extended(plain, [HOP_BY_HOP, altered(PADDING, { 1: 200 })]), // longer than the packet
        ];
        for (const packet of packets) send(peer, packet);
        const wanted = packets.map(forwarded);
        await device.collect('all of them', packets.length, (seen) => wanted.some((one) => sameBytes(one, seen)));
        expect(await drops()).toEqual({});
      });
  });

  // which a kernel path does not go without
  if (kernelPath !== 'off') return;
  describe('without sender checks', () => {
    // equal packets of IPv6 would be merged: they have no id that keeps them apart
    beforeEach(() => start(false, { ...AUTO, tunUso: 'off' }));

    it('anybody may send for anybody', async () => {
      const all = [...wrong.rx_spoofed_source!, good()];
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
});
