/**
 * The TUN → UDP forwarder: reads inner packets, finds their peer, sends them.
 *
 * Theory of operation. A turn reads until the TUN has no more, within a limit: each packet lands behind the last one
 * that is still waiting to be sent, in an arena that is reused from its start as soon as nothing waits, so that a quiet
 * flow stays in cache. A packet is checked, its TTL taken down, and handed to the batch; a super-packet is segmented into
 * it. The batch sends when a run ends and, at the latest, at the end of the turn. IPv4 and IPv6 part at the first byte and
 * meet again at the peer.
 */
import { EAGAIN } from '../../linux/constants.js';
import { RegionAllocator } from '../../linux/memory.js';
import { IOVEC_BYTES, IOVEC_LENGTH } from '../../linux/structs.js';
import {
  VNET_CSUM_OFFSET,
  VNET_CSUM_START,
  VNET_F_NEEDS_CSUM,
  VNET_FLAGS,
  VNET_GSO_NONE,
  VNET_GSO_SIZE,
  VNET_GSO_TYPE,
  VNET_HEADER_BYTES,
} from '../../tun/virtio.js';
import { SEGMENT_BUCKETS, Tx, TxDrop } from '../forwarding/counters.js';
import { TX_BYTES } from '../forwarding/layout.js';
import { lookup, lookupV6, NO_VALUE } from '../forwarding/prefix-table.js';
import { decrementTtl } from '../wire/checksum.js';
import { outerEcn } from '../wire/ecn.js';
import {
  get16,
  get32,
  IPV4_DESTINATION,
  IPV4_DONT_FRAGMENT,
  IPV4_FRAGMENT,
  IPV4_MIN_HEADER,
  IPV4_TOTAL_LENGTH,
  IPV4_TTL,
  IPV6_DESTINATION,
  IPV6_HEADER,
  IPV6_HOP_LIMIT,
  IPV6_MIN_MTU,
  IPV6_PAYLOAD_LENGTH,
  IPV6_SOURCE,
} from '../wire/headers.js';
import {
  FRAGMENTATION_NEEDED,
  type IcmpErrorKind,
  type IcmpErrorOptions,
  NET_UNREACHABLE,
  RateLimit,
  TIME_EXCEEDED,
  writeIcmpError,
} from '../wire/icmp.js';
import {
  HOP_LIMIT_EXCEEDED,
  type Icmpv6ErrorOptions,
  MAX_ICMPV6_ERROR,
  NO_ROUTE,
  PACKET_TOO_BIG,
  writeIcmpv6Error,
} from '../wire/icmpv6.js';
import { Ipv6Net, ipv6Bytes, isMulticastOrLinkLocal } from '../wire/ipv6.js';
import { completeChecksum, HEADER_STRIDE, Segmenter } from '../wire/segment.js';
import type { ForwarderContext } from './context.js';
import type { Forwarder } from './loop.js';
import type { Outlet } from './outlet.js';
import { createBatch, type OutgoingBatch } from './sealed-batch.js';

/** The longest packet that a TUN hands over. */
const MAX_PACKET = 65_536;
/** Room for a few super-packets: more would only push the earlier ones out of the cache before they are sent. */
const ARENA_BYTES = 6 * MAX_PACKET;
const ALIGNMENT = 64;
/** Reads from the TUN in one turn. */
export const TURN_READS = 64;

export class TxForwarder implements Forwarder {
  readonly direction = 'tx';
  readonly descriptor: number;
  readonly #memory: ForwarderContext['memory'];
  readonly #sys: ForwarderContext['sys'];
  readonly #sum: ForwarderContext['sum'];
  readonly #options: ForwarderContext['options'];
  readonly #counters: ForwarderContext['counters']['tx'];
  readonly #control: ForwarderContext['control'];
  readonly #batch: OutgoingBatch;
  /** Does the tunnel take one off the inner TTL? */
  readonly #isHop: boolean;
  readonly #segmenter: Segmenter;
  readonly #icmpOptions: IcmpErrorOptions;
  readonly #icmpv6Options: Icmpv6ErrorOptions | null;
  readonly #icmpLimit: RateLimit;

  /** The version of the packets that IPv4's checks are for; none has −1. */
  readonly #carried4: number;
  readonly #subnets: number;
  readonly #networkMask: number;
  /** Null where the overlay carries no IPv6. */
  readonly #networkV6: Ipv6Net | null;
  readonly #subnetsV6: number;
  readonly #vnet: number;
  readonly #readIov: number;
  readonly #readAddress: number;
  readonly #readCount: number;
  readonly #icmpIov: number;
  readonly #icmpAddress: number;
  readonly #icmpCount: number;
  readonly #arena: number;

  constructor(context: ForwarderContext, outlet: Outlet) {
    const { memory, sum, options } = context;
    this.#memory = memory;
    this.#sys = context.sys;
    this.#sum = sum;
    this.#counters = context.counters.tx;
    this.#control = context.control;
    this.#options = options;
    this.descriptor = options.tun;
    const { layout } = options;
    this.#carried4 = options.carriesIpv4 ? 4 : -1;
    this.#subnets = layout.subnets >>> 2;
    this.#networkMask = options.networkMask | 0;
    this.#icmpLimit = new RateLimit(options.icmpPerSecond, options.icmpBurst);

    const regions = new RegionAllocator(layout.tx, layout.tx + TX_BYTES);
    this.#vnet = regions.take(VNET_HEADER_BYTES);
    this.#readIov = regions.take(2 * IOVEC_BYTES);
    this.#icmpIov = regions.take(2 * IOVEC_BYTES);
    const icmp = regions.take(MAX_ICMPV6_ERROR);
    const { ipv6 } = options;
    this.#networkV6 = ipv6 === null ? null : new Ipv6Net(ipv6.network);
    this.#subnetsV6 = layout.subnetsV6 >>> 2;
    this.#icmpOptions = { memory, sum, to: icmp, source: options.icmpSource };
    this.#icmpv6Options = ipv6 === null ? null : { memory, sum, to: icmp, source: ipv6Bytes(ipv6.icmpSource) };
    const zeroVnet = regions.take(VNET_HEADER_BYTES);
    this.#segmenter = new Segmenter(memory, sum, regions.take(HEADER_STRIDE));
    this.#isHop = options.sealing === undefined;
    this.#batch = createBatch(context, regions, outlet, (packet, available, room) =>
      this.#tooLong(packet, available, room),
    );
    this.#arena = regions.take(ARENA_BYTES, 4096);

    // without a virtio-net header the first of the two iovecs is left out
    const skip = options.vnetHeader ? 0 : 1;
    this.#readCount = 2 - skip;
    this.#icmpCount = 2 - skip;
    this.#readAddress = memory.base + this.#readIov + skip * IOVEC_BYTES;
    this.#icmpAddress = memory.base + this.#icmpIov + skip * IOVEC_BYTES;
    memory.setPointer(this.#readIov, this.#vnet);
    memory.u32[(this.#readIov + IOVEC_LENGTH) >>> 2] = VNET_HEADER_BYTES;
    memory.u32[(this.#readIov + IOVEC_BYTES + IOVEC_LENGTH) >>> 2] = MAX_PACKET;
    memory.setPointer(this.#icmpIov, zeroVnet);
    memory.u32[(this.#icmpIov + IOVEC_LENGTH) >>> 2] = VNET_HEADER_BYTES;
    memory.setPointer(this.#icmpIov + IOVEC_BYTES, icmp);
  }

  /** Reads until the TUN refuses or the turn is over, and sends everything. @returns the errno that it began with, or EAGAIN */
  turn(): number {
    this.#counters.add(Tx.turns, 1);
    this.#batch.begin();
    const memory = this.#memory;
    const headerBytes = this.#options.vnetHeader ? VNET_HEADER_BYTES : 0;
    const end = this.#arena + ARENA_BYTES - MAX_PACKET;
    let at = this.#arena;
    for (let reads = 0; reads < TURN_READS && !this.#control.stopRequested; reads++) {
      memory.setPointer(this.#readIov + IOVEC_BYTES, at);
      const bytes = this.#sys.readv(this.#options.tun, this.#readAddress, this.#readCount);
      if (bytes < headerBytes) {
        // Later in a turn it means, as a rule, that there is no more. Asking would only hold up what was read: a reason
        // that lasts meets the first read of the next turn, too.
        if (bytes < 0 && reads === 0) return this.#sys.errno();
        break;
      }
      const length = bytes - headerBytes;
      this.#counters.add(Tx.reads, 1);
      this.#packet(at, length);
      if (this.#batch.empty) at = this.#arena;
      else {
        at = (at + length + ALIGNMENT - 1) & -ALIGNMENT;
        if (at > end) {
          this.#batch.flush();
          at = this.#arena;
        }
      }
    }
    this.#batch.flush();
    return EAGAIN;
  }

  woken(): void {
    this.#batch.woken?.();
  }

  /** Decides about one packet of the TUN: into the batch, or counted under the reason why not. */
  #packet(at: number, length: number): void {
    const { u8, view } = this.#memory;
    if (length < IPV4_MIN_HEADER) return this.#counters.drop(TxDrop.short, 1);
    if (u8[at] >>> 4 !== this.#carried4) return this.#packetV6(at, length);
    const headerLength = (u8[at] & 15) * 4;
    if (headerLength < IPV4_MIN_HEADER || headerLength > length) return this.#counters.drop(TxDrop.bad_header, 1);
    if (get16(view, at + IPV4_TOTAL_LENGTH) !== length) return this.#counters.drop(TxDrop.bad_length, 1);

    const peer = this.#peerOf(get32(view, at + IPV4_DESTINATION));
    if (peer === NO_VALUE) return this.#noRoute(at, length);
    if (this.#isHop) {
      if (u8[at + IPV4_TTL] <= 1) {
        this.#counters.drop(TxDrop.ttl_expired, 1);
        return this.#sendIcmp(TIME_EXCEEDED, at, length, 0);
      }
      decrementTtl(u8, at);
    }
    this.#forward(peer, at, length);
  }

  #packetV6(at: number, length: number): void {
    const { u8, i32, view } = this.#memory;
    const network = this.#networkV6;
    if (u8[at] >>> 4 !== 6 || network === null) return this.#counters.drop(TxDrop.bad_version, 1);
    if (length < IPV6_HEADER) return this.#counters.drop(TxDrop.short, 1);
    if (get16(view, at + IPV6_PAYLOAD_LENGTH) + IPV6_HEADER !== length)
      return this.#counters.drop(TxDrop.bad_length, 1);
    // what the kernel says on every device of its own accord (MLD, neighbour discovery) is for no host of the overlay
    if (isMulticastOrLinkLocal(u8, at + IPV6_DESTINATION) || isMulticastOrLinkLocal(u8, at + IPV6_SOURCE)) {
      return this.#counters.drop(TxDrop.multicast_or_link_local, 1);
    }

    const peer = network.contains(view, at + IPV6_DESTINATION)
      ? lookupV6(i32, this.#subnetsV6, u8, at + IPV6_DESTINATION + this.#options.layout.subnetOctetV6)
      : NO_VALUE;
    if (peer === NO_VALUE) return this.#noRoute(at, length);
    if (this.#isHop) {
      if (u8[at + IPV6_HOP_LIMIT] <= 1) {
        this.#counters.drop(TxDrop.ttl_expired, 1);
        return this.#sendIcmp(HOP_LIMIT_EXCEEDED, at, length, 0);
      }
      u8[at + IPV6_HOP_LIMIT]--;
    }
    this.#forward(peer, at, length);
  }

  #forward(peer: number, at: number, length: number): void {
    const { u8 } = this.#memory;
    if (!this.#options.vnetHeader) this.#whole(peer, at, length);
    else if (u8[this.#vnet + VNET_GSO_TYPE] === VNET_GSO_NONE) this.#single(peer, at, length);
    else this.#superPacket(peer, at, length);
  }

  /** Of the outer header. Only WireGuard has a say there; flannel's udp tunnel does not. */
  #ecnOf(at: number): number {
    return this.#isHop ? 0 : outerEcn(this.#memory.u8, at);
  }

  #peerOf(destination: number): number {
    if (((destination ^ this.#options.network) & this.#networkMask) !== 0) return NO_VALUE;
    return lookup(this.#memory.i32, this.#subnets, this.#options.layout.subnetShift, destination);
  }

  #whole(peer: number, at: number, length: number): void {
    this.#batch.reserve(peer, length, this.#ecnOf(at));
    this.#batch.addPacket(at, length);
    this.#counters.add(Tx.segments_le_1, 1);
  }

  #single(peer: number, at: number, length: number): void {
    const { u8, u16 } = this.#memory;
    if ((u8[this.#vnet + VNET_FLAGS] & VNET_F_NEEDS_CSUM) !== 0) {
      const start = u16[(this.#vnet + VNET_CSUM_START) >>> 1];
      const offset = u16[(this.#vnet + VNET_CSUM_OFFSET) >>> 1];
      if (!completeChecksum(this.#memory, this.#sum, at, length, start, offset)) {
        return this.#counters.drop(TxDrop.bad_offload_header, 1);
      }
    }
    this.#whole(peer, at, length);
  }

  #superPacket(peer: number, at: number, length: number): void {
    const { u8, u16 } = this.#memory;
    const type = u8[this.#vnet + VNET_GSO_TYPE];
    const size = u16[(this.#vnet + VNET_GSO_SIZE) >>> 1];
    const start = u16[(this.#vnet + VNET_CSUM_START) >>> 1];
    const segmenter = this.#segmenter;
    if (!segmenter.begin(at, length, type, size, start)) return this.#counters.drop(TxDrop.bad_offload_header, 1);
    const batch = this.#batch;
    const headerLength = segmenter.headerLength;
    const count = segmenter.count;
    const ecn = this.#ecnOf(at);
    for (let i = 0; i < count; i++) {
      const payloadLength = segmenter.payloadLength(i);
      const headers = batch.reserve(peer, headerLength + payloadLength, ecn);
      segmenter.emit(i, headers);
      batch.addSegment(headers, headerLength, segmenter.payloadAt(i), payloadLength);
    }
    this.#counters.add(Tx.super_packets, 1);
    let bucket = 0;
    while (bucket < SEGMENT_BUCKETS.length && count > SEGMENT_BUCKETS[bucket]) bucket++;
    this.#counters.add(Tx.segments_le_1 + bucket, 1);
  }

  /** As long as there may be peers that we have not heard of, nobody is told that there is no way to them. */
  #noRoute(at: number, length: number): void {
    if (!this.#control.peersComplete) return this.#counters.drop(TxDrop.no_route_yet, 1);
    this.#counters.drop(TxDrop.no_route, 1);
    this.#sendIcmp(this.#isV6(at) ? NO_ROUTE : NET_UNREACHABLE, at, length, 0);
  }

  #isV6(at: number): boolean {
    return this.#memory.u8[at] >>> 4 === 6;
  }

  /** Tells the sender of a packet why it was not forwarded, if it may be told and not too much was told already. */
  #sendIcmp(kind: IcmpErrorKind, at: number, available: number, mtu: number): void {
    const length =
      this.#icmpv6Options !== null && this.#isV6(at)
        ? writeIcmpv6Error(this.#icmpv6Options, kind, at, available, mtu)
        : writeIcmpError(this.#icmpOptions, kind, at, available, mtu);
    if (length === 0) return;
    if (!this.#icmpLimit.take(Date.now())) return this.#counters.add(Tx.icmp_suppressed, 1);
    this.#memory.u32[(this.#icmpIov + IOVEC_BYTES + IOVEC_LENGTH) >>> 2] = length;
    if (this.#sys.writev(this.#options.tun, this.#icmpAddress, this.#icmpCount) >= 0) {
      this.#counters.add(Tx.icmp_sent, 1);
    }
  }

  /** A datagram did not fit its path. It goes out in fragments now; the sender is asked for shorter packets. */
  #tooLong(packet: number, available: number, room: number): void {
    const { view } = this.#memory;
    if (this.#isV6(packet)) {
      // an IPv6 host sends no less than this anyway: the tunnel cuts it, as RFC 2473 (section 7.1) asks of tunnels
      const mtu = Math.max(room, IPV6_MIN_MTU);
      const total = get16(view, packet + IPV6_PAYLOAD_LENGTH) + IPV6_HEADER;
      if (room > 0 && mtu < total) this.#sendIcmp(PACKET_TOO_BIG, packet, available, mtu);
      return;
    }
    if ((get16(view, packet + IPV4_FRAGMENT) & IPV4_DONT_FRAGMENT) === 0) return;
    if (room < IPV4_MIN_HEADER + 8 || room >= get16(view, packet + IPV4_TOTAL_LENGTH)) return;
    this.#sendIcmp(FRAGMENTATION_NEEDED, packet, available, room);
  }
}
