/**
 * The UDP → TUN forwarder: receives datagrams, checks them, merges neighbours, writes them to the TUN.
 *
 * Theory of operation. One recvmmsg takes everything that waits, up to a slot each; with UDP_GRO a slot holds a run of
 * equal datagrams of one sender. Every inner packet is checked, its TTL taken down, and given to the merger; then every
 * item of the merger is one writev. Packets stay in their slots until they are written. Where there is nothing to merge
 * with (the packet came alone, or the TUN takes no merged ones) it is written as soon as it is checked.
 *
 * Each of the two sockets has a forwarder of its own, with its own slots. What a datagram holds, IPv4 or IPv6, has nothing to
 * do with which of them it came by.
 */
import type { Family } from '../../base/address.js';
import { EAGAIN, EBADF, EBADFD, EINVAL } from '../../linux/constants.js';
import { RegionAllocator } from '../../linux/memory.js';
import { SOCKADDR_ADDRESS, SOCKADDR_IN6_ADDRESS, SOCKADDR_PORT, toNetworkOrder } from '../../linux/structs.js';
import type { Opener } from '../../wireguard/opener.js';
import { Rx, RxDrop } from '../forwarding/counters.js';
import { RX_BYTES } from '../forwarding/layout.js';
import {
  PEER_BYTES,
  PEER_IPV6,
  PEER_LAST_RECEIVED,
  PEER_RX_BYTES,
  PEER_RX_PACKETS,
  PEER_SOCKADDR,
} from '../forwarding/peer-record.js';
import { lookup, lookupV6, NO_VALUE } from '../forwarding/prefix-table.js';
import { findSender } from '../forwarding/sender-set.js';
import { decrementTtl, headerSum } from '../wire/checksum.js';
import { markCongestion } from '../wire/ecn.js';
import {
  get16,
  get32,
  IPV4_DESTINATION,
  IPV4_MIN_HEADER,
  IPV4_SOURCE,
  IPV4_TOTAL_LENGTH,
  IPV4_TTL,
  IPV6_DESTINATION,
  IPV6_HEADER,
  IPV6_HOP_LIMIT,
  IPV6_PAYLOAD_LENGTH,
  IPV6_SOURCE,
} from '../wire/headers.js';
import { RateLimit } from '../wire/icmp.js';
import { Ipv6Net, isMulticastOrLinkLocal } from '../wire/ipv6.js';
import { isUnfinished } from '../wire/unfinished.js';
import type { ForwarderContext } from './context.js';
import type { Forwarder } from './loop.js';
import { ReceiveSlots } from './receive-slots.js';
import { createOpener } from './sealing.js';
import { TimeExceeded } from './time-exceeded.js';
import { TunWriter } from './tun-writer.js';

/** Messages received in one turn, give or take a receive. */
const TURN_MESSAGES = 64;

export class RxForwarder implements Forwarder {
  readonly direction = 'rx';
  readonly descriptor: number;
  readonly #memory: ForwarderContext['memory'];
  readonly #sys: ForwarderContext['sys'];
  readonly #options: ForwarderContext['options'];
  readonly #counters: ForwarderContext['counters']['rx'];
  readonly #control: ForwarderContext['control'];
  readonly #writer: TunWriter;
  /** Null where datagrams are inner packets. */
  readonly #opener: Opener | null;
  readonly #timeExceeded: TimeExceeded;

  /** The version of the packets that IPv4's checks are for; none has −1. */
  readonly #carried4: number;
  readonly #subnets: number;
  readonly #senders: number;
  /** Null where the overlay carries no IPv6. */
  readonly #networkV6: Ipv6Net | null;
  readonly #subnetV6: Ipv6Net | null;
  readonly #subnetsV6: number;
  readonly #sendersV6: number;
  /** Of the socket. */
  readonly #family: Family;
  readonly #slots: ReceiveSlots;
  #nowMs = 0;
  /** Messages of the latest receive. */
  #received = 0;
  /** The packet in hand is all that the latest receive brought. */
  #alone = false;

  /**
   * @param family of the socket that it reads
   * @param icmpLimit for errors to remote hosts, whichever socket they are about
   */
  constructor(
    context: ForwarderContext,
    family: Family = 4,
    icmpLimit = new RateLimit(context.options.icmpPerSecond, context.options.icmpBurst),
  ) {
    const { options } = context;
    this.#memory = context.memory;
    this.#sys = context.sys;
    this.#counters = context.counters.rx;
    this.#control = context.control;
    this.#options = options;
    this.descriptor = family === 4 ? options.socket : options.socketV6;
    this.#family = family;
    const { layout, ipv6 } = options;
    const start = family === 4 ? layout.rx : layout.rxV6;
    this.#carried4 = options.carriesIpv4 ? 4 : -1;
    this.#subnets = layout.subnets >>> 2;
    this.#senders = layout.senders >>> 2;
    this.#networkV6 = ipv6 === null ? null : new Ipv6Net(ipv6.network);
    this.#subnetV6 = ipv6 === null ? null : new Ipv6Net(ipv6.subnet);
    this.#subnetsV6 = layout.subnetsV6 >>> 2;
    this.#sendersV6 = layout.sendersV6 >>> 2;

    const regions = new RegionAllocator(start, start + RX_BYTES);
    this.#writer = new TunWriter(context, regions);
    this.#opener = options.sealing === undefined ? null : createOpener(context, regions, options.sealing);
    this.#timeExceeded = new TimeExceeded(context, regions, icmpLimit);
    this.#slots = new ReceiveSlots(context, regions, family, this.descriptor);
  }

  /** Receives until the socket has nothing more or the turn is over. @returns EAGAIN, or the errno that ends the forwarder */
  turn(): number {
    this.#counters.add(Rx.turns, 1);
    this.#nowMs = Date.now(); // once: each reading makes an object, and nobody needs it finer
    this.#writer.begin();
    const slots = this.#slots.count;
    for (let messages = 0; messages < TURN_MESSAGES && !this.#control.stopRequested; messages += slots) {
      const received = this.#slots.receive();
      // a reason that lasts meets the first receive of the next turn, too
      if (received <= 0) return messages === 0 ? this.#receiveError() : EAGAIN;
      this.#counters.add(Rx.receives, 1);
      this.#received = received;
      for (let slot = 0; slot < received; slot++) {
        this.#datagrams(slot);
        this.#slots.prepare(slot);
      }
      this.#writer.flush();
      this.#opener?.reset();
      if (this.#writer.fatal !== 0) return this.#writer.fatal;
      // fewer than asked for: the queue was empty
      if (received < slots) break;
    }
    return EAGAIN;
  }

  /**
   * An error that waited on the socket (an ICMP answer, a link that went down) does not end the forwarder. A descriptor
   * that is no socket any more does: poll would find it ready for ever.
   */
  #receiveError(): number {
    const errno = this.#sys.errno();
    return errno === EBADF || errno === EBADFD || errno === EINVAL ? errno : EAGAIN;
  }

  /** The datagrams in one slot: one, or a run of equal ones from one sender with UDP_GRO. */
  #datagrams(slot: number): void {
    const { i32, view } = this.#memory;
    const slots = this.#slots;
    const length = slots.length(slot);
    const size = slots.runLength(slot, length);
    const count = size >= length ? 1 : Math.ceil(length / size);
    this.#counters.add(Rx.datagrams, count);
    if (count > 1) this.#counters.add(Rx.coalesced_datagrams, count);
    if (slots.isTruncated(slot)) return this.#counters.drop(RxDrop.truncated, count);

    const name = slots.name(slot);
    const sender = this.#family === 4 ? i32[(name + SOCKADDR_ADDRESS) >>> 2] : name + SOCKADDR_IN6_ADDRESS;
    if (this.#options.checkSenders) {
      const known = get16(view, name + SOCKADDR_PORT) === this.#options.port && this.#isPeers(sender);
      if (!known) return this.#counters.drop(RxDrop.unknown_sender, count);
    }
    const start = slots.start(slot);
    const end = start + length;
    if (length === 0) return this.#counters.drop(RxDrop.short, 1);
    this.#alone = this.#received === 1 && count === 1;
    if (this.#opener !== null) return this.#open(this.#opener, slot, start, end, size);
    for (let at = start; at < end; at += size) this.#packet(at, Math.min(size, end - at), sender);
  }

  /** Is a sender's address one of a peer's? @param sender as `#packet` has it */
  #isPeers(sender: number): boolean {
    const { i32 } = this.#memory;
    const { layout } = this.#options;
    const peer =
      this.#family === 4
        ? lookup(i32, this.#senders, layout.senderShift, toNetworkOrder(sender))
        : findSender(i32, this.#sendersV6, layout.senderEntriesV6, layout.peers, sender);
    return peer !== NO_VALUE;
  }

  /** The same of datagrams that are sealed. What they hold stays in the opener's arena until it is written. */
  #open(opener: Opener, slot: number, start: number, end: number, size: number): void {
    const name = this.#slots.name(slot);
    const congested = this.#slots.isCongested(slot);
    for (let at = start; at < end; at += size) {
      const length = Math.min(size, end - at);
      if (!opener.fits(length)) {
        this.#writer.flush();
        opener.reset();
      }
      const packet = opener.open(at, length, name);
      if (packet === 0) continue;
      if (congested) markCongestion(this.#memory.u8, opener.at);
      this.#packet(opener.at, packet, opener.peer);
    }
  }

  woken(): void {
    this.#opener?.forget();
  }

  /**
   * Decides about one inner packet: to the merger, or counted under the reason why not.
   *
   * @param sender an IPv4 address in network order, the offset of an IPv6 one; the peer's number of a packet that was sealed
   */
  #packet(at: number, length: number, sender: number): void {
    const { u8, view } = this.#memory;
    const counters = this.#counters;
    if (length < IPV4_MIN_HEADER) return counters.drop(RxDrop.short, 1);
    if (u8[at] >>> 4 !== this.#carried4) return this.#packetV6(at, length, sender);
    const headerLength = (u8[at] & 15) * 4;
    if (headerLength < IPV4_MIN_HEADER || headerLength > length) return counters.drop(RxDrop.bad_header, 1);
    if (get16(view, at + IPV4_TOTAL_LENGTH) !== length) return counters.drop(RxDrop.bad_length, 1);
    if (headerSum(view, at, headerLength, 0) !== 0xffff) return counters.drop(RxDrop.bad_header_checksum, 1);
    if (u8[at + IPV4_TTL] === 0) return counters.drop(RxDrop.ttl_zero, 1);

    const source = get32(view, at + IPV4_SOURCE);
    const peer = this.#peerOf(source);
    const sealed = this.#opener !== null;
    if (sealed ? peer !== sender : this.#options.checkSenders && !this.#mayComeFrom(peer, sender, source)) {
      return counters.drop(RxDrop.spoofed_source, 1);
    }
    if (((get32(view, at + IPV4_DESTINATION) ^ this.#options.subnet) & this.#options.subnetMask) !== 0) {
      return counters.drop(RxDrop.foreign_destination, 1);
    }
    if (!sealed) {
      if (u8[at + IPV4_TTL] === 1) {
        counters.drop(RxDrop.ttl_expired, 1);
        if (peer !== NO_VALUE) this.#timeExceeded.send(at, length, peer, this.#nowMs);
        return;
      }
      decrementTtl(u8, at);
    }
    this.#account(peer, length);
    if (this.#options.mayBeUnfinished && isUnfinished(u8, view, at, length)) {
      return this.#writer.deliverUnfinished(at, length);
    }
    this.#writer.deliver(at, length, this.#alone);
  }

  #packetV6(at: number, length: number, sender: number): void {
    const { u8, i32, view } = this.#memory;
    const counters = this.#counters;
    const network = this.#networkV6;
    const subnet = this.#subnetV6;
    if (u8[at] >>> 4 !== 6 || network === null || subnet === null) return counters.drop(RxDrop.bad_version, 1);
    if (length < IPV6_HEADER) return counters.drop(RxDrop.short, 1);
    if (get16(view, at + IPV6_PAYLOAD_LENGTH) + IPV6_HEADER !== length) return counters.drop(RxDrop.bad_length, 1);
    if (u8[at + IPV6_HOP_LIMIT] === 0) return counters.drop(RxDrop.ttl_zero, 1);
    if (isMulticastOrLinkLocal(u8, at + IPV6_SOURCE)) return counters.drop(RxDrop.multicast_or_link_local, 1);

    const isOurs = network.contains(view, at + IPV6_SOURCE);
    const octet = at + IPV6_SOURCE + this.#options.layout.subnetOctetV6;
    const peer = isOurs ? lookupV6(i32, this.#subnetsV6, u8, octet) : NO_VALUE;
    const sealed = this.#opener !== null;
    if (
      sealed ? peer !== sender : this.#options.checkSenders && (peer === NO_VALUE ? isOurs : !this.#isAt(peer, sender))
    ) {
      return counters.drop(RxDrop.spoofed_source, 1);
    }
    if (!subnet.contains(view, at + IPV6_DESTINATION)) return counters.drop(RxDrop.foreign_destination, 1);
    if (!sealed) {
      if (u8[at + IPV6_HOP_LIMIT] === 1) {
        counters.drop(RxDrop.ttl_expired, 1);
        if (peer !== NO_VALUE) this.#timeExceeded.send(at, length, peer, this.#nowMs);
        return;
      }
      u8[at + IPV6_HOP_LIMIT]--;
    }
    this.#account(peer, length);
    this.#writer.deliver(at, length, this.#alone);
  }

  #isInNetwork(address: number): boolean {
    return ((address ^ this.#options.network) & this.#options.networkMask) === 0;
  }

  /** The peer whose subnet holds an inner address, or NO_VALUE. */
  #peerOf(address: number): number {
    if (!this.#isInNetwork(address)) return NO_VALUE;
    return lookup(this.#memory.i32, this.#subnets, this.#options.layout.subnetShift, address);
  }

  /** An inner source inside the overlay belongs to the subnet of the host that sent it. */
  #mayComeFrom(peer: number, sender: number, source: number): boolean {
    return peer === NO_VALUE ? !this.#isInNetwork(source) : this.#isAt(peer, sender);
  }

  /** Is the sender the host that has leased the peer's subnet? */
  #isAt(peer: number, sender: number): boolean {
    const { i32 } = this.#memory;
    const record = this.#options.layout.peers + peer * PEER_BYTES;
    if (this.#family === 4) return i32[(record + PEER_SOCKADDR + SOCKADDR_ADDRESS) >>> 2] === sender;
    return this.#isAtV6(record, sender);
  }

  /** Apart, so that what IPv4 takes is short enough to stand where it is called. */
  #isAtV6(record: number, sender: number): boolean {
    const { i32 } = this.#memory;
    const known = (record + PEER_IPV6) >>> 2;
    const from = sender >>> 2;
    return (
      i32[known] === i32[from] &&
      i32[known + 1] === i32[from + 1] &&
      i32[known + 2] === i32[from + 2] &&
      i32[known + 3] === i32[from + 3]
    );
  }

  #account(peer: number, length: number): void {
    this.#counters.add(Rx.packets, 1);
    this.#counters.add(Rx.bytes, length);
    if (peer === NO_VALUE) return;
    const { f64 } = this.#memory;
    const record = this.#options.layout.peers + peer * PEER_BYTES;
    f64[(record + PEER_RX_PACKETS) >>> 3] += 1;
    f64[(record + PEER_RX_BYTES) >>> 3] += length;
    f64[(record + PEER_LAST_RECEIVED) >>> 3] = this.#nowMs;
  }
}

/** A forwarder for each socket that this host has. */
export function receivers(context: ForwarderContext): RxForwarder[] {
  const { socket, socketV6, icmpPerSecond, icmpBurst } = context.options;
  const limit = new RateLimit(icmpPerSecond, icmpBurst);
  return [
    ...(socket >= 0 ? [new RxForwarder(context, 4, limit)] : []),
    ...(socketV6 >= 0 ? [new RxForwarder(context, 6, limit)] : []),
  ];
}
