import { describe, expect, it } from 'vitest';
import { groups, merge } from './support/merging.js';
import { altered, corrupted, icmp, payload, tcp, type UdpFields, udp } from './support/packets.js';
import { parse } from './support/reference.js';

const SIZE = 100;

describe.each([4, 6] as const)('merging UDP over IPv%i', (version) => {
  const ipLength = version === 4 ? 20 : 40;
  const datagram = (index: number, fields: Partial<UdpFields> = {}): Uint8Array =>
    udp({ version, id: index, payload: payload(SIZE, index), ...fields });
  const other = (index: number, fields: Partial<UdpFields> = {}) => datagram(index, { ...fields, sourcePort: 7 });
  const sized = (length: number) => datagram(0, { payload: payload(length, length) });

  it('writes a datagram that stays alone as it came', () => {
    const [item] = merge([datagram(0)]).items;
    expect(item).toMatchObject({ packet: datagram(0), iovCount: 2, vnet: { flags: 0, type: 0 } });
  });

  it('merges neighbours of a flow, and the kernel would make the same datagrams of it again', () => {
    expect(groups([datagram(0), datagram(1), datagram(2)])).toEqual([[0, 1, 2]]);
    const [item] = merge([datagram(0), datagram(1), datagram(2)]).items;
    expect(item!.packet.length).toBe(ipLength + 8 + 300);
    expect(item!.vnet).toEqual({
      flags: 1,
      type: 5,
      headerLength: ipLength + 8,
      size: SIZE,
      start: ipLength,
      offset: 6,
    });
    expect(parse(item!.packet).transport.slice(4, 6)).toEqual(Uint8Array.of(308 >> 8, 308 & 255));
  });

  it.each<[string, readonly Uint8Array[], number[][]]>([
    ['ends an item with a shorter datagram', [sized(100), sized(100), sized(40), sized(40)], [[0, 1, 2], [3]]],
    ['does not let a longer one join', [sized(100), sized(101), sized(101)], [[0], [1, 2]]],
    ['does not merge another type of service', [datagram(0), datagram(1, { tos: 1 })], [[0], [1]]],
    ['does not merge another TTL', [datagram(0), datagram(1, { ttl: 9 })], [[0], [1]]],
    ['does not merge another port', [datagram(0), other(1)], [[0], [1]]],
    ['does not merge another source', [datagram(0), datagram(1, { source: [1, 9] })], [[0], [1]]],
    [
      'keeps interleaved flows in order',
      [datagram(0), other(0), datagram(1), other(1)],
      [
        [0, 2],
        [1, 3],
      ],
    ],
    [
      'lets an empty one travel alone and stay in order',
      [datagram(0), sized(0), datagram(1), datagram(2)],
      [[0], [1], [2, 3]],
    ],
    [
      'lets an empty one of another flow pass',
      [datagram(0), other(0, { payload: payload(0) }), datagram(1)],
      [[0, 2], [1]],
    ],
    ['does not start an item with an empty one', [sized(0), sized(0), datagram(0)], [[0], [1], [2]]],
    ['merges datagrams of one byte', [sized(1), sized(1), sized(1)], [[0, 1, 2]]],
  ])('%s', (_, packets, expected) => {
    expect(groups(packets)).toEqual(expected);
  });

  it('lets a datagram without a checksum travel alone and stay in order', () => {
    const unchecked = altered(datagram(1), { [ipLength + 6]: 0, [ipLength + 7]: 0 });
    expect(groups([datagram(0), unchecked, datagram(1), datagram(2)])).toEqual([[0], [1], [2, 3]]);
    expect(groups([unchecked, unchecked])).toEqual([[0], [1]]);
    expect(merge([datagram(0), unchecked, datagram(1)]).badChecksums).toBe(0);
  });

  it('merges a datagram whose checksum is all ones, which stands for zero', () => {
    for (let i = 0; i < 65_536; i++) {
      const ones = datagram(1, { payload: Uint8Array.of(i >> 8, i & 255, 3) });
      if (ones[ipLength + 6] !== 0xff || ones[ipLength + 7] !== 0xff) continue;
      expect(groups([datagram(0, { payload: payload(3) }), ones])).toEqual([[0, 1]]);
      return;
    }
    expect.fail('no such payload');
  });

  it('never merges a datagram whose checksum is wrong', () => {
    expect(groups([datagram(0), corrupted(datagram(1)), datagram(2), datagram(3)])).toEqual([[0], [1], [2, 3]]);
    expect(groups([corrupted(datagram(0)), datagram(1), datagram(2)])).toEqual([[0], [1, 2]]);
    expect(merge([datagram(0), corrupted(datagram(1)), datagram(2)]).badChecksums).toBe(1);
  });

  it('closes all flows at a datagram that is not as long as it says, or has no whole header', () => {
    const lies = altered(datagram(1), { [ipLength + 5]: 107 });
    expect(groups([datagram(0), other(0), lies, datagram(1), other(1)])).toEqual([[0], [1], [2], [3], [4]]);
    const short =
      version === 4 ? altered(udp({}).slice(0, 27), { 3: 27 }) : altered(udp({ version }).slice(0, 47), { 5: 7 });
    expect(groups([datagram(0), short, datagram(1)])).toEqual([[0], [1], [2]]);
  });

  it('sends UDP alone when only merged TCP is on, and TCP alone when only merged UDP is on', () => {
    const segment = (index: number) => tcp({ version, sequence: index * SIZE, id: index, payload: payload(SIZE) });
    const packets = [datagram(0), segment(0), datagram(1), segment(1)];
    expect(groups(packets, { tcp: true, udp: false })).toEqual([[0], [1, 3], [2]]);
    expect(groups(packets, { tcp: false, udp: true })).toEqual([[0, 2], [1], [3]]);
    expect(groups(packets, { tcp: false, udp: false })).toEqual([[0], [1], [2], [3]]);
    expect(groups(packets)).toEqual([
      [0, 2],
      [1, 3],
    ]);
  });

  it('keeps a TCP and a UDP flow of the same addresses and ports apart', () => {
    const ports = { sourcePort: 53, destinationPort: 53 };
    const segment = (index: number) => tcp({ version, ...ports, sequence: index * SIZE, payload: payload(SIZE) });
    expect(groups([datagram(0, ports), segment(0), datagram(1, ports), segment(1)])).toEqual([
      [0, 2],
      [1, 3],
    ]);
  });
});

describe('merging UDP over IPv4 only', () => {
  it('merges where DF is clear only if the ids count up', () => {
    const ids = (...list: number[]) => groups(list.map((id) => udp({ id, fragment: 0, payload: payload(50) })));
    expect(ids(65_535, 0, 1)).toEqual([[0, 1, 2]]);
    expect(ids(1, 3, 4)).toEqual([[0], [1, 2]]);
  });

  it('lets ICMP pass between the datagrams of a flow', () => {
    const data = udp({ payload: payload(50) });
    expect(groups([data, icmp(0), data])).toEqual([[0, 2], [1]]);
  });
});
