/**
 * Programs and forwarders decide alike: for any bytes, what a program takes user space would have forwarded, byte for byte
 * the same; what it drops user space would have dropped, under the same reason; the rest goes to user space anyway.
 */
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { altered, fixHeaderChecksum, icmp, payload, tcp, udp } from '../../unit/encap/support/packets.js';
import { datagram, delivered, forwarded, inboundTcp, inboundUdp } from '../../unit/encap/support/receiving.js';
import { faults, plainSum, word } from '../../unit/encap/support/reference.js';
import { address, host, subnet, workbench } from '../../unit/encap/support/workbench.js';
import { ByteBench, ethernet, outer } from './support/bytes.js';
import { expectNoLeftovers } from './support/leftovers.js';

let bench: ByteBench;
beforeAll(() => {
  bench = new ByteBench();
});
afterAll(async () => {
  bench.close();
  await expectNoLeftovers();
});
beforeEach(() => bench.table.resetCounters());

/** What user space makes of a datagram: the packet for the TUN, or the reason of its drop. */
class Oracle {
  readonly #bench = workbench();
  readonly #rx = this.#bench.rx();
  #before: Record<string, number> = {};

  receive(bytes: Uint8Array, from: number, port: number): Uint8Array | string {
    const { kernel } = this.#bench;
    kernel.writes.length = 0;
    kernel.arrivals.push(datagram(bytes, { from, port }));
    this.#rx.turn();
    const after = this.#bench.dropped('rx');
    const reason = Object.keys(after).find((name) => after[name] !== this.#before[name]);
    this.#before = after;
    return reason ?? (delivered(this.#bench)[0] as Uint8Array);
  }
}

/** One value most of the time, so that a packet is often right in all but one respect. */
function mostly<T>(usual: T, ...others: readonly T[]): fc.Arbitrary<T> {
  return fc.oneof({ weight: 12, arbitrary: fc.constant(usual) }, { weight: 2, arbitrary: fc.constantFrom(...others) });
}

/** An inner packet that may be anything, but is often nearly right. */
const inner: fc.Arbitrary<Uint8Array> = fc
  .record({
    protocol: mostly('udp', 'tcp', 'icmp', 'garbage'),
    source: fc.tuple(mostly(2, 3, 1, 200), fc.nat(255)),
    destination: fc.tuple(mostly(1, 2, 200), fc.nat(255)),
    ttl: mostly(64, 3, 2, 1, 0, 255),
    length: fc.nat(1400),
    fragment: mostly(0x4000, 0, 0x2000, 5, 0x8000),
    id: fc.nat(65_535),
    tos: fc.nat(255),
    options: mostly(0, 4),
    damage: fc.array(fc.tuple(fc.nat(27), fc.nat(255)), { maxLength: 2 }),
    damaged: mostly(false, true),
    repaired: fc.boolean(),
    cut: mostly(0, 1, 20),
    outside: mostly(false, true),
  })
  .map(({ protocol, source, destination, length, damage, damaged, repaired, cut, outside, options, ...fields }) => {
    const all = { ...fields, source, destination, payload: payload(length), ipOptions: new Array(options).fill(1) };
    let packet =
      protocol === 'tcp'
        ? tcp(all)
        : protocol === 'icmp'
          ? icmp(8, all)
          : protocol === 'udp'
            ? udp(all)
            : payload(length);
    if (outside && packet.length > 20) packet = fixHeaderChecksum(altered(packet, { 12: 192 }));
    if (damaged) {
      for (const [at, value] of damage) if (at < packet.length) packet[at] = value;
      if (repaired && packet.length >= 20) fixHeaderChecksum(packet);
    }
    return packet.slice(0, packet.length - Math.min(cut, packet.length));
  });

/** Nothing unusual: what has to be taken where everything else is right. */
const isPlain = (packet: Uint8Array) =>
  packet[0] === 0x45 && (packet[6]! & 0xbf) === 0 && packet[7] === 0 && packet[12] === 10 && packet[13] === 5;

describe('what comes in', () => {
  it('is decided as user space decides', () => {
    const oracle = new Oracle();
    const seen = { taken: 0, left: 0, dropped: 0 };
    fc.assert(
      fc.property(
        inner,
        mostly(host(2), host(3), host(99), host(1)),
        mostly(8285, 8286, 0x5d20),
        (packet, from, sourcePort) => {
          bench.table.resetCounters();
          const { verdict, packet: out } = bench.decap(ethernet(outer(packet, { from, sourcePort })));
          const wanted = oracle.receive(packet, from, sourcePort);
          seen[verdict]++;
          const { totals } = bench.table.counters();
          if (verdict === 'dropped') {
            expect(bench.dropped()).toEqual({ [`rx_${wanted}`]: 1 });
            expect(totals).toMatchObject({ rx_datagrams: 1, rx_packets: 0 });
            return;
          }
          expect(bench.dropped()).toEqual({});
          if (verdict === 'left') {
            expect(typeof wanted !== 'string' && isPlain(packet)).toBe(false);
            expect(totals.rx_datagrams).toBe(0);
            return;
          }
          expect(typeof wanted).toBe('object');
          expect(Buffer.from(out).equals(wanted as Uint8Array)).toBe(true);
          expect(plainSum(out.subarray(0, 20))).toBe(0xffff);
          expect(totals).toMatchObject({ rx_datagrams: 1, rx_packets: 1, rx_bytes: packet.length });
        },
      ),
      { numRuns: 6000 },
    );
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(300);
  });

  const good = inboundUdp({ payload: payload(100) });

  it.each<[string, Uint8Array, string]>([
    ['another sender', outer(good, { from: host(99) }), 'rx_unknown_sender'],
    ['another port of a peer', outer(good, { sourcePort: 8286 }), 'rx_unknown_sender'],
    ['another length than it says', outer(fixHeaderChecksum(altered(good, { 3: 0 }))), 'rx_bad_length'],
    ['a wrong header checksum', outer(altered(good, { 10: good[10]! ^ 1 })), 'rx_bad_header_checksum'],
    ['TTL 0', outer(inboundUdp({ ttl: 0 })), 'rx_ttl_zero'],
    ['the source of another peer', outer(inboundUdp({ source: [3, 2] })), 'rx_spoofed_source'],
    ['a source of our own', outer(inboundUdp({ source: [1, 2] })), 'rx_spoofed_source'],
    ['a source that nobody leased', outer(inboundUdp({ source: [200, 2] })), 'rx_spoofed_source'],
    ['the destination of another host', outer(inboundUdp({ destination: [3, 2] })), 'rx_foreign_destination'],
  ])('is dropped: %s', (_, bytes, reason) => {
    expect(bench.decap(ethernet(bytes)).verdict).toBe('dropped');
    expect(bench.dropped()).toEqual({ [reason]: 1 });
  });

  /** With the header checksum of the datagram put right. */
  const changed = (changes: Readonly<Record<number, number>>) =>
    fixHeaderChecksum(altered(outer(good), { 10: 0, 11: 0, ...changes }));

  it.each<[string, Uint8Array]>([
    ['another host’s datagram', ethernet(outer(good, { to: host(7) }))],
    ['another port', ethernet(outer(good, { destinationPort: 8286 }))],
    ['another frame type', ethernet(outer(good), 0x86dd)],
    ['a frame for another station', altered(ethernet(outer(good)), { 0: 2, 5: 9 })],
    ['a broadcast frame', altered(ethernet(outer(good)), { 0: 255, 1: 255, 2: 255, 3: 255, 4: 255, 5: 255 })],
    ['IPv6 in a datagram, which is for user space', ethernet(outer(altered(good, { 0: 0x60 })))],
    ['TCP', ethernet(changed({ 9: 6 }))],
    ['a fragment', ethernet(changed({ 6: 0x20 }))],
    ['a later fragment', ethernet(changed({ 6: 0, 7: 9 }))],
    ['a header with options', ethernet(changed({ 0: 0x46 }))],
    ['a wrong header checksum', ethernet(altered(outer(good), { 8: 63 }))],
    ['a datagram shorter than its packet', ethernet(altered(outer(good), { 25: 100 }))],
    ['a frame longer than its packet', ethernet(Uint8Array.of(...outer(good), 0))],
    ['a UDP checksum that nobody has verified', ethernet(altered(outer(good), { 26: 1, 27: 2 }))],
    ['a frame that ends in the headers', ethernet(outer(good)).slice(0, 50)],
    ['inner options', ethernet(outer(inboundUdp({ ipOptions: [1, 1, 1, 0] })))],
    ['an inner fragment', ethernet(outer(inboundUdp({ fragment: 0x2000 })))],
    ['a source outside the overlay', ethernet(outer(fixHeaderChecksum(altered(good, { 12: 192 }))))],
    ['a TTL that runs out here', ethernet(outer(inboundUdp({ ttl: 1 })))],
  ])('is left to user space: %s', (_, frame) => {
    const { verdict, frame: after } = bench.decap(frame);
    expect(verdict).toBe('left');
    expect(Buffer.from(after).equals(frame)).toBe(true);
    expect(bench.dropped()).toEqual({});
  });

  it('is left to user space when it is several datagrams in one, good or bad', () => {
    const merged = altered(outer(good), { 26: 1, 27: 2 });
    expect(bench.decap(ethernet(merged), 60).verdict).toBe('left');
    expect(bench.decap(ethernet(outer(good)), 60).verdict).toBe('left');
    expect(bench.decap(ethernet(outer(altered(good, { 10: 0 }))), 60).verdict).toBe('left');
    expect(bench.dropped()).toEqual({});
  });

  it.each([0xfefe, 0xfeff, 0xff00, 0xfffe, 0x0000, 0x00ff])(
    'is patched as user space patches it where the header checksum is %i, in both directions',
    (checksum) => {
      const ids = Array.from({ length: 65_536 }, (_, id) => id);
      const withChecksum = (packet: Uint8Array) => {
        const found = ids
          .map((id) => fixHeaderChecksum(altered(packet, { 4: id >> 8, 5: id & 255 })))
          .find((one) => word(one, 10) === checksum);
        if (found === undefined) throw new Error('no identification makes this checksum');
        return found;
      };
      const inbound = withChecksum(inboundUdp({ payload: payload(4) }));
      const wanted = new Oracle().receive(inbound, host(2), 8285);
      expect(Buffer.from(bench.decap(ethernet(outer(inbound))).packet).equals(wanted as Uint8Array)).toBe(true);
      const outbound = withChecksum(udp({ source: [1, 2], destination: [2, 2], payload: payload(4) }));
      const bySpace = workbench({ vnetHeader: false });
      bySpace.kernel.tunReads.push({ packet: outbound });
      bySpace.tx().turn();
      const { packet } = bench.encap(outbound);
      expect(Buffer.from(packet.subarray(28)).equals(bySpace.kernel.datagrams[0] as Uint8Array)).toBe(true);
    },
  );

  it('is judged by user space as long as not every peer is in the maps', () => {
    const other = new ByteBench();
    try {
      const stranger = ethernet(outer(good, { from: host(99) }));
      expect(other.decap(stranger).verdict).toBe('dropped');
      other.table.suspend();
      expect(other.decap(stranger).verdict).toBe('left');
      expect(other.decap(ethernet(outer(good))).verdict).toBe('taken');
      const many = Array.from({ length: 70 }, (_, n) => ({
        subnet: subnet(n + 2),
        publicIp: host(n + 2),
        pathMtu: 1500,
      }));
      expect(other.table.replaceAll(many)).toHaveLength(6);
      expect(other.decap(stranger).verdict).toBe('left');
      expect(other.table.replaceAll(many.slice(0, 3))).toEqual([]);
      expect(other.decap(stranger).verdict).toBe('dropped');
    } finally {
      other.close();
    }
  });

  it('is judged by user space while nobody keeps the peers, and taken if it is one’s', () => {
    const stranger = ethernet(outer(good, { from: host(99) }));
    const spoofed = ethernet(outer(inboundUdp({ source: [3, 2] })));
    bench.table.abandon();
    for (const frame of [stranger, spoofed]) expect(bench.decap(frame).verdict).toBe('left');
    expect(bench.decap(ethernet(outer(good))).verdict).toBe('taken');
    expect(bench.dropped()).toEqual({});
    bench.tend();
    for (const frame of [stranger, spoofed]) expect(bench.decap(frame).verdict).toBe('dropped');
  });

  describe('straight to the container', () => {
    const mac = Uint8Array.of(2, 1, 2, 3, 4, 5);
    const gatewayMac = Uint8Array.of(2, 9, 8, 7, 6, 5);
    let direct: ByteBench;
    beforeEach(() => {
      direct = new ByteBench('direct');
      direct.table.setContainers([{ address: address('10.5.1.2'), ifindex: 1, bridge: 0, mac, gatewayMac }]);
    });
    afterEach(() => direct.close());

    /** Whether it went there; either way it is the packet that user space would have made of it. */
    const wentStraight = (packet: Uint8Array): boolean => {
      const { verdict, frame, packet: out } = direct.decap(ethernet(outer(packet)));
      expect(verdict).toBe('taken');
      expect(Buffer.from(out).equals(forwarded(packet))).toBe(true);
      const macs = [...frame.subarray(0, 12)];
      if (macs.every((byte) => byte === 0)) return false;
      expect(macs).toEqual([...mac, ...gatewayMac]);
      return true;
    };
    const out = { source: [1, 2], destination: [2, 2] } as const;
    const ports = { sourcePort: 1000, destinationPort: 2000 };
    const back = { sourcePort: 2000, destinationPort: 1000 };
    const ACK = 0x10;

    it('goes what answers a flow that the container has sent something of, by its addresses, and no other', () => {
      expect(wentStraight(inboundUdp(back))).toBe(false);
      expect(direct.encap(udp({ ...out, ...ports })).verdict).toBe('taken');
      expect(wentStraight(inboundUdp(back))).toBe(true);
      expect(wentStraight(inboundUdp({ ...back, sourcePort: 2001 }))).toBe(false);
      expect(wentStraight(inboundUdp({ ...back, destinationPort: 1001 }))).toBe(false);
      expect(wentStraight(inboundUdp({ ...back, source: [2, 3] }))).toBe(false);
      expect(wentStraight(inboundTcp({ ...back, flags: ACK }))).toBe(false);
    });

    it('goes no packet to a container that nobody knows', () => {
      direct.encap(udp({ source: [1, 3], destination: [2, 2], ...ports }));
      expect(wentStraight(inboundUdp({ ...back, destination: [1, 3] }))).toBe(false);
    });

    it('goes nothing that begins or ends a connection', () => {
      direct.encap(tcp({ ...out, ...ports, flags: 0x02 }));
      expect(wentStraight(inboundTcp({ ...back, flags: ACK }))).toBe(true);
      for (const flags of [0x02, 0x12, 0x11, 0x04, 0x14])
        expect(wentStraight(inboundTcp({ ...back, flags }))).toBe(false);
    });

    it('is not begun by TCP in the middle of a connection that nobody tracks', () => {
      direct.encap(tcp({ ...out, ...ports, flags: ACK }));
      expect(wentStraight(inboundTcp({ ...back, flags: ACK }))).toBe(false);
    });

    it('go echoes by their identifier, and no other ICMP', () => {
      // icmp() makes all with the identifier 1
      const back = { source: [2, 2], destination: [1, 2] } as const;
      direct.encap(icmp(8, out));
      expect(wentStraight(icmp(0, back))).toBe(true);
      expect(wentStraight(icmp(8, back))).toBe(true);
      expect(wentStraight(altered(icmp(0, back), { 25: 2 }))).toBe(false);
      expect(wentStraight(icmp(3, back))).toBe(false);
    });

    it('goes nothing any more once the flows are forgotten, or the container is', () => {
      direct.encap(udp({ ...out, ...ports }));
      direct.table.forgetFlows();
      expect(wentStraight(inboundUdp(back))).toBe(false);
      direct.encap(udp({ ...out, ...ports }));
      expect(wentStraight(inboundUdp(back))).toBe(true);
      direct.table.setContainers([]);
      expect(wentStraight(inboundUdp(back))).toBe(false);
    });

    it('goes nothing while nobody follows where containers are', () => {
      direct.encap(udp({ ...out, ...ports }));
      expect(wentStraight(inboundUdp(back))).toBe(true);
      direct.table.abandon();
      expect(wentStraight(inboundUdp(back))).toBe(false);
      direct.table.tend();
      expect(wentStraight(inboundUdp(back))).toBe(true);
      direct.table.tend(process.hrtime.bigint() - 1n);
      expect(wentStraight(inboundUdp(back))).toBe(false);
    });

    it('goes no packet that is too short to have a flow', () => {
      const tiny = fixHeaderChecksum(altered(inboundUdp({ ...back, payload: payload(0) }), { 9: 6 }));
      expect(wentStraight(tiny)).toBe(false);
      const bare = fixHeaderChecksum(altered(tiny.slice(0, 20), { 2: 0, 3: 20 }));
      expect(wentStraight(bare)).toBe(false);
    });
  });

  it('is never accepted wrongly, a million hostile datagrams long', () => {
    const oracle = new Oracle();
    const base = [
      ethernet(outer(inboundTcp({ payload: payload(60) }))),
      ethernet(outer(inboundUdp({ payload: payload(33) }))),
      ethernet(outer(inboundUdp({ source: [3, 9], payload: payload(5) }), { from: host(3) })),
    ];
    let state = 0x2545f491;
    const random = (below: number) => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return (state >>> 0) % below;
    };
    let taken = 0;
    for (let i = 0; i < 1_000_000; i++) {
      const frame = Uint8Array.from(base[i % base.length] as Uint8Array);
      for (let hits = random(3); hits >= 0; hits--) frame[12 + random(50)] = random(256);
      // half of the time the checksums are put right, so that what lies behind them is reached
      if (random(2) === 0) fixHeaderChecksum(frame.subarray(42, 62));
      if (random(2) === 0) fixHeaderChecksum(frame.subarray(14, 34));
      const { verdict, packet } = bench.decap(frame);
      if (verdict !== 'taken') continue;
      taken++;
      const view = new DataView(frame.buffer);
      const wanted = oracle.receive(frame.subarray(42), view.getUint32(26), view.getUint16(34));
      if (typeof wanted === 'string' || !Buffer.from(packet).equals(wanted)) {
        throw new Error(`datagram ${i} was taken: ${Buffer.from(frame).toString('hex')}; user space: ${wanted}`);
      }
    }
    expect(taken).toBeGreaterThan(1000);
    expect(bench.table.counters().totals.rx_packets).toBe(taken);
  }, 300_000);
});

describe('what goes out', () => {
  afterEach(() => bench.table.replaceAll([2, 3].map((n) => ({ subnet: subnet(n), publicIp: host(n), pathMtu: 1500 }))));

  const outbound = inner.map((packet) => {
    // the other way round: from here to there
    if (packet.length < 20) return packet;
    const turned = altered(packet, { 14: packet[18]!, 15: packet[19]!, 18: packet[14]!, 19: packet[15]! });
    return turned;
  });

  it('is decided as user space decides, and carries the same bytes', () => {
    const { kernel, tx, dropped } = workbench({ vnetHeader: false });
    const forwarder = tx();
    const seen = { taken: 0, left: 0, dropped: 0 };
    fc.assert(
      fc.property(outbound, (packet) => {
        fc.pre(packet.length >= 20); // a test run takes none that is shorter
        const { verdict, packet: out } = bench.encap(packet);
        seen[verdict]++;
        kernel.sends.length = 0;
        const before = dropped('tx');
        kernel.tunReads.push({ packet });
        forwarder.turn();
        const refused = JSON.stringify(dropped('tx')) !== JSON.stringify(before);
        const [sent] = kernel.sent;
        if (verdict === 'left') {
          expect(!refused && isPlain(packet) && packet.length <= 1472).toBe(false);
          return;
        }
        expect(verdict).toBe('taken');
        expect(refused).toBe(false);
        expect(Buffer.from(out.subarray(28)).equals(sent?.datagrams[0] as Uint8Array)).toBe(true);
        // headers as the kernel gives a datagram of the socket, but for the UDP checksum, which is left out
        expect(
          Buffer.from(out.subarray(0, 28)).equals(
            outer(packet, { from: host(1), to: Number(sent?.address ?? 0) }).subarray(0, 28),
          ),
        ).toBe(true);
        expect(faults(out)).toEqual([]);
      }),
      { numRuns: 6000 },
    );
    expect(seen.taken).toBeGreaterThan(300);
    expect(seen.left).toBeGreaterThan(300);
    expect(seen.dropped).toBe(0);
  });

  it('is left to user space when it is longer than the path, and untouched then', () => {
    bench.table.replaceAll([{ subnet: subnet(2), publicIp: host(2), pathMtu: 1000 }]);
    const fits = udp({ source: [1, 2], destination: [2, 2], payload: payload(972 - 28) });
    const long = udp({ source: [1, 2], destination: [2, 2], payload: payload(973 - 28) });
    expect([fits.length, long.length]).toEqual([972, 973]);
    expect(bench.encap(fits).verdict).toBe('taken');
    const { verdict, packet } = bench.encap(long);
    expect(verdict).toBe('left');
    expect(Buffer.from(packet).equals(long)).toBe(true);
    expect(bench.table.counters().totals).toMatchObject({ tx_packets: 1, tx_bytes: 972 });
  });

  it('is left to user space when its segments are longer than the path, or it is a super-packet of UDP', () => {
    const big = tcp({ source: [1, 2], destination: [2, 2], payload: payload(3000) });
    expect(bench.encap(big, 1440).verdict).toBe('left');
    const datagrams = udp({ source: [1, 2], destination: [2, 2], payload: payload(3000) });
    expect(bench.encap(datagrams, 500).verdict).toBe('left');
  });

  it('goes to where a peer has moved, and nowhere once it is gone', () => {
    const packet = udp({ source: [1, 2], destination: [2, 2] });
    const to = (out: Uint8Array) => new DataView(out.buffer, out.byteOffset).getUint32(16);
    expect(to(bench.encap(packet).packet)).toBe(host(2));
    bench.table.replaceAll([{ subnet: subnet(2), publicIp: host(77), pathMtu: 1500 }]);
    expect(to(bench.encap(packet).packet)).toBe(host(77));
    bench.table.replaceAll([]);
    expect(bench.encap(packet).verdict).toBe('left');
  });
});

describe('what leaves a bridge', () => {
  const SEGMENT = 1440;
  const mac = Uint8Array.of(2, 1, 2, 3, 4, 5);
  const gatewayMac = Uint8Array.of(2, 9, 8, 7, 6, 5);
  const container = { address: address('10.5.1.2'), ifindex: 7, bridge: 1, mac, gatewayMac };
  const packet = inboundTcp({ payload: payload(3000) });
  const frame = altered(ethernet(packet), Object.fromEntries([...mac, ...gatewayMac].entries()));
  beforeEach(() => bench.table.setContainers([container]));
  afterEach(() => bench.table.setContainers([]));

  it('goes to the container’s link where it is a super-packet, not a byte of it changed', () => {
    const { verdict, frame: after } = bench.deliver(frame, SEGMENT);
    expect(verdict).toBe('taken');
    expect(Buffer.from(after).equals(frame)).toBe(true);
    expect(bench.table.counters()).toMatchObject({ pastBridge: 1, totals: { rx_packets: 0 } });
  });

  it.each<[string, Uint8Array]>([
    ['for another MAC', altered(frame, { 5: 6 })],
    ['for a MAC whose beginning differs', altered(frame, { 0: 4 })],
    ['for an address that nobody knows', altered(frame, { [14 + 19]: 77 })],
    ['that is not IPv4', altered(frame, { 12: 0x86, 13: 0xdd })],
  ])('%s passes the bridge', (_, other) => {
    expect(bench.deliver(other, SEGMENT).verdict).toBe('left');
    expect(bench.table.counters().pastBridge).toBe(0);
  });

  it('passes it while nobody follows where containers are', () => {
    bench.table.abandon();
    expect(bench.deliver(frame, SEGMENT).verdict).toBe('left');
    bench.tend();
    expect(bench.deliver(frame, SEGMENT).verdict).toBe('taken');
  });

  it('passes it when it is no super-packet, came in by another device, or is for behind another bridge or none', () => {
    expect(bench.deliver(frame).verdict).toBe('left');
    expect(bench.deliver(frame, SEGMENT, false).verdict).toBe('left');
    for (const bridge of [2, 0]) {
      bench.table.setContainers([{ ...container, bridge }]);
      expect(bench.deliver(frame, SEGMENT).verdict).toBe('left');
    }
    expect(bench.table.counters().pastBridge).toBe(0);
  });
});
