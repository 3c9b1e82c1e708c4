/** Packets whose checksum, and maybe segments, another kernel has left undone. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { altered, fixHeaderChecksum, payload, type TcpFields, type UdpFields } from './support/packets.js';
import { datagram, forwarded, inboundTcp, inboundUdp, receive, run } from './support/receiving.js';
import { deliver, fillChecksums, plainSum, word } from './support/reference.js';
import { type Workbench, workbench } from './support/workbench.js';

const bench = (changes = {}) => workbench({ mayBeUnfinished: true, ...changes });

/** As a kernel leaves a packet whose checksum somebody else is to complete: the sum of the pseudo-header. */
function unfinished(packet: Uint8Array): Uint8Array {
  const length = packet.length - 20;
  const pseudo = Uint8Array.of(...packet.subarray(12, 20), 0, packet[9]!, length >> 8, length & 255);
  const sum = plainSum(pseudo);
  const field = packet[9] === 6 ? 36 : 26;
  return altered(packet, { [field]: sum >> 8, [field + 1]: sum & 255 });
}

/** What the kernel behind the TUN makes of it: what is to be completed is completed. */
function finished({ kernel }: Workbench): Uint8Array[] {
  return kernel.written.flatMap(({ vnet, packet }) => {
    if (vnet.type !== 0 || vnet.flags === 0) return deliver(vnet, packet);
    const offset = packet[9] === 6 ? 16 : 6;
    expect(vnet).toEqual({ flags: 1, type: 0, headerLength: 0, size: 0, start: 20, offset });
    // the rest of the packet is what it was, so only this sum is made anew
    return [fillChecksums(packet)];
  });
}

describe('an unfinished packet', () => {
  it.each([
    ['TCP', inboundTcp({ payload: payload(100) })],
    ['UDP', inboundUdp({ payload: payload(100) })],
    ['a pure acknowledgement', inboundTcp({ payload: payload(0) })],
    ['an empty datagram', inboundUdp({ payload: payload(0) })],
  ])('is finished by the kernel behind the TUN: %s', (_, packet) => {
    const done = receive([datagram(unfinished(packet))], bench());
    expect(done.kernel.written).toHaveLength(1);
    expect(done.kernel.written[0]?.vnet).toMatchObject({ flags: 1, type: 0 });
    expect(finished(done)).toEqual([forwarded(packet)]);
    expect(done.counted('rx')).toMatchObject({ unfinished_packets: 1, packets: 1, writes: 1 });
  });

  it('is finished whatever it holds', () => {
    fc.assert(
      fc.property(fc.boolean(), fc.uint8Array({ maxLength: 1400 }), fc.nat(65_535), (tcp, bytes, port) => {
        const fields = { payload: bytes, sourcePort: port };
        const packet = tcp ? inboundTcp(fields as Partial<TcpFields>) : inboundUdp(fields as Partial<UdpFields>);
        expect(finished(receive([datagram(unfinished(packet))], bench()))).toEqual([forwarded(packet)]);
      }),
      { numRuns: 200 },
    );
  });

  it('is finished here where the TUN takes no such note', () => {
    for (const packet of [inboundTcp({ payload: payload(77) }), inboundUdp({ payload: payload(78) })]) {
      const done = receive(
        [datagram(unfinished(packet))],
        bench({ vnetHeader: false, mergeTcp: false, mergeUdp: false }),
      );
      expect(done.kernel.written.map((write) => write.packet)).toEqual([forwarded(packet)]);
    }
  });

  it('is cut to segments that fit the overlay when it is longer than any packet of it', () => {
    const whole = inboundTcp({ payload: payload(5000), flags: 0x18 });
    const done = receive([datagram(unfinished(whole))], bench());
    expect(done.kernel.written).toHaveLength(1);
    expect(done.kernel.written[0]?.vnet).toMatchObject({ flags: 1, type: 1, size: 1432 });
    const segments = finished(done);
    expect(segments.map(({ length }) => length)).toEqual([1472, 1472, 1472, 744]);
    expect(Buffer.concat(segments.map((segment) => segment.subarray(40)))).toEqual(Buffer.from(payload(5000)));
    for (const segment of segments) expect(segment[33]! & 0x10).toBe(0x10);
  });

  it('comes behind what came before it, and before what came after', () => {
    const segment = (i: number) => inboundTcp({ sequence: i * 100, id: i, payload: payload(100, i) });
    const packets = [segment(0), segment(1), unfinished(segment(2)), segment(3), segment(4)];
    const done = receive(
      packets.map((packet) => datagram(packet)),
      bench(),
    );
    expect(finished(done)).toEqual([0, 1, 2, 3, 4].map((i) => forwarded(segment(i))));
    expect(done.kernel.written).toHaveLength(3);
  });

  it('is as good in a run of datagrams', () => {
    const packets = [0, 1, 2].map((i) => inboundUdp({ id: i, payload: payload(100, i) }));
    const done = receive([run(packets.map(unfinished))], bench());
    expect(finished(done)).toEqual(packets.map(forwarded));
  });
});

describe('what is handed on as it came', () => {
  const asItCame = (packet: Uint8Array, changes = {}) => {
    const done = receive([datagram(packet)], bench(changes));
    expect(done.kernel.written).toHaveLength(1);
    expect(done.kernel.written[0]).toMatchObject({ vnet: { flags: 0, type: 0 }, packet: forwarded(packet) });
    expect(done.counted('rx')).not.toHaveProperty('unfinished_packets');
  };

  it('is a wrong checksum, whatever else it is', () => {
    const packet = inboundTcp({ payload: payload(100) });
    const right = word(packet, 36);
    const pseudo = word(unfinished(packet), 36);
    for (const value of [0, 1, right ^ 1, pseudo ^ 1, pseudo ^ 0xffff, 0xffff]) {
      if (value !== pseudo) asItCame(altered(packet, { 36: value >> 8, 37: value & 255 }));
    }
  });

  it('is a datagram without checksum', () => {
    asItCame(altered(inboundUdp({ payload: payload(50) }), { 26: 0, 27: 0 }));
  });

  it('is everything where the underlay finishes what it carries', () => {
    asItCame(unfinished(inboundTcp({ payload: payload(100) })), { mayBeUnfinished: false });
    asItCame(unfinished(inboundUdp({ payload: payload(100) })), { mayBeUnfinished: false });
  });

  it('is a fragment, and what is too short to have a checksum', () => {
    asItCame(unfinished(inboundUdp({ payload: payload(100), fragment: 0x2000 })));
    asItCame(fixHeaderChecksum(altered(inboundTcp().slice(0, 20), { 2: 0, 3: 20 })));
  });
});
