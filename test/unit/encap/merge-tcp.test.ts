import { describe, expect, it } from 'vitest';
import { groups, merge } from './support/merging.js';
import {
  ACK,
  altered,
  CWR,
  corrupted,
  ECE,
  FIN,
  fixHeaderChecksum,
  icmp,
  MORE_FRAGMENTS,
  PSH,
  payload,
  RST,
  SYN,
  type TcpFields,
  tcp,
  URG,
} from './support/packets.js';
import { fillChecksums, parse } from './support/reference.js';

const SIZE = 100;
const TIMESTAMPS = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 1];

describe.each([4, 6] as const)('merging TCP over IPv%i', (version) => {
  /** Segment number `index` of a flow whose segments are all of one size. */
  const segment = (index: number, fields: Partial<TcpFields> = {}): Uint8Array =>
    tcp({ version, sequence: (1000 + index * SIZE) % 2 ** 32, id: index, payload: payload(SIZE, index), ...fields });
  const other = (index: number, fields: Partial<TcpFields> = {}) => segment(index, { sourcePort: 7, ...fields });

  it('writes a packet that stays alone as it came', () => {
    const alone = segment(0, { flags: ACK | PSH });
    const [item] = merge([alone]).items;
    expect(item).toMatchObject({ packet: alone, iovCount: 2, vnet: { flags: 0, type: 0, size: 0, start: 0 } });
  });

  it('merges neighbours, and the kernel would make the same packets of it again', () => {
    expect(groups([segment(0), segment(1), segment(2)])).toEqual([[0, 1, 2]]);
    const [item] = merge([segment(0), segment(1), segment(2)]).items;
    expect(item!.packet.length).toBe((version === 4 ? 20 : 40) + 20 + 300);
    expect(item!.vnet).toMatchObject({ flags: 1, type: version === 4 ? 1 : 4, size: SIZE });
  });

  it('merges at every alignment of the packets', () => {
    for (let alignment = 0; alignment < 16; alignment++) {
      const { items } = merge([segment(0), segment(1), segment(2)], undefined, alignment);
      expect(items.map(({ members }) => members)).toEqual([[0, 1, 2]]);
    }
  });

  it('merges across the wrap of the sequence number', () => {
    const wrapping = (index: number) => segment(index, { sequence: (2 ** 32 - 150 + index * SIZE) % 2 ** 32 });
    expect(groups([wrapping(0), wrapping(1), wrapping(2)])).toEqual([[0, 1, 2]]);
  });

  it('merges none so short that the kernel would not cut it again, but for a tail', () => {
    const short = (index: number, size: number) =>
      segment(index, { sequence: 1000 + index * size, payload: payload(size, index) });
    expect(groups([0, 1, 2].map((index) => short(index, 7)))).toEqual([[0], [1], [2]]);
    expect(groups([0, 1, 2].map((index) => short(index, 8)))).toEqual([[0, 1, 2]]);
    const tail = segment(2, { payload: payload(1) });
    expect(groups([segment(0), segment(1), tail])).toEqual([[0, 1, 2]]);
  });

  it('merges segments with equal options', () => {
    expect(groups([0, 1, 2].map((i) => segment(i, { options: TIMESTAMPS })))).toEqual([[0, 1, 2]]);
  });

  it.each<[string, readonly Uint8Array[], number[][]]>([
    ['a gap in the sequence', [segment(0), segment(2), segment(3)], [[0], [1, 2]]],
    ['a step back in the sequence', [segment(1), segment(0)], [[0], [1]]],
    ['a duplicate', [segment(0), segment(0), segment(1)], [[0], [1, 2]]],
    ['another acknowledgement', [segment(0), segment(1, { acknowledgement: 5001 }), segment(2)], [[0], [1], [2]]],
    ['another window', [segment(0), segment(1, { window: 503 })], [[0], [1]]],
    ['another urgent pointer', [segment(0), segment(1, { urgent: 1 })], [[0], [1]]],
    ['reserved bits, one of which is the AE of accurate ECN', [segment(0), segment(1, { reserved: 1 })], [[0], [1]]],
    ['options where there were none', [segment(0), segment(1, { options: TIMESTAMPS })], [[0], [1]]],
    [
      'other options of the same length',
      [segment(0, { options: TIMESTAMPS }), segment(1, { options: TIMESTAMPS.with(11, 2) })],
      [[0], [1]],
    ],
    ['another type of service', [segment(0), segment(1, { tos: 0x20 })], [[0], [1]]],
    ['a congestion mark on the second', [segment(0, { tos: 2 }), segment(1, { tos: 3 })], [[0], [1]]],
    ['ECT(0) and then ECT(1)', [segment(0, { tos: 2 }), segment(1, { tos: 1 })], [[0], [1]]],
    ['another TTL', [segment(0), segment(1, { ttl: 62 })], [[0], [1]]],
    ['a longer segment', [segment(0), segment(1, { payload: payload(101) })], [[0], [1]]],
    ['another source port', [segment(0), other(1)], [[0], [1]]],
    ['another destination port', [segment(0), segment(1, { destinationPort: 7 })], [[0], [1]]],
    ['another source', [segment(0), segment(1, { source: [1, 3] })], [[0], [1]]],
    ['another destination', [segment(0), segment(1, { destination: [2, 3] })], [[0], [1]]],
    ['ECE where there was none', [segment(0), segment(1, { flags: ACK | ECE })], [[0], [1]]],
    ['no more ECE', [segment(0, { flags: ACK | ECE }), segment(1)], [[0], [1]]],
  ])('does not merge over %s', (_, packets, expected) => {
    expect(groups(packets)).toEqual(expected);
  });

  it('merges a run with ECE throughout', () => {
    expect(groups([0, 1, 2].map((i) => segment(i, { flags: ACK | ECE })))).toEqual([[0, 1, 2]]);
  });

  it('ends an item with a shorter segment', () => {
    const short = segment(2, { payload: payload(60) });
    expect(groups([segment(0), segment(1), short, segment(3, { sequence: 1260 })])).toEqual([[0, 1, 2], [3]]);
  });

  it('ends an item with PSH, which the merged packet carries', () => {
    const packets = [segment(0), segment(1, { flags: ACK | PSH }), segment(2), segment(3)];
    expect(groups(packets)).toEqual([
      [0, 1],
      [2, 3],
    ]);
    expect(merge(packets).items.map(({ packet }) => parse(packet).flags)).toEqual([ACK | PSH, ACK]);
  });

  it('starts a new item after a single segment with PSH', () => {
    expect(groups([segment(0, { flags: ACK | PSH }), segment(1), segment(2)])).toEqual([[0], [1, 2]]);
  });

  it.each([
    ['FIN', ACK | FIN],
    ['FIN and PSH', ACK | FIN | PSH],
    ['SYN', ACK | SYN],
    ['RST', ACK | RST],
    ['URG', ACK | URG],
    ['CWR', ACK | CWR],
    ['CWR and ECE', ACK | CWR | ECE],
    ['no ACK', 0],
    ['PSH without ACK', PSH],
  ])('sends a segment with %s alone and lets nothing join what came before it', (_, flags) => {
    expect(groups([segment(0), segment(1), segment(2, { flags }), segment(3), segment(4)])).toEqual([
      [0, 1],
      [2],
      [3, 4],
    ]);
    // the segment that would have continued the open item stays behind the special one
    expect(groups([segment(0), segment(9, { flags }), segment(1)])).toEqual([[0], [1], [2]]);
  });

  it('sends a pure acknowledgement alone and merges on around it', () => {
    const pure = segment(1, { payload: new Uint8Array(0) });
    expect(groups([segment(0), pure, segment(1), pure, segment(2)])).toEqual([[0, 2, 4], [1], [3]]);
  });

  it('does not take a pure acknowledgement for the start of an item', () => {
    const pure = segment(0, { payload: new Uint8Array(0) });
    expect(groups([pure, pure, segment(0), segment(1)])).toEqual([[0], [1], [2, 3]]);
  });

  it('keeps interleaved flows apart, each in its order', () => {
    const packets = [
      segment(0),
      other(0),
      segment(1),
      other(1),
      segment(2, { flags: ACK | PSH }),
      other(2),
      segment(3),
    ];
    expect(groups(packets)).toEqual([[0, 2, 4], [1, 3, 5], [6]]);
  });

  it('keeps the two directions of a connection apart', () => {
    const back = (index: number) =>
      segment(index, { source: [2, 2], destination: [1, 2], sourcePort: 5201, destinationPort: 40_000 });
    expect(groups([segment(0), back(0), segment(1), back(1)])).toEqual([
      [0, 2],
      [1, 3],
    ]);
  });

  it.each([1, 2, 19, 21, 50, SIZE])(
    'never merges a packet whose checksum is wrong (bit %i bytes from the end)',
    (fromEnd) => {
      const bad = corrupted(segment(1), fromEnd);
      expect(groups([segment(0), bad, segment(2), segment(3)])).toEqual([[0], [1], [2, 3]]);
      expect(groups([corrupted(segment(0), fromEnd), segment(1), segment(2)])).toEqual([[0], [1, 2]]);
      expect(groups([segment(0), segment(1), corrupted(segment(2), fromEnd)])).toEqual([[0, 1], [2]]);
    },
  );

  it('counts each wrong checksum that it finds once', () => {
    expect(merge([segment(0), segment(1)]).badChecksums).toBe(0);
    expect(merge([segment(0), corrupted(segment(1)), segment(2)]).badChecksums).toBe(1);
    expect(merge([corrupted(segment(0)), corrupted(segment(1)), segment(2)]).badChecksums).toBe(2);
  });

  it('sends everything alone when merged TCP is off', () => {
    expect(groups([segment(0), segment(1)], { tcp: false, udp: true })).toEqual([[0], [1]]);
  });

  it.each<[string, Uint8Array]>([
    ['ends inside the TCP header', truncated(segment(5), version, 19)],
    ['has a TCP header of 16 bytes', altered(segment(5), { [(version === 4 ? 20 : 40) + 12]: 0x40 })],
    ['has a TCP header longer than itself', truncated(segment(5, { options: TIMESTAMPS }), version, 31)],
    ['has no TCP header', truncated(segment(5), version, 0)],
  ])('closes all flows when a packet %s', (_, unreadable) => {
    expect(groups([segment(0), other(0), unreadable, segment(1), other(1), segment(2)])).toEqual([
      [0],
      [1],
      [2],
      [3, 5],
      [4],
    ]);
  });
});

/** The packet cut to so many bytes of transport, its IP header telling the new length. */
function truncated(packet: Uint8Array, version: 4 | 6, transport: number): Uint8Array {
  if (version === 6) return altered(packet.slice(0, 40 + transport), { 4: 0, 5: transport });
  return fixHeaderChecksum(altered(packet.slice(0, 20 + transport), { 2: 0, 3: 20 + transport }));
}

describe('merging TCP over IPv4 only', () => {
  const segment = (index: number, fields: Partial<TcpFields> = {}): Uint8Array =>
    tcp({ sequence: 1000 + index * SIZE, payload: payload(SIZE, index), ...fields });

  it('merges where DF is clear only if the ids count up', () => {
    const ids = (...list: number[]) => groups(list.map((id, i) => segment(i, { id, fragment: 0 })));
    expect(ids(7, 8, 9)).toEqual([[0, 1, 2]]);
    expect(ids(65_534, 65_535, 0, 1)).toEqual([[0, 1, 2, 3]]);
    expect(ids(7, 9, 10)).toEqual([[0], [1, 2]]);
    expect(ids(7, 7, 8)).toEqual([[0], [1, 2]]);
    expect(ids(7, 6)).toEqual([[0], [1]]);
  });

  it('merges where DF is set whatever the ids are, as they mean nothing there', () => {
    expect(groups([9, 9, 1, 40_000].map((id, i) => segment(i, { id })))).toEqual([[0, 1, 2, 3]]);
  });

  it('does not merge a packet with DF and one without', () => {
    expect(groups([segment(0, { id: 1 }), segment(1, { id: 2, fragment: 0 })])).toEqual([[0], [1]]);
  });

  it.each<[string, Uint8Array]>([
    ['has IP options', segment(1, { ipOptions: [1, 1, 1, 1] })],
    ['is a first fragment', segment(1, { fragment: MORE_FRAGMENTS })],
    ['is a later fragment', segment(1, { fragment: 185 })],
    ['has the reserved bit of the fragment word', segment(1, { fragment: 0xc000 })],
    ['is longer than it says', fixHeaderChecksum(altered(segment(1), { 3: 139 }))],
    ['is shorter than it says', fixHeaderChecksum(altered(segment(1), { 3: 141 }))],
  ])('closes all flows when a packet %s', (_, unreadable) => {
    expect(groups([segment(0), unreadable, segment(1), segment(2)])).toEqual([[0], [1], [2, 3]]);
  });

  it('lets other protocols pass between the segments of a flow', () => {
    expect(groups([segment(0), icmp(8), segment(1), icmp(8), segment(2)])).toEqual([[0, 2, 4], [1], [3]]);
  });

  it('does not take the TTL into account twice: equal ones merge whatever they are', () => {
    for (const ttl of [1, 63, 255]) expect(groups([segment(0, { ttl }), segment(1, { ttl })])).toEqual([[0, 1]]);
  });

  it('does not merge what a wrong checksum field makes look right', () => {
    const all = segment(1);
    const wrong = altered(all, { 36: all[36]! ^ 0xff, 37: all[37]! ^ 0xff });
    expect(groups([segment(0), wrong])).toEqual([[0], [1]]);
    expect(groups([segment(0), fillChecksums(wrong.slice())])).toEqual([[0, 1]]);
  });
});

describe('merging over IPv6 only', () => {
  const segment = (index: number, fields: Partial<TcpFields> = {}): Uint8Array =>
    tcp({ version: 6, sequence: 1000 + index * SIZE, payload: payload(SIZE, index), ...fields });

  it('does not merge another flow label', () => {
    expect(groups([segment(0), segment(1, { flowLabel: 0x12345 })])).toEqual([[0], [1]]);
  });

  it.each([0, 43, 44, 50, 51, 60, 135])('closes all flows at extension header %i', (next) => {
    expect(groups([segment(0), altered(segment(1), { 6: next }), segment(1), segment(2)])).toEqual([[0], [1], [2, 3]]);
  });

  it('closes all flows when a packet is not as long as it says', () => {
    expect(groups([segment(0), altered(segment(1), { 5: 119 }), segment(1)])).toEqual([[0], [1], [2]]);
  });

  it('closes all flows at a packet of no known version or no length', () => {
    const other = (index: number) => segment(index, { sourcePort: 7 });
    for (const odd of [altered(segment(1), { 0: 0x50 }), Uint8Array.of(0x45, 0, 0), segment(1).slice(0, 30)]) {
      expect(groups([segment(0), other(0), odd, segment(1), other(1)])).toEqual([[0], [1], [2], [3], [4]]);
    }
  });
});
