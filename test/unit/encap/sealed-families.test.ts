/** Sealed datagrams whose packets are of either family, over an underlay of either. */
import { describe, expect, it } from 'vitest';
import { EMSGSIZE } from '../../../src/linux/constants.js';
import { endpointOf } from '../../../src/wireguard/endpoint.js';
import type { Arrival } from './support/fake-kernel.js';
import { addressIn, benchOf, drain, FAMILIES, receiveBy } from './support/families.js';
import { altered, offloaded, payload, tcp, udp } from './support/packets.js';
import { delivered, inboundTcp, inboundUdp, run } from './support/receiving.js';
import { parseIcmpError, parseIcmpv6Error, referenceSplit } from './support/reference.js';
import { opened, PEER_2, PEER_3, SEALED, sealed, sealedBench } from './support/sealed.js';

const benchOver = (outer: 4 | 6) => sealedBench(benchOf(outer, SEALED));

describe.each(FAMILIES)('sealed, IPv%i over IPv%i', (inner, outer) => {
  const family = { version: inner };
  const from = (n: number) => addressIn(outer, n);

  it('a super-packet leaves as messages to the peer, its segments as they would be alone', () => {
    const bench = benchOver(outer);
    bench.session(PEER_2);
    const whole = tcp({ ...family, destination: [2, 9], payload: payload(20 * 1380 + 100) });
    drain(bench, [offloaded(whole, 1380)]);
    expect(bench.kernel.sent).toMatchObject([{ address: from(2), port: 8285 }]);
    expect(bench.kernel.datagrams.map((message) => opened(message).packet)).toEqual(referenceSplit(whole, 1380));
    expect([bench.sealDrops(), bench.dropped('tx')]).toEqual([{}, {}]);
  });

  it('waits for a session, and leaves when there is one', () => {
    const bench = benchOver(outer);
    const packets = [1, 2].map((i) => udp({ ...family, destination: [2, 9], payload: payload(40, i) }));
    bench.kernel.tunReads.push(...packets.map((packet) => ({ packet })));
    const forwarder = bench.tx();
    forwarder.turn();
    expect(bench.kernel.sent).toEqual([]);
    bench.session(PEER_2);
    forwarder.woken();
    expect(bench.kernel.datagrams.map((message) => opened(message).packet)).toEqual(packets);
    expect(bench.kernel.sent.map(({ address }) => address)).toEqual([from(2), from(2)]);
  });

  it('one that is too long for its path is answered with its own headers, and an MTU that is left inside', () => {
    const bench = benchOver(outer);
    bench.session(PEER_2);
    let refusals = 1;
    bench.kernel.onSend = () => (refusals-- > 0 ? EMSGSIZE : 0);
    const packet = udp({ ...family, destination: [2, 9], payload: payload(1392) });
    drain(bench, [{ packet }], 1400);
    const [answer] = bench.kernel.written;
    const view = new DataView(answer!.packet.buffer, answer!.packet.byteOffset);
    // 1,400 less 28 or 48 for the underlay and 32 for the message, and its padding has to fit as well
    const left = outer === 4 ? 1328 : 1312;
    const error = inner === 4 ? parseIcmpError(answer!.packet) : parseIcmpv6Error(answer!.packet);
    expect(error).toMatchObject(inner === 4 ? { type: 3, code: 4 } : { type: 2, code: 0 });
    expect(inner === 4 ? view.getUint16(26) : view.getUint32(44)).toBe(left);
    expect(error.quoted).toEqual(packet.subarray(0, error.quoted.length));
  });

  it('a run is opened and merged; the tunnel is no hop', () => {
    const bench = benchOver(outer);
    const index = bench.session(PEER_2);
    const packets = Array.from({ length: 20 }, (_, i) =>
      inboundTcp({ ...family, id: i, sequence: i * 1000, payload: payload(1000, i) }),
    );
    const messages = packets.map((packet, i) => sealed(index, i, packet));
    receiveBy(outer, bench, [run(messages, { from: from(2) })]);
    expect(bench.kernel.written).toHaveLength(1);
    expect(delivered(bench)).toEqual(packets);
    expect(bench.counted('rx')).toMatchObject({ packets: 20, merged_packets: 20 });
  });

  it('comes from anywhere, but the inner source belongs to the peer whose key it was', () => {
    const bench = benchOver(outer);
    const two = bench.session(PEER_2);
    const three = bench.session(PEER_3);
    const good = inboundUdp({ ...family, payload: payload(16) });
    const arrive = (bytes: Uint8Array, changes: object = {}): Arrival => ({ bytes, from: from(2), ...changes });
    receiveBy(outer, bench, [
      arrive(sealed(two, 0, good), { from: from(77), port: 999 }),
      arrive(sealed(three, 0, good)),
      arrive(sealed(two, 1, inboundUdp({ ...family, source: [7, 7] }))),
      arrive(sealed(two, 2, inboundUdp({ ...family, destination: [9, 9] }))),
      arrive(sealed(two, 0, good)),
      arrive(altered(sealed(two, 3, good), { 40: 1 })),
      arrive(good),
    ]);
    expect(delivered(bench)).toEqual([good]);
    expect(bench.dropped('rx')).toEqual({ spoofed_source: 2, foreign_destination: 1 });
    expect(bench.openDrops()).toEqual({ replayed: 1, not_authentic: 1, not_wireguard: 1 });
  });

  it('tells where the peer speaks from, the family included', () => {
    const bench = benchOver(outer);
    const index = bench.session(PEER_2);
    const packet = inboundUdp({ ...family, payload: payload(16) });
    receiveBy(outer, bench, [{ bytes: sealed(index, 0, packet), from: from(77), port: 999 }]);
    expect(bench.records.seenSince(PEER_2, 0)?.endpoint).toEqual(endpointOf(from(77), 999));
    const version = bench.records.seenSince(PEER_2, 0)!.version;
    // from the same place again there is nothing new; by the other socket there is
    receiveBy(outer, bench, [{ bytes: sealed(index, 1, packet), from: from(77), port: 999 }]);
    expect(bench.records.seenSince(PEER_2, version)).toBeUndefined();
    const other = outer === 4 ? 6 : 4;
    receiveBy(other, bench, [{ bytes: sealed(index, 2, packet), from: addressIn(other, 5), port: 7 }]);
    expect(bench.records.seenSince(PEER_2, version)?.endpoint).toEqual(endpointOf(addressIn(other, 5), 7));
    expect(delivered(bench)).toHaveLength(3);
  });

  it('a message that came by one socket is a replay by the other', () => {
    const bench = benchOver(outer);
    const index = bench.session(PEER_2);
    const message = sealed(index, 0, inboundUdp({ ...family, payload: payload(16) }));
    receiveBy(outer, bench, [{ bytes: message, from: from(2) }]);
    const other = outer === 4 ? 6 : 4;
    receiveBy(other, bench, [{ bytes: message, from: addressIn(other, 2) }]);
    expect(delivered(bench)).toHaveLength(1);
    expect(bench.openDrops()).toEqual({ replayed: 1 });
  });
});
