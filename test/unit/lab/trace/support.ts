/** Packets for the trace's tests, built byte by byte beside the code that reads them. */
import type { Hop, Sighting } from '../../../../src/lab/trace/flight.js';
import { type Carrier, type Packet, readPacket } from '../../../../src/lab/trace/packet.js';

export const OVERLAY: Carrier = { kind: 'udp', ports: [8285] };

interface Ipv4Fields {
  source?: number;
  destination?: number;
  ttl?: number;
  id?: number;
  offset?: number;
  more?: boolean;
  dontFragment?: boolean;
}

export function ipv4(protocol: number, payload: Uint8Array, fields: Ipv4Fields = {}): Uint8Array {
  const { source = 0x0a000001, destination = 0x0a000002, ttl = 64, id = 7, offset = 0, more = false } = fields;
  const bytes = new Uint8Array(20 + payload.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x45;
  view.setUint16(2, bytes.length);
  view.setUint16(4, id);
  view.setUint16(6, (fields.dontFragment ? 0x4000 : 0) | (more ? 0x2000 : 0) | (offset / 8));
  bytes[8] = ttl;
  bytes[9] = protocol;
  view.setUint32(12, source);
  view.setUint32(16, destination);
  bytes.set(payload, 20);
  return bytes;
}

export function ipv6(protocol: number, payload: Uint8Array, extension = new Uint8Array(0)): Uint8Array {
  const bytes = new Uint8Array(40 + extension.length + payload.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x60;
  view.setUint16(4, extension.length + payload.length);
  bytes[6] = extension.length > 0 ? 44 : protocol;
  bytes[7] = 64;
  bytes[23] = 1;
  bytes[39] = 2;
  bytes.set(extension, 40);
  bytes.set(payload, 40 + extension.length);
  return bytes;
}

export function udp(payload: Uint8Array, source = 4000, destination = 5000): Uint8Array {
  const bytes = new Uint8Array(8 + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, source);
  view.setUint16(2, destination);
  view.setUint16(4, bytes.length);
  bytes.set(payload, 8);
  return bytes;
}

export function tcp(
  fields: { sequence: number; acknowledgement?: number; flags: number; source?: number; destination?: number },
  payload = new Uint8Array(0),
): Uint8Array {
  const bytes = new Uint8Array(20 + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, fields.source ?? 4000);
  view.setUint16(2, fields.destination ?? 80);
  view.setUint32(4, fields.sequence);
  view.setUint32(8, fields.acknowledgement ?? 0);
  bytes[12] = 5 << 4;
  bytes[13] = fields.flags;
  bytes.set(payload, 20);
  return bytes;
}

export function icmp(type: number, code: number, payload: Uint8Array, word = 0): Uint8Array {
  const bytes = new Uint8Array(8 + payload.length);
  bytes[0] = type;
  bytes[1] = code;
  new DataView(bytes.buffer).setUint32(4, word);
  bytes.set(payload, 8);
  return bytes;
}

/** A datagram of the overlay around a packet. */
export function carrying(inner: Uint8Array): Uint8Array {
  return ipv4(17, udp(inner, 8285, 8285), { source: 0xc0a84101, destination: 0xc0a84102, dontFragment: true });
}

export function read(bytes: Uint8Array, carrier: Carrier | null = OVERLAY): Packet {
  const packet = readPacket(bytes, carrier);
  if (packet === null) throw new Error('these bytes are no packet');
  return packet;
}

export function sighting(where: string, at: number, bytes: Uint8Array, carrier: Carrier | null = OVERLAY): Sighting {
  const [place = '', device = '', direction = ''] = where.split(' ');
  return { place, device, direction: direction === 'in' ? 'in' : 'out', at: BigInt(at), packet: read(bytes, carrier) };
}

export function hop(where: string, at: number, bytes: Uint8Array): Hop {
  const { packet, ...rest } = sighting(where, at, bytes);
  return {
    ...rest,
    packets: [packet],
    inner: packet.carried === null ? packet : packet.carried.packet,
    inferred: false,
  };
}
