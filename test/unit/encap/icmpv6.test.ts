import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  HOP_LIMIT_EXCEEDED,
  MAX_ICMPV6_ERROR,
  NO_ROUTE,
  PACKET_TOO_BIG,
  writeIcmpv6Error,
} from '../../../src/encap/wire/icmpv6.js';
import { ipv6Bytes } from '../../../src/encap/wire/ipv6.js';
import { arena } from './support/arena.js';
import { address6, extended, fragmentHeader, icmpv6, ip, PADDING, payload, tcp, udp } from './support/packets.js';
import { parseIcmpv6Error } from './support/reference.js';
import { NETWORK_V6 } from './support/workbench.js';

const { memory, regions, u8, sum } = arena(4 * 65_536);
const packetAt = regions.take(66_000);
const errorAt = regions.take(MAX_ICMPV6_ERROR + 64);
const SOURCE = ipv6Bytes(NETWORK_V6.address);
const V6 = { version: 6 } as const;

/** The error about a packet, or null when none may be sent. Looks behind the error for bytes that do not belong to it. */
function errorAbout(packet: Uint8Array, kind = NO_ROUTE, mtu = 0, available = packet.length) {
  u8.fill(0xee, errorAt, errorAt + MAX_ICMPV6_ERROR + 64);
  u8.fill(0xdd, packetAt, packetAt + packet.length + 1300);
  u8.set(packet, packetAt);
  const length = writeIcmpv6Error({ memory, sum, to: errorAt, source: SOURCE }, kind, packetAt, available, mtu);
  expect(u8[errorAt + length]).toBe(0xee);
  return length === 0 ? null : u8.slice(errorAt, errorAt + length);
}

describe('writeIcmpv6Error', () => {
  it('says who could not be reached, to the one who tried, from the address it was given', () => {
    const packet = udp({ ...V6, source: [1, 7], destination: [200, 1], payload: payload(100) });
    expect(parseIcmpv6Error(errorAbout(packet)!)).toEqual({
      from: SOURCE,
      to: Uint8Array.from(address6([1, 7])),
      tos: 0xc0,
      ttl: 64,
      type: 1,
      code: 0,
      mtu: 0,
      quoted: packet,
    });
  });

  it.each([
    [HOP_LIMIT_EXCEEDED, 0, { type: 3, code: 0 }],
    [PACKET_TOO_BIG, 1380, { type: 2, code: 0, mtu: 1380 }],
    [PACKET_TOO_BIG, 70_000, { type: 2, code: 0, mtu: 70_000 }],
  ] as const)('says what it is told to say', (kind, mtu, expected) => {
    expect(parseIcmpv6Error(errorAbout(tcp({ ...V6, payload: payload(1400) }), kind, mtu)!)).toMatchObject(expected);
  });

  it.each([40, 41, 100, 1231, 1232])('quotes all of a packet of %i bytes', (length) => {
    const packet = ip(17, payload(length - 40), V6);
    expect(parseIcmpv6Error(errorAbout(packet)!).quoted).toEqual(packet);
  });

  it.each([1233, 1500, 65_535])('is as long as the least MTU about a packet of %i bytes', (length) => {
    const packet = ip(17, payload(length - 40), V6);
    const error = errorAbout(packet)!;
    expect(error.length).toBe(1280);
    expect(parseIcmpv6Error(error).quoted).toEqual(packet.slice(0, 1232));
  });

  it('quotes no more than the bytes that are there, whatever length the packet claims', () => {
    const packet = tcp({ ...V6, payload: payload(1400) });
    expect(parseIcmpv6Error(errorAbout(packet, PACKET_TOO_BIG, 1372, 60)!).quoted).toEqual(packet.slice(0, 60));
  });

  it('is never sent about an ICMPv6 error or a redirect, behind extension headers neither', () => {
    for (const type of [0, 1, 2, 3, 4, 100, 127, 137]) {
      expect(errorAbout(icmpv6(type)), `type ${type}`).toBeNull();
      expect(errorAbout(extended(icmpv6(type), [0, PADDING], [60, PADDING])), `type ${type}`).toBeNull();
      expect(errorAbout(extended(icmpv6(type), [44, fragmentHeader(0, true)])), `type ${type}`).toBeNull();
    }
  });

  it('is sent about ICMPv6 that is no error', () => {
    for (const type of [128, 129]) expect(errorAbout(icmpv6(type)), `type ${type}`).not.toBeNull();
    expect(errorAbout(extended(icmpv6(128), [43, PADDING]))).not.toBeNull();
  });

  it.each<[string, Uint8Array]>([
    ['ICMPv6 whose type is not there', ip(58, new Uint8Array(0), V6)],
    ['a later fragment', extended(udp(V6), [44, fragmentHeader(100, false)])],
    ['an extension header that is cut off', extended(udp(V6), [0, PADDING]).slice(0, 44)],
    ['an extension header that says it is longer', ip(0, Uint8Array.of(58, 255, 0, 0, 0, 0, 0, 0), V6)],
    ['extension headers without end', extended(udp(V6), ...Array(20).fill([60, PADDING] as const))],
    ['less than a header', udp(V6).slice(0, 39)],
  ])('is not sent about %s', (_, packet) => {
    expect(errorAbout(packet)).toBeNull();
  });

  it.each([
    ['no one (unspecified)', Array(16).fill(0)],
    ['the host itself', [...Array(15).fill(0), 1]],
    ['many (multicast)', [0xff, 0x0e, ...Array(14).fill(1)]],
    ['one on this link', [0xfe, 0x80, ...Array(14).fill(1)]],
    ['one on this link, by its last prefix', [0xfe, 0xbf, ...Array(14).fill(1)]],
  ])('is neither sent to an address that means %s nor about a packet to it', (_, address) => {
    for (const at of [8, 24]) {
      const packet = udp({ ...V6, payload: payload(30) });
      packet.set(address, at);
      expect(errorAbout(packet)).toBeNull();
    }
  });

  it('answers the sender of any packet with a right error or not at all', () => {
    let answered = 0;
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 40, maxLength: 1400, size: 'max' }),
        fc.constantFrom(0, 6, 17, 43, 44, 51, 58, 60),
        (packet, next) => {
          packet[0] = 0x60;
          packet[6] = next;
          const error = errorAbout(packet);
          if (error === null) return;
          answered++;
          const { to, quoted } = parseIcmpv6Error(error);
          expect(to).toEqual(packet.slice(8, 24));
          expect(quoted).toEqual(packet.slice(0, 1232));
        },
      ),
      { numRuns: 500 },
    );
    expect(answered).toBeGreaterThan(50);
  });
});
