import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  FRAGMENTATION_NEEDED,
  MAX_ICMP_ERROR,
  NET_UNREACHABLE,
  RateLimit,
  TIME_EXCEEDED,
  writeIcmpError,
} from '../../../src/encap/wire/icmp.js';
import { arena } from './support/arena.js';
import { addressOf4, altered, icmp, ip, MORE_FRAGMENTS, payload, tcp, udp } from './support/packets.js';
import { long, parseIcmpError, setLong } from './support/reference.js';

const { memory, regions, u8, sum } = arena(4 * 65_536);
const packetAt = regions.take(66_000);
const errorAt = regions.take(MAX_ICMP_ERROR);
const SOURCE = 0x0a050000;

/** The error about a packet, or null when none may be sent. Looks behind the error for bytes that do not belong to it. */
function errorAbout(packet: Uint8Array, kind = NET_UNREACHABLE, mtu = 0, available = packet.length) {
  u8.fill(0xee, errorAt, errorAt + MAX_ICMP_ERROR + 64);
  u8.fill(0xdd, packetAt, packetAt + packet.length + 600);
  u8.set(packet, packetAt);
  const length = writeIcmpError({ memory, sum, to: errorAt, source: SOURCE }, kind, packetAt, available, mtu);
  expect(u8[errorAt + length]).toBe(0xee);
  return length === 0 ? null : u8.slice(errorAt, errorAt + length);
}

describe('writeIcmpError', () => {
  it('says who could not be reached, to the one who tried, from the address it was given', () => {
    const packet = udp({ source: [1, 7], destination: [200, 1], payload: payload(100) });
    expect(parseIcmpError(errorAbout(packet)!)).toEqual({
      from: SOURCE,
      to: addressOf4([1, 7]),
      tos: 0xc0,
      ttl: 64,
      fragment: 0x4000,
      type: 3,
      code: 0,
      mtu: 0,
      quoted: packet,
    });
  });

  it('says that the time is exceeded', () => {
    const error = errorAbout(udp({ ttl: 1 }), TIME_EXCEEDED)!;
    expect(parseIcmpError(error)).toMatchObject({ type: 11, code: 0, mtu: 0 });
  });

  it('names the MTU that would have fitted', () => {
    const error = errorAbout(tcp({ payload: payload(1400) }), FRAGMENTATION_NEEDED, 1372)!;
    expect(parseIcmpError(error)).toMatchObject({ type: 3, code: 4, mtu: 1372 });
  });

  it.each([20, 28, 100, 547, 548])('quotes all of a packet of %i bytes', (length) => {
    const packet = ip(17, payload(length - 20));
    expect(parseIcmpError(errorAbout(packet)!).quoted).toEqual(packet);
  });

  it.each([549, 1500, 65_535])('is 576 bytes long about a packet of %i bytes', (length) => {
    const packet = ip(17, payload(length - 20));
    const error = errorAbout(packet)!;
    expect(error.length).toBe(576);
    expect(parseIcmpError(error).quoted).toEqual(packet.slice(0, 548));
  });

  it('quotes no more than the bytes that are there, whatever length the packet claims', () => {
    const packet = tcp({ payload: payload(1400) });
    expect(parseIcmpError(errorAbout(packet, FRAGMENTATION_NEEDED, 1372, 40)!).quoted).toEqual(packet.slice(0, 40));
  });

  it('quotes an odd number of bytes with a right checksum', () => {
    for (let length = 20; length < 60; length++) {
      expect(parseIcmpError(errorAbout(ip(17, payload(length - 20)))!).quoted.length).toBe(length);
    }
  });

  it('is never sent about an ICMP error', () => {
    for (const type of [3, 4, 5, 11, 12]) expect(errorAbout(icmp(type)), `type ${type}`).toBeNull();
  });

  it('is sent about ICMP that is no error', () => {
    for (const type of [0, 8, 13, 14]) expect(errorAbout(icmp(type)), `type ${type}`).not.toBeNull();
  });

  it('is never sent about ICMP whose type is not there', () => {
    expect(errorAbout(ip(1, new Uint8Array(0)))).toBeNull();
  });

  it('is sent about a first fragment and never about a later one', () => {
    expect(errorAbout(ip(17, payload(64), { fragment: MORE_FRAGMENTS }))).not.toBeNull();
    expect(errorAbout(ip(17, payload(64), { fragment: MORE_FRAGMENTS | 1 }))).toBeNull();
    expect(errorAbout(ip(17, payload(64), { fragment: 0x1fff }))).toBeNull();
  });

  it.each([
    ['this network', 0x00000001],
    ['the host itself', 0x7f000001],
    ['many (multicast)', 0xe0000001],
    ['nobody yet (reserved)', 0xf0000001],
    ['all', 0xffffffff],
  ])('is neither sent to an address that means %s nor about a packet to it', (_, address) => {
    const from = udp({ payload: payload(30) });
    setLong(from, 12, address);
    expect(errorAbout(from)).toBeNull();
    const to = udp({ payload: payload(30) });
    setLong(to, 16, address);
    expect(errorAbout(to)).toBeNull();
  });

  it('is never sent about what is no whole IPv4 header', () => {
    const packet = udp({ payload: payload(60) });
    expect(errorAbout(packet.slice(0, 19))).toBeNull();
    expect(errorAbout(altered(packet, { 0: 0x44 }))).toBeNull();
    expect(errorAbout(altered(packet.slice(0, 59), { 0: 0x4f }))).toBeNull();
  });

  it('answers the sender of any packet with a right error or not at all', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 20, maxLength: 700, size: 'max' }), (packet) => {
        packet[0] = 0x45 + ((packet[0] ?? 0) % 4);
        const error = errorAbout(packet);
        if (error === null) return;
        const { to, quoted } = parseIcmpError(error);
        expect(to).toBe(long(packet, 12));
        expect(quoted).toEqual(packet.slice(0, 548));
      }),
      { numRuns: 500 },
    );
  });
});

describe('RateLimit', () => {
  it('lets a burst pass and then so many a second', () => {
    const limit = new RateLimit(10, 5);
    const start = 1_700_000_000_000;
    const pass = (now: number, tries: number) =>
      Array.from({ length: tries }, () => limit.take(now)).filter(Boolean).length;
    expect(pass(start, 20)).toBe(5);
    expect(pass(start + 99, 20)).toBe(0);
    expect(pass(start + 100, 20)).toBe(1);
    expect(pass(start + 1100, 20)).toBe(5);
    let passed = 0;
    for (let ms = 2000; ms < 12_000; ms++) passed += pass(start + ms, 3);
    expect(passed).toBeGreaterThanOrEqual(100);
    expect(passed).toBeLessThanOrEqual(110);
  });

  it('saves no more than one burst, however long it was quiet', () => {
    const limit = new RateLimit(1000, 3);
    expect([1, 2, 3, 4].map(() => limit.take(1e12))).toEqual([true, true, true, false]);
    expect([1, 2, 3, 4].map(() => limit.take(2e12))).toEqual([true, true, true, false]);
  });

  it('survives a clock that steps back: nothing is given for the time before the step, and it goes on after it', () => {
    const limit = new RateLimit(10, 2);
    expect([limit.take(1e12), limit.take(1e12), limit.take(1e12)]).toEqual([true, true, false]);
    expect(limit.take(5e11)).toBe(false);
    expect(limit.take(5e11 + 99)).toBe(false);
    expect(limit.take(5e11 + 200)).toBe(true);
  });
});
