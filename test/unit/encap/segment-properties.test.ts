import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { splitter } from './support/arena.js';
import { ACK, CWR, ECE, FIN, offloaded, PSH, payload, tcp, udp } from './support/packets.js';
import { concat, faults, parse, referenceSplit, sameBytes } from './support/reference.js';

const { split, begin, segmenter } = splitter();

const ipFields = {
  version: fc.constantFrom<4 | 6>(4, 6),
  source: fc.tuple(fc.nat(255), fc.nat(255)),
  destination: fc.tuple(fc.nat(255), fc.nat(255)),
  ttl: fc.nat(255),
  tos: fc.nat(255),
  id: fc.nat(65_535),
  fragment: fc.constantFrom(0, 0x4000),
  flowLabel: fc.nat(0xfffff),
  ipOptions: fc.constantFrom<number[]>([], [1, 1, 1, 1]),
  sourcePort: fc.nat(65_535),
  destinationPort: fc.nat(65_535),
};
const lengths = fc.oneof(fc.integer({ min: 1, max: 400 }), fc.integer({ min: 1, max: 9000 }));
const superPacket = fc
  .record({
    protocol: fc.constantFrom('tcp', 'udp'),
    length: lengths,
    seed: fc.nat(255),
    size: fc.oneof(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 61, max: 9000 })),
    ...ipFields,
    sequence: fc.oneof(fc.integer({ min: 0, max: 2 ** 32 - 1 }), fc.integer({ min: 2 ** 32 - 9000, max: 2 ** 32 - 1 })),
    acknowledgement: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    flags: fc.subarray([PSH, FIN, ECE, CWR]).map((set) => set.reduce((all, flag) => all | flag, ACK)),
    reserved: fc.nat(15),
    window: fc.nat(65_535),
    urgent: fc.nat(65_535),
    options: fc.constantFrom<number[]>([], [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 1], Array(40).fill(1)),
  })
  .map(({ protocol, length, seed, size, ...fields }) => {
    const all = { ...fields, payload: payload(length, seed) };
    return { size, whole: protocol === 'tcp' ? tcp(all) : udp(all) };
  });

describe('splitting', () => {
  it('gives what the reference gives: right checksums, and all of the payload in order', () => {
    fc.assert(
      fc.property(superPacket, ({ whole, size }) => {
        const { vnet, packet } = offloaded(whole, size);
        const pieces = split(vnet, packet)!;
        expect(sameBytes(concat(...pieces), concat(...referenceSplit(whole, size)))).toBe(true);
        expect(pieces.flatMap(faults)).toEqual([]);
        expect(sameBytes(concat(...pieces.map((piece) => parse(piece).payload)), parse(whole).payload)).toBe(true);
        expect(pieces.every((piece) => parse(piece).payload.length <= size)).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });

  it('survives any bytes with any virtio-net header, and stays within its bounds', () => {
    const change = fc.record({ at: fc.nat(70), value: fc.nat(255) });
    const headerChange = fc.oneof(
      fc.constant({}),
      fc.record({ type: fc.nat(255) }),
      fc.record({ size: fc.nat(65_535) }),
      fc.record({ start: fc.oneof(fc.nat(80), fc.nat(65_535)) }),
    );
    const changed = fc
      .tuple(superPacket, fc.array(change, { maxLength: 3 }), headerChange, fc.option(fc.nat(120)))
      .map(([{ whole, size }, changes, header, length]) => {
        const { vnet, packet } = offloaded(whole, size);
        for (const { at, value } of changes) packet[Math.min(at, packet.length - 1)] = value;
        return { vnet: { ...vnet, ...header }, packet: packet.slice(0, length ?? packet.length) };
      });
    let accepted = 0;
    fc.assert(
      fc.property(changed, ({ vnet, packet }) => {
        if (!begin(vnet, packet)) return;
        accepted++;
        const { headerLength, count } = segmenter;
        expect(headerLength).toBeLessThanOrEqual(120);
        expect(headerLength).toBeLessThan(packet.length);
        const payloads = Array.from({ length: count }, (_, i) => segmenter.payloadLength(i));
        expect(payloads.every((length) => length > 0 && length <= vnet.size)).toBe(true);
        expect(payloads.reduce((sum, length) => sum + length, headerLength)).toBe(packet.length);
      }),
      { numRuns: 3000 },
    );
    expect(accepted).toBeGreaterThan(300);
  });
});
