/** One packet among all that were captured: where it was seen, on its way there and on the answer's way back. */
import * as wire from '../../encap/wire/headers.js';
import { ECHO_REPLY, ECHO_REQUEST, isReset, isSyn, type Packet } from './packet.js';

/** A packet at a device. */
export interface Sighting {
  /** The place of the lab, such as `host1/c1`. */
  readonly place: string;
  readonly device: string;
  /** Seen from the place: did it come in by the device, or go out? */
  readonly direction: 'in' | 'out';
  /** Nanoseconds since 1970, by the clock that all places share. */
  readonly at: bigint;
  readonly packet: Packet;
}

/** What passed a device one way, of the packet that is followed: itself, or what carries it, or its pieces. */
export interface Hop {
  readonly place: string;
  readonly device: string;
  readonly direction: Sighting['direction'];
  readonly at: bigint;
  /** One, unless it was cut into fragments or segments; as they were on the device. */
  readonly packets: readonly Packet[];
  /** The first of them without what the overlay put around it; null where that is sealed. */
  readonly inner: Packet | null;
  /** Known by length and time only, for it is sealed. */
  readonly inferred: boolean;
}

/** The packet itself, or the one that a datagram of the overlay carries. */
export function innermost(packet: Packet): Packet | null {
  return packet.carried === null ? packet : packet.carried.packet;
}

/** The first packet of the capture that has the marker in its payload, or is the SYN of a connection to the port. */
export function findFirst(
  sightings: readonly Sighting[],
  wanted: { readonly place: string; readonly marker: Uint8Array; readonly tcpPort: number | null },
): Packet | null {
  const there = sightings.filter(({ place }) => place === wanted.place).map(({ packet }) => innermost(packet));
  const marked = there.find((packet) => packet !== null && packet.icmp?.quoted == null && holds(packet, wanted.marker));
  if (marked) return marked;
  return there.find((one) => one !== null && isSyn(one) && one.ports?.destination === wanted.tcpPort) ?? null;
}

function holds({ payload }: Packet, marker: Uint8Array): boolean {
  return Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).includes(Buffer.from(marker));
}

/**
 * Is the second the same packet as the first, on another part of its way? Addresses and ports may have been translated; of a
 * quoted packet there may be only the beginning; of a TCP segment it may be a part.
 */
export function isSame(followed: Packet, seen: Packet): boolean {
  if (followed.protocol !== seen.protocol || followed.family !== seen.family) return false;
  if ((seen.fragment?.offset ?? 0) > 0) return false;
  if (followed.tcp !== null) {
    if (seen.tcp === null || isSyn(followed) !== isSyn(seen)) return false;
    if (isSyn(followed)) return seen.tcp.sequence === followed.tcp.sequence;
    if (followed.payloadLength === 0) {
      const isEqual = seen.tcp.sequence === followed.tcp.sequence && seen.tcp.flags === followed.tcp.flags;
      return isEqual && seen.tcp.acknowledgement === followed.tcp.acknowledgement && seen.payloadLength === 0;
    }
    const from = (seen.tcp.sequence - followed.tcp.sequence) >>> 0;
    return (
      seen.payloadLength > 0 &&
      from < followed.payloadLength &&
      startsAlike(followed.payload.subarray(from), seen.payload)
    );
  }
  if (followed.icmp?.type !== seen.icmp?.type) return false;
  return startsAlike(followed.payload, seen.payload);
}

function startsAlike(a: Uint8Array, b: Uint8Array): boolean {
  const length = Math.min(a.length, b.length);
  return Buffer.compare(a.subarray(0, length), b.subarray(0, length)) === 0;
}

/** Does an ICMP error tell of the packet that is followed, or of the datagram that carries it? */
export function tellsOf(followed: Packet, seen: Packet): boolean {
  const quoted = seen.icmp?.quoted ?? null;
  const inside = quoted === null ? null : innermost(quoted);
  return inside !== null && isSame(followed, inside);
}

/** Is it the answer of whom the packet reached? An ICMP error about it is one too. */
export function isAnswer(arrived: Packet, seen: Packet): boolean {
  if (tellsOf(arrived, seen)) return true;
  if (seen.family !== arrived.family || seen.protocol !== arrived.protocol) return false;
  if (seen.source !== arrived.destination || seen.destination !== arrived.source) return false;
  if (arrived.icmp !== null) {
    const isReply =
      arrived.icmp.type === ECHO_REQUEST[arrived.family] && seen.icmp?.type === ECHO_REPLY[arrived.family];
    return isReply && startsAlike(arrived.payload, seen.payload);
  }
  if (seen.ports?.source !== arrived.ports?.destination || seen.ports?.destination !== arrived.ports?.source)
    return false;
  if (arrived.tcp === null) return true;
  const taken = (arrived.tcp.sequence + arrived.payloadLength + (isSyn(arrived) ? 1 : 0)) >>> 0;
  return isReset(seen) || (((seen.tcp?.flags ?? 0) & wire.TCP_ACK) !== 0 && seen.tcp?.acknowledgement === taken);
}

/** Where the packet was seen, in the order of time. What was sent again is not seen again. */
export function followPacket(sightings: readonly Sighting[], followed: Packet): Hop[] {
  const hops = new Map<string, { first: Sighting; packets: Packet[] }>();
  for (const sighting of sightings) {
    const { packet } = sighting;
    const inner = innermost(packet);
    // an error about it is its answer, not itself
    if (inner === null || !isSame(followed, inner)) {
      joinFragment(hops, sighting);
      continue;
    }
    const key = keyOf(sighting);
    const hop = hops.get(key);
    if (hop === undefined) hops.set(key, { first: sighting, packets: [packet] });
    else if (isAnotherPart(hop.packets, packet)) hop.packets.push(packet);
  }
  return [...hops.values()].map(({ first, packets }) => ({
    ...{ place: first.place, device: first.device, direction: first.direction, at: first.at },
    packets,
    inner: innermost(packets[0]),
    inferred: false,
  }));
}

/** The same device can see it twice one way: as it is, and inside a datagram. */
function keyOf({ place, device, direction, packet }: Sighting): string {
  return `${place} ${device} ${direction} ${packet.carried !== null}`;
}

/** Later fragments have no port and no marker; they are told by the number that all of a packet's have. */
function joinFragment(hops: Map<string, { packets: Packet[] }>, { place, device, direction, packet }: Sighting): void {
  if (packet.fragment === null || packet.fragment.offset === 0) return;
  for (const carried of [false, true]) {
    const packets = hops.get(`${place} ${device} ${direction} ${carried}`)?.packets;
    const first = packets?.[0];
    const belongs =
      first?.fragment?.id === packet.fragment.id &&
      first.source === packet.source &&
      first.destination === packet.destination &&
      !packets?.some(({ fragment }) => fragment?.offset === packet.fragment?.offset);
    if (belongs) packets?.push(packet);
  }
}

/** A segment that begins where none of those seen before has been; what begins inside of one is sent again. */
function isAnotherPart(packets: readonly Packet[], packet: Packet): boolean {
  const sequence = innermost(packet)?.tcp?.sequence;
  if (sequence === undefined) return false;
  return packets.every((known) => {
    const from = (sequence - (innermost(known)?.tcp?.sequence ?? 0)) >>> 0;
    return from >= segmentBytes(known) && from < 2 ** 31;
  });
}

/** Bytes of the connection in it; in a datagram of a run those of all its packets. */
function segmentBytes(packet: Packet): number {
  const { carried } = packet;
  if (carried === null || carried.packet === null) return packet.payloadLength;
  if (carried.kind !== 'udp') return carried.packet.payloadLength;
  return packet.payloadLength - carried.count * (carried.packet.length - carried.packet.payloadLength);
}

/** The answer's first sighting, at or after the moment at which the packet arrived. */
export function findAnswer(
  sightings: readonly Sighting[],
  arrived: Packet,
  from: { at: bigint; place: string | null },
): Sighting | null {
  return (
    sightings.find(({ place, at, packet }) => {
      if (at < from.at || (from.place !== null && place !== from.place)) return false;
      const inner = innermost(packet);
      return inner !== null && isAnswer(arrived, inner);
    }) ?? null
  );
}

/** The first ICMP error about the packet, or about a datagram that carries it. */
export function findError(sightings: readonly Sighting[], followed: Packet): Sighting | null {
  return (
    sightings.find(({ packet }) => [packet, innermost(packet)].some((one) => one !== null && tellsOf(followed, one))) ??
    null
  );
}

/** WireGuard: its header of 16 bytes and the tag of 16 around the packet, which is filled up to a multiple of 16 bytes. */
export function sealedLength(innerLength: number, underlay: 4 | 6): number {
  const padded = Math.ceil(innerLength / 16) * 16;
  return padded + 32 + (underlay === 4 ? wire.OVERHEAD_IPV4 : wire.OVERHEAD_IPV6);
}

/**
 * Adds the sightings of sealed datagrams that must be the followed packet: between its last one in the clear before and its
 * first one after, of exactly the length that it has sealed, and with one message counter.
 */
export function addSealed(hops: readonly Hop[], sightings: readonly Sighting[], overlayDevice: string): Hop[] {
  const into = hops.findIndex(({ device, direction }) => device === overlayDevice && direction === 'out');
  const before = hops[into];
  if (before === undefined) return [...hops];
  const until = hops[into + 1]?.at;
  const lengths = before.packets.map(({ length }) => length);
  const isIts = ({ at, packet }: Sighting) =>
    packet.carried?.kind === 'wireguard' &&
    at >= before.at &&
    (until === undefined || at <= until) &&
    packet.length === sealedLength(lengths[0], packet.family);
  const first = sightings.find((sighting) => sighting.place === before.place && isIts(sighting));
  if (first?.packet.carried?.kind !== 'wireguard') return [...hops];
  const { counter } = first.packet.carried;
  const found = sightings.filter(
    (one) => isIts(one) && one.packet.carried?.kind === 'wireguard' && one.packet.carried.counter === counter,
  );
  const sealed = found.map(
    ({ packet, ...where }): Hop => ({ ...where, packets: [packet], inner: null, inferred: true }),
  );
  return [...hops.slice(0, into + 1), ...sealed, ...hops.slice(into + 1)];
}

/** The hops until it is at a place for the first time, as itself: what is seen later is an echo of it. */
export function untilArrival(hops: readonly Hop[], target: string | null): Hop[] {
  const arrival = hops.findIndex(
    ({ place, direction, packets }) => place === target && direction === 'in' && packets[0].carried === null,
  );
  return arrival < 0 ? [...hops] : hops.slice(0, arrival + 1);
}

/** Takes away the copies that a bridge or switch sends to all its ports while it does not know where an address is. */
export function withoutFlooding(
  hops: readonly Hop[],
  isOnTheWay: (hop: Hop) => boolean,
): { hops: Hop[]; flooded: Hop[] } {
  const flooded = hops.filter((hop) => !isOnTheWay(hop));
  return { hops: hops.filter((hop) => !flooded.includes(hop)), flooded };
}
