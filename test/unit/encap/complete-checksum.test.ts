import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { completeChecksum } from '../../../src/encap/wire/segment.js';
import { arena } from './support/arena.js';
import { ip, offloaded, payload, tcp, udp } from './support/packets.js';
import { faults, sameBytes } from './support/reference.js';

const { memory, regions, u8, sum } = arena(3 * 65_536);
const at = regions.take(70_000);

/** The packet after its checksum has been completed, or null when that was refused. */
function complete(packet: Uint8Array, start: number, offset: number): Uint8Array | null {
  u8.set(packet, at);
  const done = completeChecksum(memory, sum, at, packet.length, start, offset);
  const after = u8.slice(at, at + packet.length);
  if (!done) expect(sameBytes(after, packet)).toBe(true);
  return done ? after : null;
}

describe('completeChecksum', () => {
  it.each([4, 6] as const)(
    'gives back the packet that it was before the kernel left its checksum partial, IPv%i',
    (version) => {
      fc.assert(
        fc.property(fc.boolean(), fc.nat(1500), fc.nat(255), (isTcp, length, seed) => {
          const whole = (isTcp ? tcp : udp)({ version, payload: payload(length, seed), ipOptions: [] });
          const { vnet, packet } = offloaded(whole);
          const completed = complete(packet, vnet.start, vnet.offset)!;
          expect(sameBytes(completed, whole)).toBe(true);
          expect(faults(completed)).toEqual([]);
        }),
        { numRuns: 500 },
      );
    },
  );

  it('works behind a longer IP header', () => {
    const whole = tcp({ payload: payload(11), ipOptions: Array(40).fill(1) });
    const { vnet, packet } = offloaded(whole);
    expect(complete(packet, vnet.start, vnet.offset)).toEqual(whole);
  });

  it('sends all ones where the checksum of a datagram comes out as zero, and keeps the zero of a TCP segment', () => {
    const seen = { udp: 0, tcp: 0 };
    for (let i = 0; i < 65_536; i++) {
      const data = Uint8Array.of(i >> 8, i & 255);
      const datagram = udp({ payload: data });
      if (datagram[26] === 0xff && datagram[27] === 0xff) {
        seen.udp++;
        expect(sameBytes(complete(offloaded(datagram).packet, 20, 6)!, datagram)).toBe(true);
      }
      const segment = tcp({ payload: data });
      if (segment[36] === 0 && segment[37] === 0) {
        seen.tcp++;
        expect(sameBytes(complete(offloaded(segment).packet, 20, 16)!, segment)).toBe(true);
      }
    }
    expect(seen.udp).toBeGreaterThan(0);
    expect(seen.tcp).toBeGreaterThan(0);
  });

  it('completes other protocols that sum from a start to the end, such as GRE with a checksum', () => {
    const packet = ip(47, Uint8Array.of(0x80, 0, 8, 0, 0, 0, 0, 0, ...payload(60)));
    const completed = complete(packet, 20, 4)!;
    expect(sum(at + 20, packet.length - 20, 0)).toBe(0xffff);
    expect(completed.slice(0, 24)).toEqual(packet.slice(0, 24));
  });

  const whole = offloaded(tcp({ payload: payload(30) })).packet;
  it.each([
    ['starts inside the IP header', 19, 16],
    ['starts at zero', 0, 16],
    ['has its field one byte beyond the end', 20, whole.length - 21],
    ['has its field far beyond the end', 20, 65_535],
    ['starts beyond the end', 65_535, 16],
  ])('refuses a checksum that %s', (_, start, offset) => {
    expect(complete(whole, start, offset)).toBeNull();
  });

  it('takes a checksum in the last two bytes', () => {
    expect(complete(whole, 20, whole.length - 22)).not.toBeNull();
  });
});
