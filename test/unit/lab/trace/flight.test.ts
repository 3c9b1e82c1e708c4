import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addSealed,
  findAnswer,
  findError,
  findFirst,
  followPacket,
  isSame,
  sealedLength,
  untilArrival,
} from '../../../../src/lab/trace/flight.js';
import { carrying, icmp, ipv4, read, sighting, tcp, udp } from './support.js';

const marker = Uint8Array.from({ length: 16 }, (_, index) => 200 + index);
const noise = ipv4(17, udp(new Uint8Array(16)));
const SYN = 0x02;
const SYN_ACK = 0x12;
const ACK = 0x10;
const RST = 0x04;

describe('the packet that is followed', () => {
  it('is the one with the marker, or else the SYN to the port', () => {
    const wanted = { place: 'host1/c1', marker, tcpPort: 80 };
    const syn = sighting('host1/c1 eth0 out', 1, ipv4(6, tcp({ sequence: 5, flags: SYN })));
    const data = sighting('host1/c1 eth0 out', 2, ipv4(6, tcp({ sequence: 6, flags: ACK }, marker)));
    const other = sighting('host1/c1 eth0 out', 0, noise);
    expect(findFirst([other, syn, data], wanted)).toBe(data.packet);
    expect(findFirst([other, syn], wanted)).toBe(syn.packet);
    expect(findFirst([other], wanted)).toBeNull();
    expect(findFirst([{ ...data, place: 'host2/c1' }], wanted)).toBeNull();
  });

  it('stays itself whatever is translated, and is no other one', () => {
    fc.assert(
      fc.property(
        fc.nat(2 ** 31),
        fc.nat(65_535),
        fc.uint8Array({ minLength: 8, maxLength: 60 }),
        (address, port, data) => {
          const before = read(ipv4(17, udp(data)));
          const after = read(ipv4(17, udp(data, port, port), { source: address, destination: address, ttl: 3 }), null);
          expect(isSame(before, after)).toBe(true);
          const changed = Uint8Array.from(data, (byte, index) => (index === 0 ? byte ^ 1 : byte));
          expect(isSame(before, read(ipv4(17, udp(changed))))).toBe(false);
        },
      ),
    );
    const syn = read(ipv4(6, tcp({ sequence: 5, flags: SYN })));
    expect(isSame(syn, read(ipv4(6, tcp({ sequence: 5, flags: SYN_ACK }))))).toBe(false);
    expect(isSame(syn, read(ipv4(6, tcp({ sequence: 6, flags: SYN }))))).toBe(false);
  });
});

describe('the way of a packet', () => {
  const inner = ipv4(17, udp(marker));

  it('is every device that it passed, inside of what carries it too, without strangers', () => {
    const seen = [
      sighting('host1/c1 eth0 out', 1, inner),
      sighting('host1 br0 in', 2, inner),
      sighting('host1 eth0 out', 3, noise),
      sighting('host1 eth0 out', 4, carrying(inner)),
      sighting('host2 flannel0 in', 5, inner),
    ];
    const hops = followPacket(seen, seen[0].packet);
    expect(hops.map(({ place, device, at }) => `${place} ${device} ${at}`)).toEqual([
      'host1/c1 eth0 1',
      'host1 br0 2',
      'host1 eth0 4',
      'host2 flannel0 5',
    ]);
    expect(hops[2].inner).toMatchObject({ length: inner.length });
  });

  it('gathers fragments by their number, and takes a repeated segment for none', () => {
    const first = ipv4(17, udp(marker), { id: 3, more: true });
    const seen = [
      sighting('a eth0 out', 1, first),
      sighting('a eth0 out', 2, ipv4(17, new Uint8Array(16), { id: 3, offset: 24 })),
      sighting('a eth0 out', 3, ipv4(17, new Uint8Array(16), { id: 4, offset: 24 })),
    ];
    expect(followPacket(seen, seen[0].packet)[0].packets.map(({ fragment }) => fragment?.offset)).toEqual([0, 24]);
    const segment = (sequence: number, length: number) =>
      ipv4(6, tcp({ sequence, flags: ACK }, new Uint8Array(length).fill(9)));
    const sent = [
      sighting('a eth0 out', 1, segment(100, 40)),
      sighting('b eth0 in', 2, segment(100, 20)),
      sighting('b eth0 in', 3, segment(120, 20)),
      sighting('b eth0 in', 4, segment(130, 10)),
    ];
    const hops = followPacket(sent, sent[0].packet);
    expect(hops.map(({ packets }) => packets.length)).toEqual([1, 2]);
  });

  it('ends where it arrives: an echo of it is another packet', () => {
    const hops = followPacket(
      [
        sighting('a eth0 out', 1, inner),
        sighting('b eth0 in', 2, inner),
        sighting('b eth0 out', 3, inner),
        sighting('a eth0 in', 4, inner),
      ],
      read(inner),
    );
    expect(untilArrival(hops, 'b')).toHaveLength(2);
    expect(untilArrival(hops, 'c')).toHaveLength(4);
  });

  it('of a sealed datagram is known by its length, between the sightings in the clear', () => {
    const carrier = { kind: 'wireguard', ports: [51_820] } as const;
    const message = (length: number, counter: number) => {
      const bytes = new Uint8Array(length - 28);
      bytes[0] = 4;
      bytes[8] = counter;
      return ipv4(17, udp(bytes, 51_820, 51_820));
    };
    const length = sealedLength(inner.length, 4);
    expect(length).toBe(48 + 32 + 28);
    const sealed = [
      sighting('host1 eth0 out', 2, message(length, 1), carrier), // before it
      sighting('host1 eth0 out', 4, message(length + 16, 2), carrier),
      sighting('host1 eth0 out', 5, message(length, 3), carrier),
      sighting('host2 eth0 in', 6, message(length, 3), carrier),
      sighting('host2 eth0 in', 6, message(length, 4), carrier),
    ];
    const clear = followPacket(
      [sighting('host1 flannel-wg out', 3, inner), sighting('host2 flannel-wg in', 7, inner)],
      read(inner),
    );
    const hops = addSealed(clear, sealed, 'flannel-wg');
    expect(hops.map(({ at, inferred }) => [Number(at), inferred])).toEqual([
      [3, false],
      [5, true],
      [6, true],
      [7, false],
    ]);
    expect(addSealed(clear, [], 'flannel-wg')).toEqual(clear);
  });
});

describe('the answer', () => {
  const back = { source: 0x0a000002, destination: 0x0a000001 };

  it('to a ping, a datagram and a SYN is found by turned addresses, ports and numbers', () => {
    const cases = [
      [ipv4(1, icmp(8, 0, marker)), ipv4(1, icmp(0, 0, marker), back), ipv4(1, icmp(0, 0, marker))],
      [ipv4(17, udp(marker)), ipv4(17, udp(noise, 5000, 4000), back), ipv4(17, udp(noise, 5001, 4000), back)],
      [
        ipv4(6, tcp({ sequence: 9, flags: SYN })),
        ipv4(6, tcp({ sequence: 1, acknowledgement: 10, flags: SYN_ACK, source: 80, destination: 4000 }), back),
        ipv4(6, tcp({ sequence: 1, acknowledgement: 9, flags: SYN_ACK, source: 80, destination: 4000 }), back),
      ],
      [
        ipv4(6, tcp({ sequence: 9, flags: SYN })),
        ipv4(6, tcp({ sequence: 0, flags: RST, source: 80, destination: 4000 }), back),
        noise,
      ],
    ] as const;
    for (const [sent, answer, stranger] of cases) {
      const right = sighting('b eth0 out', 5, answer);
      const wrong = sighting('b eth0 out', 4, stranger);
      expect(findAnswer([wrong, right], read(sent), { at: 3n, place: 'b' })).toBe(right);
      expect(findAnswer([right], read(sent), { at: 6n, place: 'b' })).toBeNull();
    }
  });

  it('can be an ICMP error about the packet, or about the datagram that carries it', () => {
    const sent = ipv4(17, udp(marker));
    const about = sighting('b eth0 out', 2, ipv4(1, icmp(3, 3, sent), back));
    const around = sighting('host2 eth0 out', 3, ipv4(1, icmp(3, 3, carrying(sent)), back));
    const other = sighting('b eth0 out', 1, ipv4(1, icmp(3, 3, noise), back));
    expect(findError([other, about], read(sent))).toBe(about);
    expect(findError([other, around], read(sent))).toBe(around);
    expect(findError([other], read(sent))).toBeNull();
    expect(findAnswer([about], read(sent), { at: 0n, place: null })).toBe(about);
  });
});
