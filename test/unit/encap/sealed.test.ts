/** Both forwarders with sealed datagrams, over a scripted kernel. */
import { describe, expect, it } from 'vitest';
import { EAGAIN, EMSGSIZE } from '../../../src/linux/constants.js';
import { groMessage, type TunRead, tosMessage } from './support/fake-kernel.js';
import { altered, fixHeaderChecksum, offloaded, payload, tcp, udp } from './support/packets.js';
import { datagram, delivered, inboundTcp, inboundUdp, receive, run } from './support/receiving.js';
import { concat, parseIcmpError, referenceSplit } from './support/reference.js';
import { opened, PEER_2, PEER_3, sealed, sealedBench } from './support/sealed.js';
import { host, type Workbench } from './support/workbench.js';

/** With the mark of congestion. */
const remarked = (packet: Uint8Array) => fixHeaderChecksum(altered(packet, { 1: packet[1]! | 3 }));

function drain(bench: Workbench, reads: readonly TunRead[], pathMtu = 1500) {
  bench.kernel.tunReads.push(...reads);
  const forwarder = bench.tx(() => pathMtu);
  do expect(forwarder.turn()).toBe(EAGAIN);
  while (bench.kernel.tunReads.length > 0);
  return forwarder;
}

describe('packets from the TUN', () => {
  it('a super-packet leaves as messages of equal length in few sends; its segments are as they would be alone', () => {
    const bench = sealedBench();
    bench.session(PEER_2);
    const whole = tcp({ destination: [2, 9], payload: payload(43 * 1380 + 100) });
    drain(bench, [offloaded(whole, 1380)]);
    const { kernel } = bench;
    expect(kernel.sent.length).toBeLessThanOrEqual(2);
    expect(kernel.sent[0]).toMatchObject({ address: host(2), segmentSize: 1424 + 32 });
    const messages = kernel.datagrams.map(opened);
    expect(messages.map(({ counter }) => counter)).toEqual(messages.map((_, i) => i));
    expect(messages.map(({ packet }) => packet)).toEqual(referenceSplit(whole, 1380));
    expect(bench.sealDrops()).toEqual({});
  });

  it('the tunnel is no hop: even a TTL of 1 passes', () => {
    const bench = sealedBench();
    bench.session(PEER_2);
    const packet = fixHeaderChecksum(altered(udp({ destination: [2, 9], payload: payload(33) }), { 8: 1 }));
    drain(bench, [{ packet }]);
    expect(bench.kernel.datagrams.map((message) => opened(message).packet)).toEqual([packet]);
    expect(bench.dropped('tx')).toEqual({});
  });

  it('say outside what their ECN bits say inside, or of marked ones that they can be marked', () => {
    const bench = sealedBench();
    bench.session(PEER_2);
    const packets = [0, 0, 1, 2, 3, 0x48].map((tos, i) =>
      fixHeaderChecksum(altered(udp({ destination: [2, 9], payload: payload(100, i) }), { 1: tos })),
    );
    drain(
      bench,
      packets.map((packet) => ({ packet })),
    );
    expect(bench.kernel.sent.map(({ ecn, datagrams }) => [ecn, datagrams.length])).toEqual([
      [0, 2],
      [1, 1],
      [2, 2],
      [0, 1],
    ]);
    expect(bench.kernel.datagrams.map((message) => opened(message).packet)).toEqual(packets);
    const whole = altered(tcp({ destination: [2, 9], payload: payload(10 * 1380) }), { 1: 2 });
    drain(bench, [offloaded(fixHeaderChecksum(whole), 1380)]);
    expect(bench.kernel.sent.at(-1)).toMatchObject({ ecn: 2, segmentSize: 1424 + 32 });
  });

  it('more than the arena holds is sent in between, every byte right', () => {
    const bench = sealedBench();
    bench.session(PEER_2);
    const packets = Array.from({ length: 60 }, (_, i) =>
      udp({ destination: [2, 9], payload: payload(1200 + (i % 3), i) }),
    );
    drain(
      bench,
      packets.map((packet) => ({ packet })),
    );
    expect(bench.kernel.datagrams.map((message) => opened(message).packet)).toEqual(packets);
  });

  it('without a session they wait, the control thread is called once, and they leave when there is one', () => {
    const bench = sealedBench();
    const packets = [1, 2, 3].map((i) => udp({ destination: [2, 9], payload: payload(40, i) }));
    const forwarder = drain(
      bench,
      packets.map((packet) => ({ packet })),
    );
    expect(bench.calls).toHaveLength(1);
    forwarder.woken();
    expect(bench.kernel.sent).toEqual([]);
    bench.session(PEER_2);
    forwarder.woken();
    expect(bench.kernel.datagrams.map((message) => opened(message).packet)).toEqual(packets);
    expect(bench.sealDrops()).toEqual({ no_key: 3 });
  });

  it('those that waited in vain are dropped and counted, and never go to whoever gets the record', () => {
    const bench = sealedBench();
    const forwarder = drain(bench, [
      { packet: udp({ destination: [2, 9], payload: payload(40) }) },
      { packet: udp({ destination: [3, 9], payload: payload(41) }) },
    ]);
    bench.records.clear(PEER_2);
    bench.session(PEER_2);
    bench.session(PEER_3);
    forwarder.woken();
    expect(bench.kernel.sent.map(({ address }) => address)).toEqual([host(3)]);
    expect(bench.sealDrops()).toEqual({ no_key: 2, handshake_queue: 1 });
  });

  it('one that is too long for its path is answered with its own headers, and an MTU that is left inside', () => {
    const bench = sealedBench();
    bench.session(PEER_2);
    let refusals = 1;
    bench.kernel.onSend = () => (refusals-- > 0 ? EMSGSIZE : 0);
    const packet = udp({ destination: [2, 9], payload: payload(1392) });
    drain(bench, [{ packet }], 1400);
    const [answer] = bench.kernel.written;
    const error = parseIcmpError(answer!.packet);
    expect(error).toMatchObject({ type: 3, code: 4 });
    expect(error.quoted).toEqual(packet.subarray(0, error.quoted.length));
    // 1,400 less 28 for the underlay and 32 for the message is 1,340, and its padding has to fit as well
    expect(new DataView(answer!.packet.buffer, answer!.packet.byteOffset).getUint16(26)).toBe(1328);
  });
});

describe('datagrams from the socket', () => {
  it('are opened and merged; the tunnel is no hop', () => {
    const bench = sealedBench();
    const index = bench.session(PEER_2);
    const packets = Array.from({ length: 40 }, (_, i) =>
      inboundTcp({ id: i, sequence: i * 1384, payload: payload(1384, i) }),
    );
    receive([run(packets.map((packet, i) => sealed(index, i, packet)))], bench);
    expect(bench.kernel.written).toHaveLength(1);
    expect(delivered(bench)).toEqual(packets);
    expect(bench.counted('rx')).toMatchObject({ packets: 40, merged_packets: 40 });
    expect(bench.openDrops()).toEqual({});
  });

  it('more than the arena holds: nothing is overwritten before it is written', () => {
    const bench = sealedBench();
    const index = bench.session(PEER_2);
    const packets = Array.from({ length: 900 }, (_, i) => inboundUdp({ sourcePort: 1 + i, payload: payload(1000, i) }));
    const slots = Array.from({ length: 18 }, (_, slot) =>
      run(packets.slice(slot * 50, slot * 50 + 50).map((packet, i) => sealed(index, slot * 50 + i, packet))),
    );
    receive(slots, bench);
    const bySeed = (all: Uint8Array[]) => all.map((packet) => Buffer.from(packet).toString('base64')).sort();
    expect(bySeed(delivered(bench))).toEqual(bySeed(packets));
  });

  it('that a router marked as having met congestion hand the mark on, where the ends know marks', () => {
    const bench = sealedBench();
    const index = bench.session(PEER_2);
    let counter = 0;
    const inner = (tos: number, seed = 0) =>
      fixHeaderChecksum(altered(inboundUdp({ sourcePort: 1 + tos + seed, payload: payload(64, seed) }), { 1: tos }));
    const arrival = (outer: number, tos: number, seed = 0) =>
      datagram(sealed(index, counter++, inner(tos, seed)), { control: tosMessage(outer) });
    const marked = [4, 5].map((seed) => sealed(index, counter++, inner(2, seed)));
    receive(
      [
        ...[arrival(0, 2), arrival(2, 0x49), arrival(3, 0x4a), arrival(3, 0), arrival(3, 3, 1)],
        datagram(concat(...marked), { control: concat(groMessage(marked[0]!.length), tosMessage(0xff)) }),
      ],
      bench,
    );
    expect(delivered(bench)).toEqual([
      ...[inner(2), inner(0x49), remarked(inner(0x4a)), inner(0), inner(3, 1)],
      ...[remarked(inner(2, 4)), remarked(inner(2, 5))],
    ]);
  });

  it('come from anywhere, but the inner source belongs to the peer whose key it was', () => {
    const bench = sealedBench();
    const two = bench.session(PEER_2);
    const three = bench.session(PEER_3);
    const good = inboundUdp({ payload: payload(16) });
    receive(
      [
        datagram(sealed(two, 0, good), { from: host(77), port: 999 }),
        datagram(sealed(three, 0, good)),
        datagram(sealed(two, 1, inboundUdp({ source: [7, 7] }))),
        datagram(sealed(two, 2, inboundUdp({ destination: [9, 9] }))),
        datagram(sealed(two, 0, good)),
        datagram(altered(sealed(two, 3, good), { 40: 1 })),
        datagram(good),
      ],
      bench,
    );
    expect(delivered(bench)).toEqual([good]);
    expect(bench.dropped('rx')).toEqual({ spoofed_source: 2, foreign_destination: 1 });
    expect(bench.openDrops()).toEqual({ replayed: 1, not_authentic: 1, not_wireguard: 1 });
  });
});
