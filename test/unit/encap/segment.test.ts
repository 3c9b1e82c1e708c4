import { describe, expect, it } from 'vitest';
import { splitter } from './support/arena.js';
import {
  ACK,
  altered,
  CWR,
  ECE,
  FIN,
  type Offloaded,
  offloaded,
  PSH,
  payload,
  type TcpFields,
  tcp,
  type UdpFields,
  udp,
} from './support/packets.js';
import { faults, parse, referenceSplit, type Vnet } from './support/reference.js';

const { split, begin, segmenter } = splitter();

function splitTcp(fields: Partial<TcpFields>, size: number): Uint8Array[] {
  const { vnet, packet } = offloaded(tcp(fields), size);
  return split(vnet, packet)!;
}

function splitUdp(fields: Partial<UdpFields>, size: number): Uint8Array[] {
  const { vnet, packet } = offloaded(udp(fields), size);
  return split(vnet, packet)!;
}

const flagsOf = (pieces: readonly Uint8Array[]) => pieces.map((piece) => parse(piece).flags);
const lengthsOf = (pieces: readonly Uint8Array[]) => pieces.map((piece) => piece.length);

describe.each([4, 6] as const)('Segmenter, IPv%i', (version) => {
  const ipLength = version === 4 ? 20 : 40;

  it('cuts TCP as the reference does, with an odd tail', () => {
    const whole = tcp({ version, payload: payload(5 * 1448 + 333), flags: ACK | PSH, id: 77, options: TIMESTAMPS });
    const { vnet, packet } = offloaded(whole, 1448);
    const pieces = split(vnet, packet)!;
    expect(pieces).toEqual(referenceSplit(whole, 1448));
    expect(lengthsOf(pieces)).toEqual([1448, 1448, 1448, 1448, 1448, 333].map((n) => n + ipLength + 32));
    expect(pieces.flatMap(faults)).toEqual([]);
  });

  it('cuts UDP as the reference does, with an odd tail', () => {
    const whole = udp({ version, payload: payload(3 * 1200 + 1), id: 77 });
    const { vnet, packet } = offloaded(whole, 1200);
    const pieces = split(vnet, packet)!;
    expect(pieces).toEqual(referenceSplit(whole, 1200));
    expect(lengthsOf(pieces)).toEqual([1200, 1200, 1200, 1].map((n) => n + ipLength + 8));
    expect(pieces.flatMap(faults)).toEqual([]);
  });

  it('makes one packet of a payload that fits one segment', () => {
    const whole = tcp({ version, payload: payload(100), flags: ACK | PSH | FIN | CWR });
    const { vnet, packet } = offloaded(whole, 100);
    expect(split(vnet, packet)).toEqual([whole]);
  });

  it('makes equal packets of a payload that is a multiple of the segment size', () => {
    expect(lengthsOf(splitTcp({ version, payload: payload(300) }, 100))).toEqual(
      [100, 100, 100].map((n) => n + ipLength + 20),
    );
  });

  it('cuts the longest super-packet there is', () => {
    const whole = tcp({ version, payload: payload(65_535 - ipLength - 20) });
    const { vnet, packet } = offloaded(whole, 1408);
    expect(split(vnet, packet)).toEqual(referenceSplit(whole, 1408));
  });

  it('writes right headers when a segment is shorter than its headers', () => {
    for (const size of [1, 2, 3, 19, 20, 21]) {
      const whole = tcp({ version, payload: payload(45), flags: ACK | PSH });
      const { vnet, packet } = offloaded(whole, size);
      expect(split(vnet, packet), `segments of ${size}`).toEqual(referenceSplit(whole, size));
    }
    const datagram = udp({ version, payload: payload(9) });
    const { vnet, packet } = offloaded(datagram, 2);
    expect(split(vnet, packet)).toEqual(referenceSplit(datagram, 2));
  });

  it('gives FIN and PSH to the last segment only', () => {
    const flags = flagsOf(splitTcp({ version, payload: payload(250), flags: ACK | FIN | PSH }, 100));
    expect(flags).toEqual([ACK, ACK, ACK | FIN | PSH]);
  });

  it('gives CWR to the first segment only and ECE to all', () => {
    const flags = flagsOf(splitTcp({ version, payload: payload(250), flags: ACK | CWR | ECE }, 100));
    expect(flags).toEqual([ACK | CWR | ECE, ACK | ECE, ACK | ECE]);
  });

  it('gives the congestion mark of the IP header to all', () => {
    const pieces = splitTcp({ version, payload: payload(250), tos: 0xb8 | 3 }, 100);
    expect(pieces.map((piece) => parse(piece).tos)).toEqual([0xbb, 0xbb, 0xbb]);
  });

  it('lets the sequence number wrap', () => {
    const sequences = splitTcp({ version, payload: payload(300), sequence: 2 ** 32 - 150 }, 100);
    expect(sequences.map((piece) => parse(piece).sequence)).toEqual([2 ** 32 - 150, 2 ** 32 - 50, 50]);
    expect(sequences.flatMap(faults)).toEqual([]);
  });

  it('sends all ones where the checksum of a datagram comes out as zero', () => {
    // two bytes of payload that bring the sum to 0xffff: its complement is 0
    for (let i = 0; i < 65_536; i++) {
      const whole = udp({ version, payload: Uint8Array.of(i >> 8, i & 255, 1) });
      if (whole[ipLength + 6] !== 0xff || whole[ipLength + 7] !== 0xff) continue;
      const pieces = splitUdp({ version, payload: Uint8Array.of(i >> 8, i & 255, 1, i >> 8, i & 255, 1) }, 3);
      expect(pieces.map((piece) => [piece[ipLength + 6], piece[ipLength + 7]])[0]).toEqual([0xff, 0xff]);
      expect(pieces.flatMap(faults)).toEqual([]);
      return;
    }
    expect.fail('no such payload');
  });

  it('keeps a zero that the checksum of a TCP segment comes out as', () => {
    for (let i = 0; i < 65_536; i++) {
      const fields = { version, payload: Uint8Array.of(i >> 8, i & 255) };
      const whole = tcp(fields);
      if (whole[ipLength + 16] !== 0 || whole[ipLength + 17] !== 0) continue;
      expect(splitTcp(fields, 2)).toEqual([whole]);
      return;
    }
    expect.fail('no such payload');
  });

  it('leaves the super-packet itself unchanged', () => {
    const { vnet, packet } = offloaded(tcp({ version, payload: payload(999), flags: ACK | PSH }), 100);
    const copy = packet.slice();
    split(vnet, packet);
    expect(packet).toEqual(copy);
    expect(split(vnet, packet)).toEqual(split(vnet, copy));
  });

  it('takes header lengths from the packet, whatever the virtio-net header says', () => {
    const { vnet, packet } = offloaded(tcp({ version, payload: payload(500), options: TIMESTAMPS }), 100);
    for (const headerLength of [0, 20, 65_535]) expect(split({ ...vnet, headerLength }, packet)).toHaveLength(5);
  });

  it('masks the ECN bit of the type', () => {
    const { vnet, packet } = offloaded(tcp({ version, payload: payload(500), flags: ACK | CWR }), 100);
    expect(split({ ...vnet, type: vnet.type | 0x80 }, packet)).toEqual(split(vnet, packet));
  });
});

/** Two padding bytes and a timestamps option, as Linux sends it. */
const TIMESTAMPS = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];

describe('Segmenter, IPv4 only', () => {
  it('counts the id up and lets it wrap, with and without DF', () => {
    for (const fragment of [0, 0x4000]) {
      const pieces = splitTcp({ payload: payload(400), id: 65_534, fragment }, 100);
      expect(pieces.map((piece) => parse(piece).id)).toEqual([65_534, 65_535, 0, 1]);
      expect(pieces.map((piece) => parse(piece).fragment)).toEqual([fragment, fragment, fragment, fragment]);
    }
  });

  it('carries options in the IP header along', () => {
    const whole = tcp({ payload: payload(300), ipOptions: [7, 7, 4, 0, 0, 0, 0, 0] });
    const { vnet, packet } = offloaded(whole, 128);
    expect(split(vnet, packet)).toEqual(referenceSplit(whole, 128));
  });

  it('takes the longest headers there are: 60 bytes of IP and 60 of TCP', () => {
    const whole = tcp({ payload: payload(300), ipOptions: Array(40).fill(1), options: Array(40).fill(1) });
    const { vnet, packet } = offloaded(whole, 128);
    expect(split(vnet, packet)).toEqual(referenceSplit(whole, 128));
  });
});

describe('Segmenter refuses', () => {
  const tcp4 = offloaded(tcp({ payload: payload(300) }), 100);
  const udp4 = offloaded(udp({ payload: payload(300) }), 100);
  const tcp6 = offloaded(tcp({ version: 6, payload: payload(300) }), 100);
  const vnet = (offload: Offloaded, changes: Partial<Vnet>): Offloaded => ({
    ...offload,
    vnet: { ...offload.vnet, ...changes },
  });
  const bytes = (offload: Offloaded, changes: Record<number, number>): Offloaded => ({
    ...offload,
    packet: altered(offload.packet, changes),
  });

  it.each<[string, Offloaded]>([
    ['a segment size of zero', vnet(tcp4, { size: 0 })],
    ['the old UDP fragmentation type', vnet(udp4, { type: 3 })],
    ['the old UDP fragmentation type with the ECN bit', vnet(udp4, { type: 0x83 })],
    ['an unknown type', vnet(tcp4, { type: 2 })],
    ['no type at all', vnet(tcp4, { type: 0 })],
    ['TCP over IPv6 on an IPv4 packet', vnet(tcp4, { type: 4 })],
    ['TCP over IPv4 on an IPv6 packet', vnet(tcp6, { type: 1 })],
    ['TCP on a UDP packet', vnet(udp4, { type: 1 })],
    ['UDP on a TCP packet', vnet(tcp4, { type: 5 })],
    ['IP version 5', bytes(tcp4, { 0: 0x55 })],
    ['a checksum start of zero', vnet(tcp4, { start: 0 })],
    ['a checksum start inside the IPv4 header', vnet(tcp4, { start: 16 })],
    ['a checksum start that disagrees with the IPv4 header length', vnet(tcp4, { start: 24 })],
    ['a checksum start inside the IPv6 header', vnet(tcp6, { start: 39 })],
    ['a checksum start at the end of the packet', vnet(tcp4, { start: tcp4.packet.length })],
    ['a checksum start beyond the packet', vnet(tcp6, { start: 65_535 })],
    ['an IPv4 header of 16 bytes', vnet(bytes(tcp4, { 0: 0x44 }), { start: 16 })],
    ['a TCP header of 16 bytes', bytes(tcp4, { 32: 0x40 })],
    ['a TCP header of 0 bytes', bytes(tcp6, { 52: 0x00 })],
    ['a TCP header that reaches beyond the packet', { ...tcp4, packet: bytes(tcp4, { 32: 0xf0 }).packet.slice(0, 79) }],
    ['TCP without payload', { ...tcp4, packet: tcp4.packet.slice(0, 40) }],
    ['UDP without payload', { ...udp4, packet: udp4.packet.slice(0, 28) }],
    ['a packet that ends inside its TCP header', { ...tcp4, packet: tcp4.packet.slice(0, 39) }],
    ['headers longer than any can be', vnet(tcp6, { start: 101 })],
  ])('%s', (_, { vnet: header, packet }) => {
    expect(begin(header, packet)).toBe(false);
  });

  it('nothing after it has refused something', () => {
    begin({ ...tcp4.vnet, size: 0 }, tcp4.packet);
    expect(begin(tcp4.vnet, tcp4.packet)).toBe(true);
    expect(segmenter.count).toBe(3);
  });
});
