/**
 * The plainest possible readings of the RFCs, slow and made without the product's code: what the tests compare with.
 * Bytes are copied freely and every checksum is summed from nothing.
 */

/** One's complement sum of big-endian words (RFC 1071), folded; an odd last byte is followed by a zero. */
export function plainSum(bytes: Uint8Array, initial = 0): number {
  let sum = initial;
  for (let i = 0; i < bytes.length; i += 2) sum += bytes[i]! * 256 + (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  return sum;
}

export function word(bytes: Uint8Array, at: number): number {
  return bytes[at]! * 256 + bytes[at + 1]!;
}

export function long(bytes: Uint8Array, at: number): number {
  return word(bytes, at) * 65_536 + word(bytes, at + 2);
}

export function setWord(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = Math.floor(value / 256) % 256;
  bytes[at + 1] = value % 256;
}

export function setLong(bytes: Uint8Array, at: number, value: number): void {
  setWord(bytes, at, Math.floor(value / 65_536) % 65_536);
  setWord(bytes, at + 2, value % 65_536);
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Are the two the same bytes? Much faster than the deep comparison of `expect`. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

export const TCP = 6;
export const UDP = 17;
export const ICMP = 1;
export const ICMPV6 = 58;

export interface Parsed {
  readonly version: 4 | 6;
  readonly ipLength: number;
  readonly totalLength: number;
  readonly tos: number;
  readonly id: number;
  readonly fragment: number;
  readonly ttl: number;
  readonly protocol: number;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** The whole packet behind the IP header. */
  readonly transport: Uint8Array;
  /** Length of the TCP or UDP header; 0 for anything else. */
  readonly transportHeader: number;
  readonly payload: Uint8Array;
  readonly flags: number;
  readonly sequence: number;
  readonly acknowledgement: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

/** Reads a packet that is whole; knows no IPv6 extension headers. */
export function parse(packet: Uint8Array): Parsed {
  const version = packet[0]! >> 4;
  if (version !== 4 && version !== 6) throw new Error(`IP version ${version}`);
  const ipLength = version === 4 ? (packet[0]! % 16) * 4 : 40;
  const protocol = packet[version === 4 ? 9 : 6]!;
  const transport = packet.slice(ipLength);
  const transportHeader = protocol === TCP ? (transport[12]! >> 4) * 4 : protocol === UDP ? 8 : 0;
  const tcp = protocol === TCP;
  return {
    version,
    ipLength,
    totalLength: version === 4 ? word(packet, 2) : word(packet, 4) + 40,
    tos: version === 4 ? packet[1]! : (word(packet, 0) >> 4) & 255,
    id: version === 4 ? word(packet, 4) : 0,
    fragment: version === 4 ? word(packet, 6) : 0,
    ttl: packet[version === 4 ? 8 : 7]!,
    protocol,
    source: version === 4 ? packet.slice(12, 16) : packet.slice(8, 24),
    destination: version === 4 ? packet.slice(16, 20) : packet.slice(24, 40),
    transport,
    transportHeader,
    payload: transport.slice(transportHeader),
    flags: tcp ? transport[13]! : 0,
    sequence: tcp ? long(transport, 4) : 0,
    acknowledgement: tcp ? long(transport, 8) : 0,
    sourcePort: transportHeader > 0 ? word(transport, 0) : 0,
    destinationPort: transportHeader > 0 ? word(transport, 2) : 0,
  };
}

/** Folded sum of the pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1) for `length` bytes of transport. */
export function pseudoSum(packet: Uint8Array, protocol: number, length: number): number {
  const addresses = packet[0]! >> 4 === 4 ? packet.slice(12, 20) : packet.slice(8, 40);
  return plainSum(addresses, protocol + length);
}

/** Where the transport checksum stands in the transport header, or −1. */
export function checksumOffset(protocol: number): number {
  return protocol === TCP ? 16 : protocol === UDP ? 6 : -1;
}

/** Computes the header and the transport checksum of a packet from nothing, in place. */
export function fillChecksums(packet: Uint8Array): Uint8Array {
  const { version, ipLength, protocol } = parse(packet);
  if (version === 4) {
    setWord(packet, 10, 0);
    setWord(packet, 10, 0xffff - plainSum(packet.slice(0, ipLength)));
  }
  const offset = checksumOffset(protocol);
  if (offset >= 0) {
    setWord(packet, ipLength + offset, 0);
    const transport = packet.slice(ipLength);
    const checksum = 0xffff - plainSum(transport, pseudoSum(packet, protocol, transport.length));
    setWord(packet, ipLength + offset, protocol === UDP && checksum === 0 ? 0xffff : checksum);
  } else if (protocol === ICMPV6) {
    setWord(packet, ipLength + 2, 0);
    const transport = packet.slice(ipLength);
    setWord(packet, ipLength + 2, 0xffff - plainSum(transport, pseudoSum(packet, protocol, transport.length)));
  } else if (protocol === ICMP) {
    setWord(packet, ipLength + 2, 0);
    setWord(packet, ipLength + 2, 0xffff - plainSum(packet.slice(ipLength)));
  }
  return packet;
}

/** Everything about a packet that a careful receiver would refuse, in words; empty for a good one. */
export function faults(packet: Uint8Array): string[] {
  const found: string[] = [];
  const { version, ipLength, totalLength, protocol, transport, fragment } = parse(packet);
  if (totalLength !== packet.length) found.push(`total length ${totalLength} of ${packet.length}`);
  if (version === 4 && plainSum(packet.slice(0, ipLength)) !== 0xffff) found.push('header checksum');
  if (fragment & 0x3fff) return found;
  if (protocol === UDP && word(transport, 4) !== transport.length) found.push('UDP length');
  const unchecked = protocol === UDP && version === 4 && word(transport, 6) === 0;
  if (protocol === TCP || (protocol === UDP && !unchecked)) {
    if (plainSum(transport, pseudoSum(packet, protocol, transport.length)) !== 0xffff) found.push('transport checksum');
  }
  if (protocol === ICMPV6 && plainSum(transport, pseudoSum(packet, protocol, transport.length)) !== 0xffff) {
    found.push('ICMPv6 checksum');
  }
  if (protocol === ICMP && plainSum(transport) !== 0xffff) found.push('ICMP checksum');
  return found;
}

/** An ICMP error taken apart (RFC 792, RFC 1191). Throws when it is none, or a wrong one. */
export function parseIcmpError(packet: Uint8Array) {
  if (faults(packet).length > 0) throw new Error(`ICMP error with ${faults(packet)}`);
  const { version, ipLength, protocol, transport, source, destination, tos, ttl, fragment } = parse(packet);
  if (version !== 4 || ipLength !== 20 || protocol !== ICMP) throw new Error('not ICMP over IPv4');
  if (![3, 11].includes(transport[0]!)) throw new Error(`not an ICMP error: type ${transport[0]}`);
  if (word(transport, 4) !== 0) throw new Error('the unused field is not zero');
  return {
    from: long(source, 0),
    to: long(destination, 0),
    tos,
    ttl,
    fragment,
    type: transport[0]!,
    code: transport[1]!,
    mtu: word(transport, 6),
    quoted: transport.slice(8),
  };
}

/** An ICMPv6 error taken apart (RFC 4443). Throws when it is none, or a wrong one. */
export function parseIcmpv6Error(packet: Uint8Array) {
  if (faults(packet).length > 0) throw new Error(`ICMPv6 error with ${faults(packet)}`);
  const { version, protocol, transport, source, destination, tos, ttl } = parse(packet);
  if (version !== 6 || protocol !== ICMPV6) throw new Error('not ICMPv6');
  if (![1, 2, 3].includes(transport[0]!)) throw new Error(`not an ICMPv6 error: type ${transport[0]}`);
  return {
    from: source,
    to: destination,
    tos,
    ttl,
    type: transport[0]!,
    code: transport[1]!,
    mtu: long(transport, 4),
    quoted: transport.slice(8),
  };
}

/** The virtio-net header as a TUN's user sees it. */
export interface Vnet {
  readonly flags: number;
  readonly type: number;
  readonly headerLength: number;
  readonly size: number;
  readonly start: number;
  readonly offset: number;
}

export const NO_OFFLOAD: Vnet = { flags: 0, type: 0, headerLength: 0, size: 0, start: 0, offset: 0 };

/** Cuts a super-packet into wire packets as a kernel would: each a copy with its fields and checksums made anew. */
export function referenceSplit(packet: Uint8Array, size: number): Uint8Array[] {
  const { version, ipLength, protocol, transportHeader, payload, id, flags, sequence } = parse(packet);
  const headers = packet.slice(0, ipLength + transportHeader);
  const pieces: Uint8Array[] = [];
  for (let done = 0; done < payload.length; done += size) {
    const part = payload.slice(done, done + size);
    const piece = concat(headers, part);
    if (version === 4) {
      setWord(piece, 2, piece.length);
      setWord(piece, 4, (id + pieces.length) % 65_536);
    } else setWord(piece, 4, piece.length - 40);
    if (protocol === TCP) {
      setLong(piece, ipLength + 4, (sequence + done) % 2 ** 32);
      let own = flags;
      if (done + size < payload.length) own &= ~(0x01 | 0x08); // FIN and PSH belong to the last
      if (done > 0) own &= ~0x80; // CWR belongs to the first
      piece[ipLength + 13] = own;
    } else setWord(piece, ipLength + 4, piece.length - ipLength);
    pieces.push(fillChecksums(piece));
  }
  return pieces;
}

/**
 * What a kernel makes of a write to a TUN with virtio-net headers: the packets that it passes on. Throws where a
 * kernel would answer EINVAL or where the header's promises do not hold.
 */
export function deliver(vnet: Vnet, packet: Uint8Array): Uint8Array[] {
  if (vnet.type === 0) {
    if (vnet.flags !== 0) throw new Error('a single packet is written as it came, with nothing left to complete');
    return [packet];
  }
  const { version, ipLength, protocol, transport, transportHeader, totalLength } = parse(packet);
  const type = protocol === UDP ? 5 : version === 4 ? 1 : 4;
  const expected: Vnet = {
    flags: 1,
    type,
    headerLength: ipLength + transportHeader,
    size: vnet.size,
    start: ipLength,
    offset: checksumOffset(protocol),
  };
  if (JSON.stringify(vnet) !== JSON.stringify(expected)) throw new Error(`virtio-net header ${JSON.stringify(vnet)}`);
  if (totalLength !== packet.length) throw new Error('total length of a merged packet');
  if (version === 4 && plainSum(packet.slice(0, ipLength)) !== 0xffff) throw new Error('header checksum of a merge');
  if (protocol === UDP && word(transport, 4) !== transport.length) throw new Error('UDP length of a merged packet');
  const partial = word(transport, checksumOffset(protocol));
  if (partial !== pseudoSum(packet, protocol, transport.length)) throw new Error('partial checksum of a merged packet');
  if (vnet.size === 0 || transport.length - transportHeader <= vnet.size) throw new Error('a merge of one packet');
  if (Math.ceil((transport.length - transportHeader) / vnet.size) > 64) throw new Error('more than 64 segments');
  return referenceSplit(packet, vnet.size);
}
