/** Building and reading packets, written apart from the code under test and as plainly as can be. */

/** The Internet checksum of RFC 1071, ready to be stored; 0 when a stored one is right. */
export function checksum(...parts: readonly Uint8Array[]): number {
  const bytes = Buffer.concat(parts);
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}

export const TCP = 6;
export const UDP = 17;
export const ICMP = 1;

export interface Ipv4Fields {
  /** Host order. */
  readonly source: number;
  readonly destination: number;
  readonly protocol: number;
  readonly ttl?: number;
  readonly tos?: number;
  readonly id?: number;
  /** The 16 bits of flags and fragment offset; "do not fragment" by default. */
  readonly fragment?: number;
}

/** An IPv4 packet around a payload, its header checksum right. */
export function ipv4(fields: Ipv4Fields, payload: Uint8Array): Buffer {
  const header = Buffer.alloc(20);
  header[0] = 0x45;
  header[1] = fields.tos ?? 0;
  header.writeUInt16BE(20 + payload.length, 2);
  header.writeUInt16BE(fields.id ?? 0, 4);
  header.writeUInt16BE(fields.fragment ?? 0x4000, 6);
  header[8] = fields.ttl ?? 64;
  header[9] = fields.protocol;
  header.writeUInt32BE(fields.source, 12);
  header.writeUInt32BE(fields.destination, 16);
  header.writeUInt16BE(checksum(header), 10);
  return Buffer.concat([header, payload]);
}

/** Puts the right header checksum into an IPv4 packet without options. */
export function fixHeaderChecksum(packet: Buffer): Buffer {
  packet.writeUInt16BE(0, 10);
  packet.writeUInt16BE(checksum(packet.subarray(0, 20)), 10);
  return packet;
}

export interface UdpPacketFields extends Omit<Ipv4Fields, 'protocol'> {
  readonly sourcePort: number;
  readonly destinationPort: number;
}

/** A whole UDP packet over IPv4, its checksums right. */
export function udpPacket(fields: UdpPacketFields, payload: Uint8Array): Buffer {
  const udp = Buffer.alloc(8 + payload.length);
  udp.writeUInt16BE(fields.sourcePort, 0);
  udp.writeUInt16BE(fields.destinationPort, 2);
  udp.writeUInt16BE(udp.length, 4);
  udp.set(payload, 8);
  const pseudo = Buffer.alloc(12);
  pseudo.writeUInt32BE(fields.source, 0);
  pseudo.writeUInt32BE(fields.destination, 4);
  pseudo[9] = UDP;
  pseudo.writeUInt16BE(udp.length, 10);
  udp.writeUInt16BE(checksum(pseudo, udp) || 0xffff, 6);
  return ipv4({ ...fields, protocol: UDP }, udp);
}
