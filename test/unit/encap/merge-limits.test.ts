import { beforeEach, describe, expect, it } from 'vitest';
import { Merger } from '../../../src/encap/wire/merge.js';
import { MAX_ITEMS, MAX_MERGED } from '../../../src/encap/wire/merge-items.js';
import { arena } from './support/arena.js';
import { groups, merge } from './support/merging.js';
import { payload, tcp, udp } from './support/packets.js';

function stream(count: number, size: number, options: number[] = []): Uint8Array[] {
  return Array.from({ length: count }, (_, i) =>
    tcp({ sequence: 1000 + i * size, payload: payload(size, i), id: i, options }),
  );
}

const sizes = (packets: readonly Uint8Array[]) => groups(packets).map((members) => members.length);

describe('an item', () => {
  it('holds 64 segments at most', () => {
    expect(sizes(stream(MAX_MERGED, 10))).toEqual([64]);
    expect(sizes(stream(150, 10))).toEqual([64, 64, 22]);
    expect(sizes(Array.from({ length: 130 }, (_, i) => udp({ id: i, payload: payload(9, i) })))).toEqual([64, 64, 2]);
    expect(merge(stream(64, 10)).items[0]!.iovCount).toBe(65);
  });

  it.each([
    [1448, 60, 45],
    [8908, 10, 7],
    [13_099, 6, 5], // 40 + 5 × 13,099 = 65,535: just as long as a packet may be
    [13_100, 6, 4],
    [32_747, 3, 2],
    [32_748, 3, 1],
  ])('holds 65,535 bytes at most: of segments of %i bytes, %i in number, the first %i', (size, count, first) => {
    expect(sizes(stream(count, size))[0]).toBe(first);
    for (const { packet } of merge(stream(count, size)).items) expect(packet.length).toBeLessThanOrEqual(65_535);
  });

  it('takes a tail that just fits after segments that left room for no whole one', () => {
    const packets = stream(5, 16_000).map((packet, i) =>
      i < 4 ? packet : tcp({ sequence: 1000 + 64_000, payload: payload(1495), id: 4 }),
    );
    expect(sizes(packets)).toEqual([5]);
    expect(merge(packets).items[0]!.packet.length).toBe(65_535);
  });
});

describe('Merger', () => {
  const { memory, regions, sum } = arena(8 << 20);
  const merger = new Merger(memory, regions, sum, { tcp: true, udp: true });
  const start = regions.take(64);
  let next = start;
  beforeEach(() => {
    merger.reset();
    next = start;
  });

  function add(packet: Uint8Array): void {
    memory.u8.set(packet, next);
    merger.add(next, packet.length);
    next += packet.length;
  }

  /** Packet `index` of flow `flow`. */
  const flow = (number: number, index: number) =>
    tcp({ source: [1, number >> 8], sourcePort: number, sequence: index * 20, payload: payload(20, number) });

  it('is full after so many items, each of another flow, and not before', () => {
    for (let i = 0; i < MAX_ITEMS; i++) {
      expect(merger.items.full).toBe(false);
      add(flow(i, 0));
    }
    expect(merger.items.full).toBe(true);
    expect(merger.items.count).toBe(MAX_ITEMS);
  });

  it('finds each of so many flows again', () => {
    for (let index = 0; index < 3; index++) {
      for (let i = 0; i < MAX_ITEMS; i++) add(flow((i * 131) % MAX_ITEMS, index));
    }
    expect(merger.items.count).toBe(MAX_ITEMS);
    for (let item = 0; item < MAX_ITEMS; item++) expect(merger.items.segmentCount[item]).toBe(3);
  });

  it('has forgotten every flow after a reset', () => {
    for (let i = 0; i < MAX_ITEMS; i++) add(flow(i, 0));
    merger.reset();
    expect(merger.items.count).toBe(0);
    expect(merger.items.full).toBe(false);
    for (let i = 0; i < MAX_ITEMS; i++) add(flow(i, 1));
    expect(merger.items.count).toBe(MAX_ITEMS);
    for (let item = 0; item < MAX_ITEMS; item++) expect(merger.items.segmentCount[item]).toBe(1);
  });

  it('has forgotten how items grew when their numbers are used again', () => {
    for (const packet of stream(5, 30)) add(packet);
    merger.items.finish(0);
    merger.reset();
    add(udp({ payload: payload(30) }));
    merger.items.finish(0);
    expect(merger.items.iovCount(0)).toBe(2);
    const vnet = Number(new DataView(memory.memory.buffer).getBigUint64(merger.items.iov(0), true)) - memory.base;
    expect(memory.u8.slice(vnet, vnet + 10)).toEqual(new Uint8Array(10));
  });

  it('tells TCP from UDP', () => {
    for (const version of [4, 6] as const) {
      merger.reset();
      for (const index of [0, 1]) add(tcp({ version, sequence: index * 20, payload: payload(20) }));
      for (const _ of [0, 1]) add(udp({ version, payload: payload(20) }));
      expect([merger.items.isTcp(0), merger.items.isTcp(1)]).toEqual([true, false]);
    }
  });

  it('obeys options that change between two wake-ups', () => {
    merger.options.tcp = false;
    for (const packet of stream(3, 30)) add(packet);
    expect(merger.items.count).toBe(3);
    merger.reset();
    merger.options.tcp = true;
    for (const packet of stream(3, 30)) add(packet);
    expect(merger.items.count).toBe(1);
  });
});
