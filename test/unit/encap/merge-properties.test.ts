import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { splitter } from './support/arena.js';
import { checkAgainstModel, merge } from './support/merging.js';
import {
  ACK,
  CWR,
  ECE,
  FIN,
  fixHeaderChecksum,
  icmp,
  MORE_FRAGMENTS,
  offloaded,
  PSH,
  payload,
  tcp,
  udp,
} from './support/packets.js';
import { deliver, faults, parse, referenceSplit, sameBytes, TCP } from './support/reference.js';

const { split } = splitter();

interface SuperPacket {
  readonly whole: Uint8Array;
  readonly size: number;
}

const TIMESTAMPS = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 1];

/** A super-packet of few flows, so that several of them belong together or nearly do. */
function superPackets(flags: readonly number[], most: number): fc.Arbitrary<SuperPacket> {
  return fc
    .record({
      protocol: fc.constantFrom('tcp', 'tcp', 'udp'),
      version: fc.constantFrom<4 | 6>(4, 4, 6),
      size: fc.integer({ min: 1, max: 120 }),
      segments: fc.integer({ min: 1, max: most }),
      tail: fc.nat(119),
      seed: fc.nat(255),
      sourcePort: fc.constantFrom(1, 2),
      sequence: fc.constantFrom(0, 100, 2 ** 32 - 100),
      id: fc.constantFrom(0, 65_530),
      fragment: fc.constantFrom(0, 0x4000),
      tos: fc.constantFrom(0, 0, 0, 2, 3),
      flags: fc.subarray([...flags]).map((set) => set.reduce((all, flag) => all | flag, ACK)),
      options: fc.constantFrom<number[]>([], TIMESTAMPS),
    })
    .map(({ protocol, size, segments, tail, seed, ...fields }) => {
      const length = size * (segments - 1) + 1 + (tail % size);
      const all = { ...fields, payload: payload(length, seed) };
      return { whole: protocol === 'tcp' ? tcp(all) : udp(all), size };
    });
}

/** Packets of several flows, each in order, dealt out in any order between the flows. */
const traffic = fc
  .tuple(
    fc.array(superPackets([PSH, ECE, CWR, FIN], 8), { minLength: 1, maxLength: 5, size: 'max' }),
    fc.array(fc.nat(99), { maxLength: 40, size: 'max' }),
  )
  .map(([supers, choices]) => {
    const queues = supers.map(({ whole, size }) => referenceSplit(whole, size));
    const dealt: Uint8Array[] = [];
    for (let i = 0; queues.some((queue) => queue.length > 0); i++) {
      const waiting = queues.filter((queue) => queue.length > 0);
      dealt.push(waiting[(choices[i] ?? 0) % waiting.length]!.shift()!);
    }
    return dealt;
  });

type Mishap = { readonly kind: string; readonly at: number; readonly value: number };
const mishap: fc.Arbitrary<Mishap> = fc.record({
  kind: fc.constantFrom('lose', 'double', 'swap', 'flip', 'byte', 'header', 'cut', 'stranger', 'move'),
  at: fc.nat(999),
  value: fc.nat(0xffff),
});

const STRANGERS = [
  icmp(8),
  tcp({ fragment: MORE_FRAGMENTS, payload: payload(64) }),
  tcp({ fragment: 8, payload: payload(64) }),
  tcp({ ipOptions: [1, 1, 1, 1], payload: payload(20) }),
  tcp({ sourcePort: 1, sequence: 100 }),
  tcp({ sourcePort: 1, sequence: 220, acknowledgement: 5001 }),
  udp({ sourcePort: 1 }),
];

/** What a network, or somebody in it, may do to a sequence of packets. */
function suffer(packets: readonly Uint8Array[], mishaps: readonly Mishap[]): Uint8Array[] {
  const list = packets.map((packet) => packet.slice());
  for (const { kind, at, value } of mishaps) {
    const i = at % Math.max(1, list.length);
    const packet = list[i];
    if (packet === undefined) break;
    const ipLength = packet[0]! >> 4 === 4 ? (packet[0]! & 15) * 4 : 40;
    if (kind === 'lose') list.splice(i, 1);
    else if (kind === 'double') list.splice(value % (list.length + 1), 0, packet.slice());
    else if (kind === 'swap' && i > 0) [list[i - 1], list[i]] = [packet, list[i - 1]!];
    else if (kind === 'move') list.splice(value % list.length, 0, ...list.splice(i, 1));
    else if (kind === 'stranger') list.splice(i, 0, STRANGERS[value % STRANGERS.length]!.slice());
    else if (kind === 'flip') {
      const where = ipLength + ((value >> 3) % (packet.length - ipLength));
      packet[where]! ^= 1 << (value & 7);
    } else if (kind === 'byte') packet[ipLength + ((value >> 8) % (packet.length - ipLength))] = value & 255;
    else if (kind === 'header') {
      // the forwarder lets only right header checksums pass, so whatever a header says, its checksum agrees
      packet[1 + ((value >> 8) % 8)] = value & 255;
      if (packet[0] === 0x45) fixHeaderChecksum(packet);
    } else if (kind === 'cut') list[i] = packet.slice(0, Math.max(ipLength, packet.length - 1 - (value % 40)));
  }
  return list.filter((packet) => packet[0] === 0x45 || packet[0]! >> 4 === 6 || packet[0] === 0x46);
}

/** What a receiver gets of a flow: the payloads of the good packets, in order of arrival. */
function goodPackets(packets: readonly Uint8Array[]): number {
  return packets.filter((packet) => {
    try {
      return faults(packet).length === 0;
    } catch {
      return false;
    }
  }).length;
}

/** What is shorter is not merged, since not every kernel would cut it again. */
const SHORTEST_TCP = 8;

describe('splitting and then merging', () => {
  it('is the identity', () => {
    fc.assert(
      fc.property(superPackets([PSH, ECE], 64), fc.nat(15), ({ whole, size }, alignment) => {
        const { vnet, packet } = offloaded(whole, size);
        const pieces = split(vnet, packet)!;
        const { items, badChecksums } = merge(pieces, undefined, alignment);
        expect(badChecksums).toBe(0);
        const { protocol, ipLength, transportHeader } = parse(whole);
        if (protocol === TCP && size < SHORTEST_TCP) {
          expect(items.map((item) => item.packet)).toEqual(pieces);
          return;
        }
        expect(items).toHaveLength(1);
        if (pieces.length === 1) expect(sameBytes(items[0]!.packet, whole)).toBe(true);
        else {
          expect(sameBytes(items[0]!.packet, packet)).toBe(true);
          expect(items[0]!.vnet).toEqual({ ...vnet, headerLength: ipLength + transportHeader });
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('is the identity for full-sized super-packets', () => {
    fc.assert(
      fc.property(
        fc.constantFrom<4 | 6>(4, 6),
        fc.integer({ min: 1100, max: 9000 }),
        fc.integer({ min: 1, max: 65_400 }),
        fc.boolean(),
        (version, size, length, isTcp) => {
          const whole = (isTcp ? tcp : udp)({ version, payload: payload(length) });
          const { vnet, packet } = offloaded(whole, size);
          const { items } = merge(split(vnet, packet)!);
          expect(items).toHaveLength(1);
          expect(sameBytes(items[0]!.packet, length > size ? packet : whole)).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe('merging', () => {
  it('of interleaved flows keeps each of them as it was', () => {
    fc.assert(
      fc.property(traffic, fc.nat(15), (packets, alignment) => {
        const { items } = merge(packets, undefined, alignment);
        checkAgainstModel(packets, items);
      }),
      { numRuns: 1500 },
    );
  });

  it('invents, loses, reorders and repairs nothing, whatever was lost, doubled, reordered or corrupted before', () => {
    let merged = 0;
    fc.assert(
      fc.property(
        traffic,
        fc.array(mishap, { minLength: 1, maxLength: 12, size: 'max' }),
        fc.record({ tcp: fc.boolean(), udp: fc.boolean() }),
        (sent, mishaps, options) => {
          const packets = suffer(sent, mishaps);
          const { items } = merge(packets, options);
          checkAgainstModel(packets, items);
          const delivered = items.flatMap(({ vnet, packet }) => deliver(vnet, packet));
          expect(goodPackets(delivered)).toBe(goodPackets(packets));
          merged += packets.length - items.length;
        },
      ),
      { numRuns: 4000 },
    );
    expect(merged).toBeGreaterThan(5000);
  });

  it('survives any bytes', () => {
    const bytes = fc
      .tuple(fc.uint8Array({ minLength: 1, maxLength: 90, size: 'max' }), fc.constantFrom(0x45, 0x45, 0x60, 0x46, 0x00))
      .map(([packet, first]) => {
        packet[0] = first;
        if (packet.length > 9) packet[first === 0x60 ? 6 : 9] = packet[packet.length - 1]! & 1 ? 6 : 17;
        if (packet.length > 5 && first !== 0x60) packet.set([0, packet.length], 2);
        if (packet.length > 40 && first === 0x60) packet.set([0, packet.length - 40], 4);
        return packet;
      });
    fc.assert(
      fc.property(fc.array(bytes, { maxLength: 30, size: 'max' }), (packets) => {
        const { items } = merge(packets);
        const order = items.flatMap(({ members }) => members);
        expect([...order].sort((a, b) => a - b)).toEqual(packets.map((_, i) => i));
      }),
      { numRuns: 1500 },
    );
  });
});
