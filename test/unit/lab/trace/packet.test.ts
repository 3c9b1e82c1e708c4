import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatEnds, icmpName, protocolName, readPacket } from '../../../../src/lab/trace/packet.js';
import { carrying, icmp, ipv4, ipv6, OVERLAY, read, tcp, udp } from './support.js';

const payload = Uint8Array.from({ length: 40 }, (_, index) => index);

describe('a packet', () => {
  it('tells addresses, TTL, length, ports and flags', () => {
    const packet = read(ipv4(6, tcp({ sequence: 5, flags: 0x02 }), { ttl: 63, dontFragment: true }));
    expect(packet).toMatchObject({ family: 4, ttl: 63, length: 40, dontFragment: true, fragment: null });
    expect(formatEnds(packet)).toBe('TCP SYN 10.0.0.1:4000 → 10.0.0.2:80');
    expect(formatEnds(read(ipv6(17, udp(payload))))).toBe('UDP [::1]:4000 → [::2]:5000');
    expect(formatEnds(read(ipv4(1, icmp(8, 0, payload))))).toBe('ICMP echo request 10.0.0.1 → 10.0.0.2');
  });

  it('tells fragments of both families; only the first has ports', () => {
    const first = read(ipv4(17, udp(payload), { more: true, id: 9 }));
    expect(first).toMatchObject({ fragment: { id: 9, offset: 0, more: true }, ports: { destination: 5000 } });
    const later = read(ipv4(17, payload, { offset: 1448, id: 9 }));
    expect(later).toMatchObject({ fragment: { id: 9, offset: 1448, more: false }, ports: null });
    const extension = Uint8Array.of(17, 0, 0, 1, 0, 0, 0, 77);
    expect(read(ipv6(17, udp(payload), extension))).toMatchObject({
      fragment: { id: 77, offset: 0, more: true },
      ports: { source: 4000 },
    });
  });

  it('in a datagram of udp is read, and a run is counted though only its begin was captured', () => {
    const inner = ipv4(17, udp(payload));
    expect(read(carrying(inner)).carried).toMatchObject({ kind: 'udp', count: 1, packet: { length: inner.length } });
    const run = carrying(Buffer.concat([inner, inner, ipv4(17, udp(payload.subarray(8)))]));
    expect(read(run.subarray(0, 100)).carried).toMatchObject({ count: 3, packet: { length: inner.length } });
    // to another port it is anybody's datagram
    expect(read(ipv4(17, udp(inner))).carried).toBeNull();
  });

  it('in a frame of VXLAN is read with its network; another frame is none', () => {
    const header = Uint8Array.of(8, 0, 0, 0, 0, 0, 1, 0);
    const frame = new Uint8Array(14);
    frame.set([0x08, 0x00], 12);
    const carrier = { kind: 'vxlan', ports: [8472] } as const;
    const datagram = (type: Uint8Array) =>
      ipv4(17, udp(Buffer.concat([header, type, ipv4(17, udp(payload))]), 33_000, 8472));
    expect(read(datagram(frame), carrier).carried).toMatchObject({ kind: 'vxlan', vni: 1, packet: { protocol: 17 } });
    frame.set([0x08, 0x06], 12);
    expect(read(datagram(frame), carrier).carried).toBeNull();
  });

  it('in a message of WireGuard stays sealed; the counter is told', () => {
    const message = new Uint8Array(64);
    message[0] = 4;
    message[8] = 42;
    const carrier = { kind: 'wireguard', ports: [51_820] } as const;
    expect(read(ipv4(17, udp(message, 51_820, 51_820)), carrier).carried).toEqual({
      kind: 'wireguard',
      packet: null,
      counter: 42n,
    });
    message[0] = 1; // a handshake
    expect(read(ipv4(17, udp(message, 51_820, 51_820)), carrier).carried).toBeNull();
  });

  it('that an ICMP error quotes is read as far as it goes, with what it carries', () => {
    const inner = ipv4(17, udp(payload));
    const error = read(ipv4(1, icmp(3, 4, carrying(inner).subarray(0, 60), 1400)));
    expect(error.icmp).toMatchObject({ mtu: 1400, quoted: { ports: { destination: 8285 } } });
    expect(error.icmp?.quoted?.carried?.packet).toMatchObject({ length: inner.length });
    expect(protocolName(error)).toBe('ICMP fragmentation needed');
    expect(icmpName(6, { type: 2, code: 0 })).toBe('packet too big');
    expect(icmpName(4, { type: 11, code: 0 })).toBe('time exceeded');
  });

  it('of any bytes is read or is none, and never takes more than there is', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('udp', 'vxlan', 'wireguard'),
        fc.uint8Array({ minLength: 1, maxLength: 200 }),
        fc.constantFrom(0x45, 0x4f, 0x60, 0),
        fc.constantFrom(1, 6, 17, 44, 58),
        (kind, bytes, first, protocol) => {
          bytes[0] = first;
          if (bytes.length > 9) bytes[first === 0x60 ? 6 : 9] = protocol;
          const packet = readPacket(bytes, { kind, ports: [8285] });
          expect(packet === null || packet.payload.length <= bytes.length).toBe(true);
        },
      ),
    );
    expect(readPacket(carrying(carrying(ipv4(17, udp(payload)))), OVERLAY)?.carried).not.toBeNull();
  });
});
