import { describe, expect, it } from 'vitest';
import { TURN_READS } from '../../../src/encap/datapath/tx.js';
import { EAGAIN, EBADFD, EINTR, EIO, EPERM } from '../../../src/linux/constants.js';
import type { TunRead } from './support/fake-kernel.js';
import { ACK, altered, CWR, fixHeaderChecksum, ip, offloaded, PSH, payload, tcp, udp } from './support/packets.js';
import { faults, referenceSplit, sameBytes } from './support/reference.js';
import { host, prefix, type Workbench, workbench } from './support/workbench.js';

/** Reads the packets from the TUN until it has no more, and returns the bench. */
function drain(reads: readonly TunRead[], bench: Workbench = workbench()): Workbench {
  bench.kernel.tunReads.push(...reads);
  const forwarder = bench.tx();
  do expect(forwarder.turn()).toBe(EAGAIN);
  while (bench.kernel.tunReads.length > 0);
  return bench;
}

/** As it should leave: one hop older. */
function forwarded(packet: Uint8Array): Uint8Array {
  return fixHeaderChecksum(altered(packet, { 8: packet[8]! - 1 }));
}

describe('TxForwarder', () => {
  it('sends a packet to the host that leased its destination, one hop older', () => {
    const packet = udp({ destination: [3, 7], payload: payload(100) });
    const { kernel, counted, dropped } = drain([{ packet }]);
    expect(kernel.sent).toMatchObject([{ address: host(3), port: 8285, datagrams: [forwarded(packet)] }]);
    expect(faults(kernel.datagrams[0]!)).toEqual([]);
    expect(counted('tx')).toEqual({ turns: 1, reads: 1, packets: 1, bytes: 128, sends: 1, segments_le_1: 1 });
    expect(dropped('tx')).toEqual({});
  });

  it('takes any protocol, options, fragments and the shortest packet there is', () => {
    const packets = [
      ip(132, payload(40)),
      ip(17, payload(30), { fragment: 0x2000 }),
      ip(17, payload(30), { fragment: 0x00b9 }),
      ip(6, payload(24), { ipOptions: Array(40).fill(1) }),
      ip(47, new Uint8Array(0)),
    ];
    const { kernel } = drain(packets.map((packet) => ({ packet })));
    expect(kernel.datagrams).toEqual(packets.map(forwarded));
  });

  it('sends a run of equal packets to one peer in one call, and each peer its own', () => {
    const to = (peer: number, seed: number) => udp({ destination: [peer, 1], payload: payload(64, seed) });
    const packets = [to(2, 1), to(2, 2), to(2, 3), to(3, 4), to(2, 5)];
    const { kernel, counted } = drain(packets.map((packet) => ({ packet })));
    expect(kernel.sent.map(({ address, datagrams }) => [address, datagrams.length])).toEqual([
      [host(2), 3],
      [host(3), 1],
      [host(2), 1],
    ]);
    expect(kernel.datagrams).toEqual(packets.map(forwarded));
    expect(counted('tx')).toMatchObject({ sends: 3, segmented_sends: 1, packets: 5 });
  });

  it('prefers the longest prefix that leads to a peer', () => {
    const bench = workbench();
    bench.peers.set(prefix('10.5.2.128/26'), host(9));
    drain([{ packet: udp({ destination: [2, 129] }) }, { packet: udp({ destination: [2, 127] }) }], bench);
    expect(bench.kernel.sent.map(({ address }) => address)).toEqual([host(9), host(2)]);
  });

  it('follows a peer that moves, comes or goes between two packets', () => {
    const bench = workbench();
    const tx = bench.tx();
    const read = () => {
      bench.kernel.tunReads.push({ packet: udp({ destination: [2, 1] }) });
      tx.turn();
    };
    read();
    bench.peers.set(prefix('10.5.2.0/24'), host(77));
    read();
    bench.peers.delete(prefix('10.5.2.0/24'));
    read();
    bench.peers.set(prefix('10.5.2.0/24'), host(78));
    read();
    expect(bench.kernel.sent.map(({ address }) => address)).toEqual([host(2), host(77), host(78)]);
    expect(bench.dropped('tx')).toEqual({ no_route: 1 });
  });
});

describe('TxForwarder with offloads', () => {
  it('splits a super-packet as the reference does and sends it in one call', () => {
    const whole = tcp({ payload: payload(10 * 1400 + 5), flags: ACK | PSH | CWR });
    const { kernel, counted } = drain([offloaded(whole, 1400)]);
    expect(kernel.sent).toHaveLength(1);
    expect(kernel.datagrams).toEqual(referenceSplit(forwarded(whole), 1400));
    expect(counted('tx')).toMatchObject({
      reads: 1,
      super_packets: 1,
      packets: 11,
      segmented_sends: 1,
      segments_le_16: 1,
    });
  });

  it('needs two calls for a full super-packet and starts the second with the tail of the first', () => {
    const whole = tcp({ payload: payload(46 * 1408) }); // 46 × 1448 = 66,608 bytes on the wire
    const next = tcp({ payload: payload(2 * 1408, 9), sequence: 1000 + 46 * 1408 });
    const { kernel } = drain([offloaded(whole, 1408), offloaded(next, 1408)]);
    expect(kernel.sent.map(({ datagrams }) => datagrams.length)).toEqual([45, 3]);
    expect(kernel.datagrams).toEqual([
      ...referenceSplit(forwarded(whole), 1408),
      ...referenceSplit(forwarded(next), 1408),
    ]);
  });

  it('splits UDP super-packets', () => {
    const whole = udp({ payload: payload(3000), fragment: 0, id: 65_535 });
    const { kernel } = drain([offloaded(whole, 1200)]);
    expect(kernel.datagrams).toEqual(referenceSplit(forwarded(whole), 1200));
  });

  it('keeps the bytes of many super-packets in memory until they are sent', () => {
    const bench = workbench();
    const wholes = Array.from({ length: 20 }, (_, i) => tcp({ payload: payload(65_000, i), id: i * 50 }));
    // refused at first, so that every run is read again from memory, datagram by datagram
    bench.kernel.onSend = ({ segmentSize }) => (segmentSize > 0 ? EPERM : 0);
    drain(
      wholes.map((whole) => offloaded(whole, 1400)),
      bench,
    );
    const expected = wholes.flatMap((whole) => referenceSplit(forwarded(whole), 1400));
    expect(bench.kernel.datagrams.length).toBe(expected.length);
    expect(bench.kernel.datagrams.every((bytes, i) => sameBytes(bytes, expected[i]!))).toBe(true);
  });

  it('keeps the bytes of many small packets in memory until they are sent', () => {
    const packets = Array.from({ length: 5000 }, (_, i) => udp({ id: i, payload: payload(i % 1400, i) }));
    const { kernel } = drain(packets.map((packet) => ({ packet })));
    expect(kernel.datagrams.length).toBe(5000);
    expect(kernel.datagrams.every((bytes, i) => sameBytes(bytes, forwarded(packets[i]!)))).toBe(true);
  });

  it('completes the checksum of a single packet that has it partial', () => {
    const packet = tcp({ payload: payload(77) });
    const datagram = udp({ payload: payload(78) });
    const { kernel } = drain([offloaded(packet), offloaded(datagram)]);
    expect(kernel.datagrams).toEqual([forwarded(packet), forwarded(datagram)]);
  });

  it('leaves a single packet with a complete checksum alone, right or wrong', () => {
    const wrong = altered(tcp({ payload: payload(9) }), { 36: 0xaa });
    const { kernel } = drain([{ packet: wrong }]);
    expect(kernel.datagrams).toEqual([forwarded(wrong)]);
  });

  it('counts how many packets each read made', () => {
    const counts = [1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64, 65, 100];
    const { counted } = drain(counts.map((count) => offloaded(tcp({ payload: payload(count * 50) }), 50)));
    expect(counted('tx')).toMatchObject({
      segments_le_1: 1,
      segments_le_2: 1,
      segments_le_4: 2,
      segments_le_8: 2,
      segments_le_16: 2,
      segments_le_32: 2,
      segments_le_64: 2,
      segments_more: 2,
      super_packets: 14,
    });
  });

  it.each([
    ['a checksum outside the packet', { flags: 1, type: 0, start: 20, offset: 5000 }],
    ['a checksum inside the IP header', { flags: 1, type: 0, start: 0, offset: 10 }],
    ['segments of no length', { flags: 1, type: 1, size: 0, start: 20, offset: 16 }],
    ['the old UDP fragmentation', { flags: 1, type: 3, size: 10, start: 20, offset: 6 }],
    ['an unknown type', { flags: 1, type: 9, size: 10, start: 20, offset: 16 }],
    ['the ECN bit without a type', { flags: 1, type: 0x80, size: 10, start: 20, offset: 16 }],
  ])('drops a packet whose virtio-net header asks for %s', (_, changes) => {
    const packet = tcp({ payload: payload(50) });
    const vnet = { headerLength: 40, size: 0, ...changes };
    const { kernel, dropped } = drain([{ vnet, packet }, { packet }]);
    expect(kernel.datagrams).toEqual([forwarded(packet)]);
    expect(dropped('tx')).toEqual({ bad_offload_header: 1 });
  });
});

describe('TxForwarder without offloads', () => {
  it('reads plain packets without a header before them and sends them one by one', () => {
    const bench = workbench({ vnetHeader: false, maxSegments: 1 });
    const packets = [udp({ payload: payload(40, 1) }), udp({ payload: payload(40, 2) }), ip(1, payload(8))];
    drain(
      packets.map((packet) => ({ packet })),
      bench,
    );
    expect(bench.kernel.sent.map(({ datagrams, segmentSize }) => [datagrams.length, segmentSize])).toEqual(
      Array(3).fill([1, 0]),
    );
    expect(bench.kernel.datagrams).toEqual(packets.map(forwarded));
    expect(bench.counted('tx')).toMatchObject({ segments_le_1: 3, sends: 3 });
  });
});

describe('TxForwarder drops', () => {
  const good = udp({ payload: payload(20) });
  it.each<[string, Uint8Array, string]>([
    ['nothing at all', new Uint8Array(0), 'short'],
    ['19 bytes', good.slice(0, 19), 'short'],
    ['version 0', altered(good, { 0: 0x05 }), 'bad_version'],
    ['a header of 16 bytes', altered(good, { 0: 0x44 }), 'bad_header'],
    ['a header longer than the packet', altered(good.slice(0, 40), { 0: 0x4f }), 'bad_header'],
    ['a packet shorter than it says', good.slice(0, 40), 'bad_length'],
    ['a packet longer than it says', altered(good, { 3: 40 }), 'bad_length'],
    ['a destination outside the network', udp({}).with(17, 6), 'no_route'],
    ['a destination inside it that nobody leased', udp({ destination: [200, 1] }), 'no_route'],
    ['its own subnet', udp({ destination: [1, 9] }), 'no_route'],
    ['TTL 1', udp({ ttl: 1 }), 'ttl_expired'],
    ['TTL 0', udp({ ttl: 0 }), 'ttl_expired'],
  ])('%s', (_, packet, reason) => {
    const { kernel, dropped } = drain([{ packet }, { packet: good }]);
    expect(kernel.datagrams).toEqual([forwarded(good)]);
    expect(dropped('tx')).toEqual({ [reason]: 1 });
  });

  it('every super-packet that has no route, as one', () => {
    const { dropped } = drain([offloaded(tcp({ destination: [200, 1], payload: payload(5000) }), 1000)]);
    expect(dropped('tx')).toEqual({ no_route: 1 });
  });
});

describe('TxForwarder.turn', () => {
  const packet = udp({ payload: payload(20) });

  it('goes on in its next turn after EINTR', () => {
    const { kernel } = drain([{ packet }, { errno: EINTR }, { packet }]);
    expect(kernel.datagrams).toHaveLength(2);
  });

  it('ends its turn after so many reads, with everything sent', () => {
    const { kernel, tx } = workbench();
    kernel.tunReads.push(...Array.from({ length: TURN_READS + 1 }, () => ({ packet })));
    const forwarder = tx();
    expect(forwarder.turn()).toBe(EAGAIN);
    expect(kernel.datagrams).toHaveLength(TURN_READS);
    expect(forwarder.turn()).toBe(EAGAIN);
    expect(kernel.datagrams).toHaveLength(TURN_READS + 1);
  });

  it.each([
    ['EBADFD', EBADFD],
    ['EIO', EIO],
  ])('ends with %s, after it has sent what it had read', (_, errno) => {
    const { kernel, tx } = workbench();
    kernel.tunReads.push({ packet }, { errno }, { errno });
    const forwarder = tx();
    expect(forwarder.turn()).toBe(EAGAIN);
    expect(kernel.datagrams).toEqual([forwarded(packet)]);
    expect(forwarder.turn()).toBe(errno);
  });

  it('stops reading as soon as it is asked to stop, and sends what it had read', () => {
    const { kernel, control, tx } = workbench();
    let reads = 0;
    kernel.onRead = () => {
      if (++reads === 3) control.requestStop();
    };
    kernel.tunReads.push(...Array.from({ length: 10 }, () => ({ packet })));
    tx().turn();
    expect(kernel.datagrams).toHaveLength(3);
    expect(kernel.tunReads).toHaveLength(7);
  });

  it('writes nothing beyond its own memory', () => {
    const { memory, layout, kernel, tx } = workbench();
    memory.u8.fill(0xcd, layout.rx);
    const forwarder = tx();
    kernel.tunReads.push(...Array.from({ length: 12 }, (_, i) => offloaded(tcp({ payload: payload(65_000, i) }), 999)));
    kernel.tunReads.push({ packet: udp({ destination: [200, 1], payload: payload(600) }) });
    forwarder.turn();
    expect(memory.u8.subarray(layout.rx).every((byte) => byte === 0xcd)).toBe(true);
  });
});
