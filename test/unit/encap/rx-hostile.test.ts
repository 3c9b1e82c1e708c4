import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addressOf4, altered, fixHeaderChecksum, icmp, ip, payload } from './support/packets.js';
import { datagram, delivered, forwarded, inboundTcp, inboundUdp, receive, run } from './support/receiving.js';
import { parseIcmpError } from './support/reference.js';
import { address, host, prefix, workbench } from './support/workbench.js';

const good = inboundUdp({ payload: payload(20) });

describe('RxForwarder drops', () => {
  it.each<[string, Uint8Array, string]>([
    ['an empty datagram', new Uint8Array(0), 'short'],
    ...Array.from({ length: 19 }, (_, i): [string, Uint8Array, string] => [
      `${i + 1} bytes`,
      good.slice(0, i + 1),
      'short',
    ]),
    ['version 0', altered(good, { 0: 0x05 }), 'bad_version'],
    ['version 15', altered(good, { 0: 0xf5 }), 'bad_version'],
    ['a header of 0 bytes', altered(good, { 0: 0x40 }), 'bad_header'],
    ['a header of 16 bytes', altered(good, { 0: 0x44 }), 'bad_header'],
    ['a header longer than the packet', altered(good, { 0: 0x4f }), 'bad_header'],
    ['a packet longer than it says', fixHeaderChecksum(altered(good, { 3: 47 })), 'bad_length'],
    ['a packet shorter than it says', fixHeaderChecksum(altered(good, { 3: 49 })), 'bad_length'],
    ['a packet that says it is 65,535 bytes', fixHeaderChecksum(altered(good, { 2: 255, 3: 255 })), 'bad_length'],
    ['a wrong header checksum', altered(good, { 10: good[10]! ^ 1 }), 'bad_header_checksum'],
    ['a header checksum of zero', altered(good, { 10: 0, 11: 0 }), 'bad_header_checksum'],
    ['a flipped bit in the source', altered(good, { 15: 3 }), 'bad_header_checksum'],
    ['TTL 0', inboundUdp({ ttl: 0 }), 'ttl_zero'],
    ['TTL 1', inboundUdp({ ttl: 1 }), 'ttl_expired'],
    ['a source in the subnet of another peer', inboundUdp({ source: [3, 2] }), 'spoofed_source'],
    ['a source in its own subnet', inboundUdp({ source: [1, 2] }), 'spoofed_source'],
    ['a source inside the network that nobody leased', inboundUdp({ source: [200, 2] }), 'spoofed_source'],
    ['a destination in the subnet of another host', inboundUdp({ destination: [3, 2] }), 'foreign_destination'],
    ['a destination that nobody leased', inboundUdp({ destination: [200, 2] }), 'foreign_destination'],
    ['a destination outside the network', fixHeaderChecksum(altered(good, { 16: 192 })), 'foreign_destination'],
    ['a broadcast', fixHeaderChecksum(altered(good, { 16: 255, 17: 255, 18: 255, 19: 255 })), 'foreign_destination'],
    ['a multicast', fixHeaderChecksum(altered(good, { 16: 224 })), 'foreign_destination'],
  ])('%s, and only that', (_, bytes, reason) => {
    const bench = receive([datagram(bytes), datagram(good)]);
    expect(delivered(bench)).toEqual([forwarded(good)]);
    expect(bench.dropped('rx')).toEqual({ [reason]: 1 });
    expect(bench.counted('rx')).toMatchObject({ datagrams: 2, packets: 1, writes: 1 });
  });

  it('a datagram longer than a slot', () => {
    const bench = receive([datagram(payload(65_537)), datagram(good)]);
    expect(bench.dropped('rx')).toEqual({ truncated: 1 });
    expect(delivered(bench)).toEqual([forwarded(good)]);
  });

  it.each([
    ['an unknown address', { from: host(99) }],
    ['an unknown port of a peer', { port: 8286 }],
    ['an unknown port below 256', { port: 0x205d & 0xff }],
    ['the address of this host', { from: host(1) }],
  ])('what comes from %s', (_, changes) => {
    const bench = receive([datagram(good, changes), datagram(good)]);
    expect(delivered(bench)).toEqual([forwarded(good)]);
    expect(bench.dropped('rx')).toEqual({ unknown_sender: 1 });
  });

  it('all of a run from an unknown sender, each packet counted', () => {
    const bench = receive([run([good, good, good], { from: host(99) })]);
    expect(bench.kernel.writes).toEqual([]);
    expect(bench.dropped('rx')).toEqual({ unknown_sender: 3 });
  });

  it('what comes from a peer that is gone, or from where it was before it moved', () => {
    const bench = workbench();
    bench.peers.delete(prefix('10.5.2.0/24'));
    receive([datagram(good)], bench);
    expect(bench.dropped('rx')).toEqual({ unknown_sender: 1 });
    bench.peers.set(prefix('10.5.2.0/24'), host(77));
    receive([datagram(good), datagram(good, { from: host(77) })], bench);
    expect(bench.dropped('rx')).toEqual({ unknown_sender: 2 });
    expect(delivered(bench)).toEqual([forwarded(good)]);
  });
});

describe('RxForwarder lets pass', () => {
  it('a source outside the overlay from any peer, as flannel does: a host may talk for itself', () => {
    const outside = fixHeaderChecksum(altered(good, { 12: 192, 13: 168 }));
    const bench = receive([datagram(outside)]);
    expect(delivered(bench)).toEqual([forwarded(outside)]);
    expect([...bench.peers.table.entries()][0]).toMatchObject({ rxPackets: 0 });
  });

  it('several subnets of one host', () => {
    const bench = workbench();
    bench.peers.set(prefix('10.5.7.0/24'), host(2));
    const second = inboundUdp({ source: [7, 1] });
    receive([datagram(good), datagram(second)], bench);
    expect(delivered(bench)).toEqual([forwarded(good), forwarded(second)]);
  });

  it('any sender, port and source when senders are not checked, but never a wrong packet or a foreign destination', () => {
    const bench = workbench({ checkSenders: false });
    const spoofed = inboundUdp({ source: [3, 2], payload: payload(5) });
    const unleased = inboundUdp({ source: [200, 2], payload: payload(6) });
    receive(
      [
        datagram(good, { from: address('203.0.113.9'), port: 5 }),
        datagram(spoofed, { from: host(2) }),
        datagram(unleased),
        datagram(inboundUdp({ destination: [3, 2] })),
        datagram(altered(good, { 10: 0 })),
        datagram(inboundUdp({ ttl: 0 })),
      ],
      bench,
    );
    expect(delivered(bench)).toEqual([good, spoofed, unleased].map(forwarded));
    expect(bench.dropped('rx')).toEqual({ foreign_destination: 1, bad_header_checksum: 1, ttl_zero: 1 });
  });
});

describe('a packet whose TTL runs out here', () => {
  it('is answered with "time exceeded" through the tunnel it came by', () => {
    const packet = inboundUdp({ ttl: 1, payload: payload(100) });
    const { kernel, counted } = receive([datagram(packet)]);
    expect(kernel.writes).toEqual([]);
    expect(kernel.sent).toMatchObject([{ address: host(2), port: 8285, segmentSize: 0, flags: 0x40 }]);
    expect(parseIcmpError(kernel.datagrams[0]!)).toMatchObject({
      from: addressOf4([1, 0]),
      to: addressOf4([2, 2]),
      type: 11,
      code: 0,
      quoted: packet,
    });
    expect(counted('rx')).toEqual({ turns: 1, receives: 1, datagrams: 1, icmp_sent: 1 });
  });

  it.each<[string, Uint8Array]>([
    ['an ICMP error', icmp(11, { source: [2, 2], destination: [1, 2], ttl: 1 })],
    ['a later fragment', ip(17, payload(40), { source: [2, 2], destination: [1, 2], ttl: 1, fragment: 5 })],
    ['from outside the overlay', fixHeaderChecksum(altered(inboundUdp({ ttl: 1 }), { 12: 192 }))],
  ])('is dropped without an answer if it is %s', (_, packet) => {
    const { kernel, dropped, counted } = receive([datagram(packet)]);
    expect(kernel.sends).toEqual([]);
    expect(dropped('rx')).toEqual({ ttl_expired: 1 });
    expect(counted('rx')).not.toHaveProperty('icmp_sent');
  });

  it('is answered only so often', () => {
    const bench = workbench({ icmpPerSecond: 0, icmpBurst: 2 });
    receive(
      Array.from({ length: 9 }, () => datagram(inboundTcp({ ttl: 1 }))),
      bench,
    );
    expect(bench.kernel.sent).toHaveLength(2);
    expect(bench.counted('rx')).toMatchObject({ icmp_sent: 2, icmp_suppressed: 7 });
    expect(bench.dropped('rx')).toEqual({ ttl_expired: 9 });
  });

  it('disturbs nothing when the answer cannot be sent', () => {
    const bench = workbench();
    bench.kernel.onSend = () => 11;
    receive([datagram(inboundUdp({ ttl: 1 })), datagram(good)], bench);
    expect(delivered(bench)).toEqual([forwarded(good)]);
    expect(bench.counted('rx')).not.toHaveProperty('icmp_sent');
  });
});

describe('RxForwarder under garbage', () => {
  it('accounts for every datagram: delivered or dropped under one reason', () => {
    const bytes = fc
      .tuple(fc.uint8Array({ maxLength: 80, size: 'max' }), fc.boolean(), fc.boolean())
      .map(([random, likely, repaired]) => {
        if (likely && random.length >= 20) {
          random.set(good.slice(0, 20));
          random[3] = random.length;
          if (repaired) fixHeaderChecksum(random);
        }
        return random;
      });
    const arrival = fc.record({ bytes, gro: fc.option(fc.integer({ min: -5, max: 90 }), { nil: undefined }) });
    const bench = workbench();
    const forwarder = bench.rx();
    let packets = 0;
    fc.assert(
      fc.property(fc.array(arrival, { maxLength: 40, size: 'max' }), (arrivals) => {
        bench.kernel.writes.length = 0;
        bench.kernel.arrivals.push(
          ...arrivals.map(({ bytes: one, gro }) => datagram(one, gro === undefined ? {} : { gro })),
        );
        const before = { ...bench.counted('rx') };
        const lost = total(bench.dropped('rx'));
        forwarder.turn();
        const after = bench.counted('rx');
        const seen = (after.datagrams ?? 0) - (before.datagrams ?? 0);
        const good = (after.packets ?? 0) - (before.packets ?? 0);
        expect(seen).toBe(good + total(bench.dropped('rx')) - lost);
        expect(delivered(bench)).toHaveLength(good);
        packets += good;
      }),
      { numRuns: 800 },
    );
    expect(packets).toBeGreaterThan(100);
  });
});

function total(drops: Record<string, number>): number {
  return Object.values(drops).reduce((sum, count) => sum + count, 0);
}
