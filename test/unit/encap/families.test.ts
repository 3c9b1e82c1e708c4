import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EMSGSIZE } from '../../../src/linux/constants.js';
import type { Arrival } from './support/fake-kernel.js';
import { addressIn, benchOf, drain, FAMILIES, peerIn, receiveBy } from './support/families.js';
import {
  address6,
  addressOf4,
  altered,
  extended,
  fragmentHeader,
  icmpv6,
  ip,
  offloaded,
  PADDING,
  payload,
  tcp,
  udp,
} from './support/packets.js';
import { delivered, forwarded, inboundTcp, inboundUdp } from './support/receiving.js';
import { concat, faults, parseIcmpError, parseIcmpv6Error, referenceSplit } from './support/reference.js';
import { host, hostV6, subnet, subnetV6, workbench } from './support/workbench.js';

const V6 = { version: 6 } as const;
const total = (drops: Record<string, number>) => Object.values(drops).reduce((sum, count) => sum + count, 0);

describe.each(FAMILIES)('IPv%i over IPv%i', (inner, outer) => {
  const family = { version: inner };
  const from = (n: number) => addressIn(outer, n);
  const datagram = (bytes: Uint8Array, changes: object = {}): Arrival => ({ bytes, from: from(2), ...changes });
  const errorIn = (packet: Uint8Array) => (inner === 4 ? parseIcmpError(packet) : parseIcmpv6Error(packet));
  const inside = (n: number, m: number) => (inner === 4 ? addressOf4([n, m]) : Uint8Array.from(address6([n, m])));
  const stream = (count: number) =>
    Array.from({ length: count }, (_, i) =>
      inboundTcp({ ...family, sequence: i * 1000, id: i, payload: payload(1000, i) }),
    );

  it('sends a packet to the host that leased its destination, one hop older', () => {
    const packet = udp({ ...family, destination: [3, 7], payload: payload(100) });
    const { kernel, counted, dropped } = drain(benchOf(outer), [{ packet }]);
    expect(kernel.sent).toMatchObject([{ address: from(3), port: 8285, datagrams: [forwarded(packet)] }]);
    expect(faults(kernel.datagrams[0]!)).toEqual([]);
    expect(counted('tx')).toMatchObject({ reads: 1, packets: 1, bytes: packet.length, sends: 1 });
    expect(dropped('tx')).toEqual({});
  });

  it('splits super-packets as the reference does and sends each in one call', () => {
    const wholes = [
      { whole: tcp({ ...family, payload: payload(10 * 1380 + 5), flags: 0x18 }), size: 1380 },
      { whole: udp({ ...family, payload: payload(3000) }), size: 1200 },
    ];
    for (const { whole, size } of wholes) {
      const { kernel } = drain(benchOf(outer), [offloaded(whole, size)]);
      expect(kernel.sent).toHaveLength(1);
      expect(kernel.datagrams).toEqual(referenceSplit(forwarded(whole), size));
    }
  });

  it('completes the checksum of a single packet that has it partial', () => {
    const packets = [tcp({ ...family, payload: payload(77) }), udp({ ...family, payload: payload(78) })];
    const { kernel } = drain(
      benchOf(outer),
      packets.map((packet) => offloaded(packet)),
    );
    expect(kernel.datagrams).toEqual(packets.map(forwarded));
  });

  it('answers a packet without a route, and one whose hops ran out', () => {
    const lost = udp({ ...family, destination: [200, 1], payload: payload(50) });
    const old = udp({ ...family, ttl: 1, payload: payload(50) });
    const { kernel, dropped } = drain(benchOf(outer), [{ packet: lost }, { packet: old }]);
    const source = inner === 4 ? addressOf4([0, 0]) : Uint8Array.from(address6([0, 0]));
    expect(kernel.written.map(({ packet }) => errorIn(packet))).toMatchObject([
      { from: source, to: inside(1, 2), type: inner === 4 ? 3 : 1, code: 0, quoted: lost },
      { from: source, to: inside(1, 2), type: inner === 4 ? 11 : 3, code: 0, quoted: old },
    ]);
    expect(dropped('tx')).toEqual({ no_route: 1, ttl_expired: 1 });
  });

  it('is silent about a missing route while there may be peers that we have not heard of', () => {
    const bench = benchOf(outer);
    bench.control.peersComplete = false;
    drain(bench, [{ packet: udp({ ...family, destination: [200, 1] }) }]);
    expect([bench.kernel.writes, bench.dropped('tx')]).toEqual([[], { no_route_yet: 1 }]);
  });

  it('answers only so often, and counts the rest', () => {
    const packet = udp({ ...family, destination: [200, 1], payload: payload(50) });
    const bench = benchOf(outer, { icmpPerSecond: 0, icmpBurst: 3 });
    drain(bench, Array(10).fill({ packet }));
    expect(bench.counted('tx')).toMatchObject({ icmp_sent: 3, icmp_suppressed: 7 });
  });

  it('tells the sender of what is too long for the path what would fit, and sends it in fragments', () => {
    const bench = benchOf(outer);
    bench.kernel.onSend = () => (bench.fragments.at(-1) ? 0 : EMSGSIZE);
    const packet = udp({ ...family, payload: payload(1380) });
    drain(bench, [{ packet }], 1400);
    expect(bench.kernel.datagrams).toEqual([forwarded(packet)]);
    const fits = 1400 - (outer === 4 ? 28 : 48);
    expect(bench.kernel.written.map(({ packet: error }) => errorIn(error))).toMatchObject([
      { type: inner === 4 ? 3 : 2, code: inner === 4 ? 4 : 0, mtu: fits },
    ]);
  });

  it('writes a packet to the TUN, one hop older, and counts it for the peer', () => {
    const packet = inboundUdp({ ...family, payload: payload(100) });
    const bench = receiveBy(outer, benchOf(outer), [datagram(packet)]);
    expect(bench.kernel.written.map((write) => write.packet)).toEqual([forwarded(packet)]);
    expect(bench.counted('rx')).toMatchObject({ datagrams: 1, packets: 1, bytes: packet.length, writes: 1 });
    expect([...bench.peers.table.entries()]).toMatchObject([
      { rxPackets: 1, rxBytes: packet.length },
      { rxPackets: 0 },
    ]);
  });

  it('merges neighbours, in runs and alone', () => {
    const packets = stream(20);
    const run = datagram(concat(...packets.slice(0, 12)), { gro: packets[0]!.length });
    const bench = receiveBy(outer, benchOf(outer), [run, ...packets.slice(12).map((packet) => datagram(packet))]);
    expect(bench.kernel.written).toHaveLength(1);
    expect(delivered(bench)).toEqual(packets.map(forwarded));
  });

  it.each<[string, Arrival, string]>([
    ['from a stranger', datagram(inboundUdp(family), { from: from(99) }), 'unknown_sender'],
    ['from another port', datagram(inboundUdp(family), { port: 8286 }), 'unknown_sender'],
    ['with the source of another peer', datagram(inboundUdp({ ...family, source: [3, 2] })), 'spoofed_source'],
    ['with a source of our own', datagram(inboundUdp({ ...family, source: [1, 2] })), 'spoofed_source'],
    ['with a source that nobody leased', datagram(inboundUdp({ ...family, source: [200, 2] })), 'spoofed_source'],
    ['for another host', datagram(inboundUdp({ ...family, destination: [3, 2] })), 'foreign_destination'],
    ['without hops', datagram(inboundUdp({ ...family, ttl: 0 })), 'ttl_zero'],
    ['cut off', datagram(inboundUdp({ ...family, payload: payload(20) }).slice(0, 41)), 'bad_length'],
    ['with a byte too many', datagram(concat(inboundUdp(family), Uint8Array.of(0))), 'bad_length'],
    ['that is empty', datagram(new Uint8Array(0)), 'short'],
  ])('drops what comes %s, and only that', (_, arrival, reason) => {
    const good = inboundUdp({ ...family, payload: payload(20) });
    const bench = receiveBy(outer, benchOf(outer), [arrival, datagram(good)]);
    expect(delivered(bench)).toEqual([forwarded(good)]);
    expect(bench.dropped('rx')).toEqual({ [reason]: 1 });
  });

  it('takes everything that its own checks allow where senders are not checked', () => {
    const packet = inboundUdp({ ...family, source: [3, 2] });
    const bench = benchOf(outer, { checkSenders: false });
    receiveBy(outer, bench, [datagram(packet, { from: from(99), port: 1 })]);
    expect(delivered(bench)).toEqual([forwarded(packet)]);
  });

  it('tells a remote host that the hops of its packet ran out here, by the way that leads to it', () => {
    const packet = inboundUdp({ ...family, ttl: 1, payload: payload(30) });
    const bench = receiveBy(outer, benchOf(outer), [datagram(packet)]);
    expect(bench.dropped('rx')).toEqual({ ttl_expired: 1 });
    expect(bench.kernel.sent).toMatchObject([{ address: from(2) }]);
    expect(errorIn(bench.kernel.datagrams[0]!)).toMatchObject({
      from: inside(1, 0),
      to: inside(2, 2),
      type: inner === 4 ? 11 : 3,
      quoted: packet,
    });
  });

  it('accounts for every datagram: delivered or dropped under one reason', () => {
    const good = inboundUdp({ ...family, payload: payload(20) });
    const bytes = fc.tuple(fc.uint8Array({ maxLength: 90, size: 'max' }), fc.boolean()).map(([random, likely]) => {
      if (likely) random.set(good.slice(0, random.length), 0);
      return random;
    });
    const arrival = fc.record({ bytes, gro: fc.option(fc.integer({ min: -5, max: 90 }), { nil: undefined }) });
    const bench = benchOf(outer);
    const forwarder = bench.rx(outer);
    const waiting = outer === 4 ? bench.kernel.arrivals : bench.kernel.arrivalsV6;
    fc.assert(
      fc.property(fc.array(arrival, { maxLength: 40, size: 'max' }), (arrivals) => {
        bench.kernel.writes.length = 0;
        waiting.push(...arrivals.map(({ bytes: one, gro }) => datagram(one, gro === undefined ? {} : { gro })));
        const before = { ...bench.counted('rx') };
        const lost = total(bench.dropped('rx'));
        forwarder.turn();
        const after = bench.counted('rx');
        const taken = (after.packets ?? 0) - (before.packets ?? 0);
        expect((after.datagrams ?? 0) - (before.datagrams ?? 0)).toBe(taken + total(bench.dropped('rx')) - lost);
        expect(delivered(bench)).toHaveLength(taken);
      }),
      { numRuns: 300 },
    );
  });
});

describe('IPv6 packets', () => {
  const chains = [
    [[0, PADDING]],
    [[60, PADDING]],
    [[43, PADDING]],
    [[44, fragmentHeader(0, true)]],
    [[44, fragmentHeader(100, false)]],
    [
      [0, PADDING],
      [60, PADDING],
      [44, fragmentHeader(0, false)],
    ],
  ] as const;

  it('with extension headers pass as they are, both ways, and are never merged', () => {
    for (const chain of chains) {
      const out = [0, 1].map((i) => extended(tcp({ ...V6, sequence: i * 100, payload: payload(100, i) }), ...chain));
      expect(
        drain(
          benchOf(4),
          out.map((packet) => ({ packet })),
        ).kernel.datagrams,
      ).toEqual(out.map(forwarded));
      const back = [0, 1].map((i) =>
        extended(inboundTcp({ ...V6, sequence: i * 100, payload: payload(100, i) }), ...chain),
      );
      const bench = receiveBy(
        4,
        benchOf(4),
        back.map((bytes) => ({ bytes, from: host(2) })),
      );
      expect(bench.kernel.written.map(({ packet }) => packet)).toEqual(back.map(forwarded));
    }
  });

  it('may be of any protocol, down to the header alone', () => {
    const packets = [ip(132, payload(40), V6), ip(59, new Uint8Array(0), V6), icmpv6(128)];
    expect(
      drain(
        benchOf(6),
        packets.map((packet) => ({ packet })),
      ).kernel.datagrams,
    ).toEqual(packets.map(forwarded));
  });

  const routerSolicitation = (source: readonly number[], destination: readonly number[]) => {
    const packet = icmpv6(133);
    packet.set(source, 8);
    packet.set(destination, 24);
    return packet;
  };
  const linkLocal = [0xfe, 0x80, ...Array(13).fill(0), 1];
  const allRouters = [0xff, 2, ...Array(13).fill(0), 2];
  it.each<[string, Uint8Array]>([
    ['a router solicitation', routerSolicitation(linkLocal, allRouters)],
    ['a listener report without a source', routerSolicitation(Array(16).fill(0), allRouters)],
    ['from an address of the link', routerSolicitation(linkLocal, address6([2, 2]))],
    ['for an address of the link', routerSolicitation(address6([1, 2]), linkLocal)],
    ['for a multicast group of the world', routerSolicitation(address6([1, 2]), [0xff, 0x0e, ...Array(14).fill(1)])],
  ])('that leave no link are dropped without a word: %s', (_, packet) => {
    const bench = drain(benchOf(4), [{ packet }]);
    expect([bench.kernel.writes, bench.kernel.sends]).toEqual([[], []]);
    expect(bench.dropped('tx')).toEqual({ multicast_or_link_local: 1 });
  });

  it('from an address that means no host are dropped, whoever sends them', () => {
    const bytes = inboundUdp(V6);
    const strange = [altered(bytes, { 8: 0xff }), altered(bytes, { 8: 0xfe, 9: 0x80 })];
    const bench = receiveBy(
      6,
      benchOf(6),
      strange.map((one) => ({ bytes: one, from: hostV6(2) })),
    );
    expect(bench.dropped('rx')).toEqual({ multicast_or_link_local: 2 });
  });

  it('are taken from outside the overlay, as IPv4 ones are: a host speaks with its own address', () => {
    const packet = altered(inboundUdp(V6), { 8: 0x20, 9: 0x01 });
    const bench = receiveBy(4, benchOf(4), [{ bytes: packet, from: host(2) }]);
    expect(delivered(bench)).toEqual([forwarded(packet)]);
  });

  it('are told no path that is smaller than IPv6 allows: those are cut outside', () => {
    const bench = benchOf(4);
    bench.kernel.onSend = () => (bench.fragments.at(-1) ? 0 : EMSGSIZE);
    const packets = [1300, 1200].map((bytes) => udp({ ...V6, payload: payload(bytes - 48) }));
    drain(
      bench,
      packets.map((packet) => ({ packet })),
      1000,
    );
    expect(bench.kernel.datagrams).toEqual(packets.map(forwarded));
    expect(bench.kernel.written.map(({ packet }) => parseIcmpv6Error(packet))).toMatchObject([{ mtu: 1280 }]);
  });

  it.each<[string, Uint8Array, string]>([
    ['less than a header', udp(V6).slice(0, 39), 'short'],
    ['a length that is not there', altered(udp({ ...V6, payload: payload(9) }), { 5: 99 }), 'bad_length'],
    ['a length of zero behind which there is more', altered(udp(V6), { 4: 0, 5: 0 }), 'bad_length'],
  ])('with %s do not leave', (_, packet, reason) => {
    const bench = drain(benchOf(4), [{ packet }]);
    expect(bench.dropped('tx')).toEqual({ [reason]: 1 });
    expect(bench.kernel.sends).toEqual([]);
  });
});

describe('a peer', () => {
  const inner = udp(V6);

  it('without an IPv6 subnet, such as flanneld, is never sent IPv6, and no IPv6 is taken from it', () => {
    const bench = workbench(); // its peers have leased IPv4 only
    drain(bench, [{ packet: inner }, { packet: udp() }]);
    receiveBy(4, bench, [{ bytes: inboundUdp(V6), from: host(2) }]);
    expect(bench.kernel.datagrams).toEqual([forwarded(udp())]);
    expect([bench.dropped('tx'), bench.dropped('rx')]).toEqual([{ no_route: 1 }, { spoofed_source: 1 }]);
  });

  it('is sent to by IPv4 where both have both, and heard by either', () => {
    const bench = benchOf(4);
    bench.peers.put({ ...peerIn(4, 2), publicIpv6: hostV6(2) });
    drain(bench, [{ packet: inner }]);
    expect(bench.kernel.sent).toMatchObject([{ address: host(2) }]);
    receiveBy(6, bench, [{ bytes: inboundUdp(V6), from: hostV6(2) }]);
    receiveBy(4, bench, [{ bytes: inboundUdp(), from: host(2) }]);
    expect(delivered(bench)).toEqual([forwarded(inboundUdp(V6)), forwarded(inboundUdp())]);
  });

  it('that gains or loses an IPv6 subnet keeps its IPv4 one, its number and its counters', () => {
    const bench = workbench();
    const tx = bench.tx();
    const send = () => {
      bench.kernel.tunReads.push({ packet: inner }, { packet: udp() });
      tx.turn();
    };
    send();
    bench.peers.put(peerIn(4, 2));
    send();
    bench.peers.put({ ...peerIn(4, 2), subnetV6: null });
    send();
    expect(bench.dropped('tx')).toEqual({ no_route: 2 });
    expect([...bench.peers.table.entries()]).toMatchObject([{ number: 0, txPackets: 4 }, {}]);
  });

  it('moves between families and addresses while packets go on', () => {
    const bench = benchOf(4);
    const tx = bench.tx();
    const ways = [peerIn(6, 2), { ...peerIn(6, 2), publicIpv6: hostV6(9) }, peerIn(4, 2), peerIn(6, 2)];
    for (const way of ways) {
      bench.peers.put(way);
      bench.kernel.tunReads.push({ packet: inner });
      tx.turn();
    }
    expect(bench.kernel.sent.map(({ address }) => address)).toEqual([hostV6(2), hostV6(9), host(2), hostV6(2)]);
    receiveBy(6, bench, [{ bytes: inboundUdp(V6), from: hostV6(9) }]);
    expect(bench.dropped('rx')).toEqual({ unknown_sender: 1 });
  });
});

describe('an overlay of one family', () => {
  it('without IPv6 knows no IPv6', () => {
    const bench = workbench({ ipv6: null });
    drain(bench, [{ packet: udp(V6) }, { packet: udp() }]);
    receiveBy(4, bench, [{ bytes: inboundUdp(V6), from: host(2) }]);
    expect([bench.dropped('tx'), bench.dropped('rx')]).toEqual([{ bad_version: 1 }, { bad_version: 1 }]);
    expect([bench.kernel.datagrams.length, bench.kernel.writes]).toEqual([1, []]);
  });

  it('without IPv4 knows no IPv4', () => {
    const bench = workbench({ carriesIpv4: false });
    bench.peers.delete(subnet(2));
    bench.peers.put({ subnet: null, subnetV6: subnetV6(2), publicIp: 0, publicIpv6: hostV6(2) });
    drain(bench, [{ packet: udp(V6) }, { packet: udp() }]);
    receiveBy(6, bench, [
      { bytes: inboundUdp(V6), from: hostV6(2) },
      { bytes: inboundUdp(), from: hostV6(2) },
    ]);
    expect([bench.dropped('tx'), bench.dropped('rx')]).toEqual([{ bad_version: 1 }, { bad_version: 1 }]);
    expect(bench.kernel.datagrams).toEqual([forwarded(udp(V6))]);
    expect(delivered(bench)).toEqual([forwarded(inboundUdp(V6))]);
  });
});
