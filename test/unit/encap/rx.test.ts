import { describe, expect, it } from 'vitest';
import {
  EAGAIN,
  EBADF,
  EBADFD,
  ECONNREFUSED,
  EHOSTUNREACH,
  EINTR,
  EINVAL,
  ENETDOWN,
  MSG_TRUNC,
} from '../../../src/linux/constants.js';
import { groMessage } from './support/fake-kernel.js';
import { ip, offloaded, payload } from './support/packets.js';
import { datagram, delivered, forwarded, inboundTcp, inboundUdp, receive, run } from './support/receiving.js';
import { faults, NO_OFFLOAD, sameBytes, setWord } from './support/reference.js';
import { host, workbench } from './support/workbench.js';

/** Segments of one flow, one after the other. */
const stream = (count: number, size = 1000, first = 0): Uint8Array[] =>
  Array.from({ length: count }, (_, i) =>
    inboundTcp({ sequence: (first + i) * size, id: first + i, payload: payload(size, first + i) }),
  );

describe('RxForwarder', () => {
  it('writes a packet to the TUN, one hop older', () => {
    const packet = inboundUdp({ payload: payload(100) });
    const bench = receive([datagram(packet)]);
    expect(bench.kernel.written).toMatchObject([{ vnet: NO_OFFLOAD, packet: forwarded(packet), iovCount: 2 }]);
    expect(bench.counted('rx')).toEqual({ turns: 1, receives: 1, datagrams: 1, packets: 1, bytes: 128, writes: 1 });
    expect(bench.dropped('rx')).toEqual({});
  });

  it('takes any protocol, options, fragments and the shortest packet there is', () => {
    const ends = { source: [2, 2], destination: [1, 2] } as const;
    const packets = [
      ip(132, payload(40), ends),
      ip(17, payload(30), { ...ends, fragment: 0x2000 }),
      ip(17, payload(30), { ...ends, fragment: 0x00b9 }),
      ip(6, payload(24), { ...ends, ipOptions: Array(40).fill(1) }),
      ip(47, new Uint8Array(0), ends),
    ];
    const bench = receive(packets.map((packet) => datagram(packet)));
    expect(delivered(bench)).toEqual(packets.map(forwarded));
  });

  it('counts packets, bytes and the time of the last one for the peer', () => {
    const before = Date.now();
    const bench = receive([...stream(3).map((packet) => datagram(packet))]);
    expect([...bench.peers.table.entries()]).toMatchObject([
      { rxPackets: 3, rxBytes: 3 * 1040 },
      { rxPackets: 0, rxBytes: 0, lastReceived: null },
    ]);
    const [peer] = [...bench.peers.table.entries()];
    expect(peer!.lastReceived).toBeGreaterThanOrEqual(before);
    expect(peer!.lastReceived).toBeLessThanOrEqual(Date.now());
  });

  it('merges neighbours that came in datagrams of their own', () => {
    const packets = stream(10);
    const bench = receive(packets.map((packet) => datagram(packet)));
    expect(bench.kernel.written).toHaveLength(1);
    expect(delivered(bench)).toEqual(packets.map(forwarded));
    expect(bench.counted('rx')).toMatchObject({ writes: 1, merged_writes: 1, merged_packets: 10, packets: 10 });
  });

  it('merges neighbours that came in a run, and across the runs of one wake-up', () => {
    const packets = stream(20);
    const bench = receive([run(packets.slice(0, 7)), run(packets.slice(7, 12)), run(packets.slice(12))]);
    expect(bench.kernel.written).toHaveLength(1);
    expect(delivered(bench)).toEqual(packets.map(forwarded));
    expect(bench.counted('rx')).toMatchObject({
      receives: 1,
      datagrams: 20,
      coalesced_datagrams: 20,
      merged_packets: 20,
    });
  });

  it('gives the super-packet back that the other host has split', () => {
    const whole = inboundTcp({ payload: payload(30_000), flags: 0x18, ttl: 64 });
    const tx = workbench();
    tx.peers.set({ address: 0x0a050100, length: 24 }, host(1));
    tx.kernel.tunReads.push(offloaded(whole, 1400));
    tx.tx().turn();
    const runs = tx.kernel.sent.map(({ datagrams }) => run(datagrams));
    const bench = receive(runs);
    expect(bench.kernel.written).toHaveLength(1);
    const expected = offloaded(forwarded(forwarded(whole)), 1400);
    expect(sameBytes(bench.kernel.written[0]!.packet, expected.packet)).toBe(true);
    expect(bench.kernel.written[0]!.vnet).toEqual({ ...expected.vnet, headerLength: 40 });
  });

  it('takes a last datagram of a run that is shorter', () => {
    const packets = [...stream(3), inboundTcp({ sequence: 3000, id: 3, payload: payload(10) })];
    const bench = receive([run(packets)]);
    expect(delivered(bench)).toEqual(packets.map(forwarded));
  });

  it('takes a run of datagrams that each need looking at: some good, some dropped', () => {
    const [good, spoofed, other] = [2, 3, 2].map((from, i) =>
      inboundUdp({ source: [from, 2], id: i === 2 ? 1 : 0, payload: payload(40, i) }),
    );
    const bench = receive([run([good!, spoofed!, other!])]);
    expect(delivered(bench)).toEqual([good, other].map((packet) => forwarded(packet!)));
    expect(bench.dropped('rx')).toEqual({ spoofed_source: 1 });
  });

  it('fills the merger, writes, and goes on with the same receive', () => {
    // 1500 packets of as many flows in one wake-up: three times what the merger holds
    const packets = Array.from({ length: 1500 }, (_, i) => inboundUdp({ sourcePort: i + 1, payload: payload(12, i) }));
    const runs = Array.from({ length: 15 }, (_, i) => run(packets.slice(i * 100, i * 100 + 100)));
    const bench = receive(runs);
    expect(bench.counted('rx')).toMatchObject({ receives: 1, packets: 1500, writes: 1500 });
    expect(delivered(bench).every((packet, i) => sameBytes(packet, forwarded(packets[i]!)))).toBe(true);
  });

  it('never delivers a packet with a wrong inner checksum as a good one', () => {
    const packets = stream(6);
    packets[2]![500]! ^= 0x40;
    const bench = receive(packets.map((packet) => datagram(packet)));
    const got = delivered(bench);
    expect(got).toEqual(packets.map(forwarded));
    expect(got.map((packet) => faults(packet).length)).toEqual([0, 0, 1, 0, 0, 0]);
    expect(bench.counted('rx')).toMatchObject({ bad_inner_checksum: 1, writes: 3, merged_writes: 2 });
  });

  it('merges nothing that it was told not to', () => {
    const packets = stream(4);
    const bench = receive(
      packets.map((packet) => datagram(packet)),
      workbench({ mergeTcp: false }),
    );
    expect(bench.kernel.written.map(({ packet }) => packet)).toEqual(packets.map(forwarded));
    expect(bench.counted('rx')).toMatchObject({ writes: 4 });
  });

  it('writes plain packets where the TUN has no virtio-net header', () => {
    const bench = workbench({ vnetHeader: false, mergeTcp: false, mergeUdp: false });
    const packets = stream(3);
    receive(
      packets.map((packet) => datagram(packet)),
      bench,
    );
    expect(bench.kernel.written.map(({ packet, iovCount }) => [packet, iovCount])).toEqual(
      packets.map((packet) => [forwarded(packet), 1]),
    );
  });
});

describe('RxForwarder.turn', () => {
  it('receives again while every slot was filled, and not once more', () => {
    const packets = stream(130, 100);
    const bench = receive(packets.map((packet) => datagram(packet)));
    expect(bench.kernel.receiveCounts).toEqual([64, 64, 64]);
    expect(bench.counted('rx')).toMatchObject({ receives: 3, datagrams: 130 });
    expect(delivered(bench)).toEqual(packets.map(forwarded));
  });

  it('receives one datagram a call when batches are off', () => {
    const bench = workbench({ receiveSlots: 1 });
    const packets = stream(3, 100);
    receive(
      packets.map((packet) => datagram(packet)),
      bench,
    );
    expect(bench.kernel.receiveCounts).toEqual([1, 1, 1, 1]);
    expect(bench.kernel.written.map(({ packet }) => packet)).toEqual(packets.map(forwarded));
  });

  it('never asks for more slots than it has', () => {
    expect(receive([datagram(inboundUdp())], workbench({ receiveSlots: 1000 })).kernel.receiveCounts).toEqual([64]);
  });

  it.each([
    ['EINTR', EINTR],
    ['ECONNREFUSED', ECONNREFUSED],
    ['EHOSTUNREACH', EHOSTUNREACH],
    ['ENETDOWN', ENETDOWN],
  ])('%s on the socket passes', (_, errno) => {
    const { kernel, rx } = workbench();
    const forwarder = rx();
    kernel.arrivals.push({ errno }, datagram(inboundUdp()));
    expect(forwarder.turn()).toBe(EAGAIN);
    expect(forwarder.turn()).toBe(EAGAIN);
    expect(kernel.written).toHaveLength(1);
  });

  it.each([
    ['EBADF', EBADF],
    ['EINVAL', EINVAL],
    ['EBADFD', EBADFD],
  ])('%s on the socket ends it: waiting for it would return at once, for ever', (_, errno) => {
    const { kernel, rx } = workbench();
    kernel.arrivals.push({ errno });
    expect(rx().turn()).toBe(errno);
  });

  it('stops receiving as soon as it is asked to stop, and writes what it had received', () => {
    const { kernel, control, rx } = workbench({ receiveSlots: 1 });
    let reads = 0;
    kernel.onRead = () => {
      if (++reads === 2) control.requestStop();
    };
    kernel.arrivals.push(...stream(5).map((packet) => datagram(packet)));
    rx().turn();
    expect(kernel.written).toHaveLength(2);
  });

  it('writes nothing outside its own memory', () => {
    const { memory, layout, kernel, rx } = workbench();
    const end = layout.bytes - 65_536;
    memory.u8.fill(0xcd, end);
    memory.u8.fill(0xcd, layout.tx, layout.rx);
    const forwarder = rx();
    kernel.arrivals.push(...Array.from({ length: 64 }, () => datagram(payload(65_536))));
    kernel.arrivals.push(...Array.from({ length: 64 }, (_, i) => run(stream(45, 1400, i * 45))));
    forwarder.turn();
    expect(memory.u8.subarray(end).every((byte) => byte === 0xcd)).toBe(true);
    expect(memory.u8.subarray(layout.tx, layout.rx).every((byte) => byte === 0xcd)).toBe(true);
  });
});

describe('the length of each datagram in a run', () => {
  const packets = stream(3, 100);
  const bytes = Buffer.concat(packets);

  it.each<[string, Uint8Array]>([
    ['is not given', new Uint8Array(0)],
    ['is cut off', groMessage(140).slice(0, 16)],
    ['is cut short', groMessage(140).slice(0, 19)],
    ['comes under another level', groMessage(140, 1)],
    ['comes under another type', groMessage(140, 17, 103)],
    ['is zero', groMessage(0)],
    ['is negative', groMessage(-140)],
    ['is longer than all of it', groMessage(1000)],
    ['is the length of all of it', groMessage(bytes.length)],
    ['belongs to a message that says it is shorter', withLength(groMessage(140), 16)],
  ])('%s: all of it is one packet, which is not as long as it says', (_, control) => {
    const bench = receive([datagram(bytes, { control }), datagram(packets[0]!)]);
    expect(bench.counted('rx')).toMatchObject({ datagrams: 2, packets: 1 });
    expect(bench.dropped('rx')).toEqual({ bad_length: 1 });
    expect(delivered(bench)).toEqual([forwarded(packets[0]!)]);
  });

  it.each([1, 19, 20, 139, 141, 419])('is wrong, %i: nothing but what was sent can come of it', (size) => {
    const bench = receive([datagram(bytes, { gro: size })]);
    const pieces = Math.ceil(bytes.length / size);
    const dropped = Object.values(bench.dropped('rx')).reduce((sum, count) => sum + count, 0);
    expect(dropped).toBe(pieces);
    expect(delivered(bench)).toEqual([]);
  });

  it('does not stay in a slot for the next datagram there', () => {
    const one = inboundUdp({ payload: payload(252) });
    const bench = receive([datagram(bytes, { gro: 140 })]);
    receive([datagram(one)], bench);
    expect(delivered(bench).at(-1)).toEqual(forwarded(one));
  });

  it('is looked at before a truncated run is dropped, so that all of its packets are counted', () => {
    const bench = receive([datagram(bytes, { gro: 140, flags: MSG_TRUNC })]);
    expect(bench.dropped('rx')).toEqual({ truncated: 3 });
    expect(bench.kernel.writes).toEqual([]);
  });
});

function withLength(control: Uint8Array, length: number): Uint8Array {
  const copy = control.slice();
  setWord(copy, 0, length * 256);
  return copy;
}
