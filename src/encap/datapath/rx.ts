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
import {
  EAGAIN,
  EBADF,
  EBADFD,
  EINVAL,
  EIO,
  MSG_DONTWAIT,
  MSG_TRUNC,
  SOL_UDP,
  UDP_GRO,
} from '../../linux/constants.js';
import { RegionAllocator } from '../../linux/memory.js';
import {
  CMSG_DATA,
  CMSG_LENGTH,
  CMSG_LEVEL,
  CMSG_SPACE,
  CMSG_TYPE,
  IOVEC_BYTES,
  IOVEC_LENGTH,
  MMSGHDR_BYTES,
  MMSGHDR_LENGTH,
  MSGHDR_BYTES,
  MSGHDR_CONTROL,
  MSGHDR_CONTROL_LENGTH,
  MSGHDR_FLAGS,
  MSGHDR_IOV,
  MSGHDR_IOV_COUNT,
  MSGHDR_NAME,
  MSGHDR_NAME_LENGTH,
  SOCKADDR_ADDRESS,
  SOCKADDR_IN_BYTES,
  SOCKADDR_IN6_ADDRESS,
  SOCKADDR_IN6_BYTES,
  SOCKADDR_PORT,
  toNetworkOrder,
} from '../../linux/structs.js';
import { VNET_HEADER_BYTES } from '../../tun/virtio.js';
import type { Opener } from '../../wireguard/opener.js';
import { Rx, RxDrop } from '../forwarding/counters.js';
import { RX_BYTES } from '../forwarding/layout.js';
import {
  PEER_BYTES,
  PEER_ENDPOINT_V6,
  PEER_IPV6,
  PEER_LAST_RECEIVED,
  PEER_RX_BYTES,
  PEER_RX_PACKETS,
  PEER_SOCKADDR,
} from '../forwarding/peer-record.js';
import { lookup, lookupV6, NO_VALUE } from '../forwarding/prefix-table.js';
import { findSender } from '../forwarding/sender-set.js';
import { decrementTtl, headerSum, type Sum } from '../wire/checksum.js';
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
import { type IcmpErrorOptions, RateLimit, TIME_EXCEEDED, writeIcmpError } from '../wire/icmp.js';
import { HOP_LIMIT_EXCEEDED, type Icmpv6ErrorOptions, MAX_ICMPV6_ERROR, writeIcmpv6Error } from '../wire/icmpv6.js';
import { Ipv6Net, ipv6Bytes, isMulticastOrLinkLocal } from '../wire/ipv6.js';
import { Merger } from '../wire/merge.js';
import { MAX_ITEMS } from '../wire/merge-items.js';
import { completeChecksum, isUnfinished, noteUnfinished } from '../wire/unfinished.js';
import type { ForwarderContext } from './context.js';
import type { Forwarder } from './loop.js';
import { Refusals } from './refusals.js';
import { createOpener } from './sealing.js';

/** What one receive may bring: a run of datagrams, at most 64 KiB. */
const SLOT_BYTES = 65_536;
/** Slots are staggered, so that their first bytes do not all compete for the same lines of the cache. */
const SLOT_STRIDE = SLOT_BYTES + 1536;
/** Room for a sender's address of any family; zeros behind an IPv4 one. */
const NAME_STRIDE = 32;
/** Space for `int` of UDP_GRO. */
const CONTROL_BYTES = CMSG_SPACE;
export const MAX_RECEIVE_SLOTS = 64;
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
  readonly #merger: Merger;
  /** Null where datagrams are inner packets. */
  readonly #opener: Opener | null;
  readonly #mergingTcp: Refusals;
  readonly #mergingUdp: Refusals;
  readonly #icmpOptions: IcmpErrorOptions;
  readonly #icmpv6Options: Icmpv6ErrorOptions | null;
  readonly #icmpLimit: RateLimit;

  readonly #subnets: number;
  readonly #senders: number;
  /** Null where the overlay carries no IPv6. */
  readonly #networkV6: Ipv6Net | null;
  readonly #subnetV6: Ipv6Net | null;
  readonly #subnetsV6: number;
  readonly #sendersV6: number;
  /** Of the socket. */
  readonly #family: Family;
  readonly #nameBytes: number;
  readonly #messages: number;
  readonly #messagesAddress: number;
  readonly #names: number;
  readonly #controls: number;
  readonly #slots: number;
  /** Addresses of the items' iovecs. The null keeps them boxed, so that passing one to a call allocates nothing. */
  readonly #itemAddresses: readonly (number | null)[];
  readonly #skip: number;
  readonly #singleIov: number;
  readonly #singleAddress: number;
  readonly #zeroVnet: number;
  /** The virtio-net header of an unfinished packet. */
  readonly #vnet: number;
  readonly #sum: Sum;
  readonly #icmpMessage: number;
  readonly #icmpMessageAddress: number;
  readonly #icmpIov: number;
  #nowMs = 0;
  /** Messages of the latest receive. */
  #received = 0;
  /** The packet in hand is all that the latest receive brought. */
  #alone = false;
  #fatal = 0;

  /**
   * @param family of the socket that it reads
   * @param icmpLimit for errors to remote hosts, whichever socket they are about
   */
  constructor(
    context: ForwarderContext,
    family: Family = 4,
    icmpLimit = new RateLimit(context.options.icmpPerSecond, context.options.icmpBurst),
  ) {
    const { memory, sum, control, options } = context;
    this.#memory = memory;
    this.#sys = context.sys;
    this.#counters = context.counters.rx;
    this.#control = control;
    this.#options = options;
    this.descriptor = family === 4 ? options.socket : options.socketV6;
    this.#family = family;
    this.#nameBytes = family === 4 ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES;
    const { layout, ipv6 } = options;
    const start = family === 4 ? layout.rx : layout.rxV6;
    this.#subnets = layout.subnets >>> 2;
    this.#senders = layout.senders >>> 2;
    this.#networkV6 = ipv6 === null ? null : new Ipv6Net(ipv6.network);
    this.#subnetV6 = ipv6 === null ? null : new Ipv6Net(ipv6.subnet);
    this.#subnetsV6 = layout.subnetsV6 >>> 2;
    this.#sendersV6 = layout.sendersV6 >>> 2;
    this.#icmpLimit = icmpLimit;
    this.#skip = options.vnetHeader ? 0 : 1;

    const regions = new RegionAllocator(start, start + RX_BYTES);
    this.#merger = new Merger(memory, regions, sum, { tcp: options.mergeTcp, udp: options.mergeUdp });
    this.#mergingTcp = new Refusals(control, 'merge_tcp');
    this.#mergingUdp = new Refusals(control, 'merge_udp');
    const addresses: (number | null)[] = [];
    for (let item = 0; item < MAX_ITEMS; item++) {
      addresses.push(memory.base + this.#merger.items.iov(item) + this.#skip * IOVEC_BYTES);
    }
    this.#itemAddresses = [...addresses, null];

    this.#sum = sum;
    this.#zeroVnet = regions.take(VNET_HEADER_BYTES);
    this.#vnet = regions.take(VNET_HEADER_BYTES);
    this.#opener = options.sealing === undefined ? null : createOpener(context, regions, options.sealing);
    this.#singleIov = regions.take(2 * IOVEC_BYTES);
    this.#singleAddress = memory.base + this.#singleIov + this.#skip * IOVEC_BYTES;
    memory.setPointer(this.#singleIov, this.#zeroVnet);
    memory.u32[(this.#singleIov + IOVEC_LENGTH) >>> 2] = VNET_HEADER_BYTES;

    const icmp = regions.take(MAX_ICMPV6_ERROR);
    this.#icmpOptions = { memory, sum, to: icmp, source: options.overlayAddress };
    this.#icmpv6Options = ipv6 === null ? null : { memory, sum, to: icmp, source: ipv6Bytes(ipv6.overlayAddress) };
    this.#icmpIov = regions.take(IOVEC_BYTES);
    this.#icmpMessage = regions.take(MSGHDR_BYTES);
    this.#icmpMessageAddress = memory.base + this.#icmpMessage;
    memory.setPointer(this.#icmpIov, icmp);
    memory.setPointer(this.#icmpMessage + MSGHDR_IOV, this.#icmpIov);
    memory.u32[(this.#icmpMessage + MSGHDR_IOV_COUNT) >>> 2] = 1;

    const slots = Math.min(options.receiveSlots, MAX_RECEIVE_SLOTS);
    this.#messages = regions.take(slots * MMSGHDR_BYTES);
    this.#messagesAddress = memory.base + this.#messages;
    this.#names = regions.take(slots * NAME_STRIDE);
    this.#controls = regions.take(slots * CONTROL_BYTES);
    const iov = regions.take(slots * IOVEC_BYTES);
    this.#slots = regions.take(slots * SLOT_STRIDE, 4096);
    for (let slot = 0; slot < slots; slot++) {
      const message = this.#messages + slot * MMSGHDR_BYTES;
      memory.setPointer(iov + slot * IOVEC_BYTES, this.#slots + slot * SLOT_STRIDE);
      memory.u32[(iov + slot * IOVEC_BYTES + IOVEC_LENGTH) >>> 2] = SLOT_BYTES;
      memory.setPointer(message + MSGHDR_NAME, this.#names + slot * NAME_STRIDE);
      memory.setPointer(message + MSGHDR_IOV, iov + slot * IOVEC_BYTES);
      memory.u32[(message + MSGHDR_IOV_COUNT) >>> 2] = 1;
      memory.setPointer(message + MSGHDR_CONTROL, this.#controls + slot * CONTROL_BYTES);
      this.#prepare(slot);
    }
  }

  /** The kernel writes to these on every receive. */
  #prepare(slot: number): void {
    const message = this.#messages + slot * MMSGHDR_BYTES;
    const { u32 } = this.#memory;
    u32[(message + MSGHDR_NAME_LENGTH) >>> 2] = this.#nameBytes;
    u32[(message + MSGHDR_CONTROL_LENGTH) >>> 2] = CONTROL_BYTES;
  }

  /** Receives until the socket has nothing more or the turn is over. @returns EAGAIN, or the errno that ends the forwarder */
  turn(): number {
    this.#counters.add(Rx.turns, 1);
    this.#nowMs = Date.now(); // once: each reading makes an object, and nobody needs it finer
    const { options } = this.#merger;
    options.tcp = this.#options.mergeTcp && this.#mergingTcp.inForce;
    options.udp = this.#options.mergeUdp && this.#mergingUdp.inForce;
    const slots = Math.min(this.#options.receiveSlots, MAX_RECEIVE_SLOTS);
    for (let messages = 0; messages < TURN_MESSAGES && !this.#control.stopRequested; messages += slots) {
      const received = this.#sys.recvmmsg(this.descriptor, this.#messagesAddress, slots, MSG_DONTWAIT, 0);
      // a reason that lasts meets the first receive of the next turn, too
      if (received <= 0) return messages === 0 ? this.#receiveError() : EAGAIN;
      this.#counters.add(Rx.receives, 1);
      this.#received = received;
      for (let slot = 0; slot < received; slot++) {
        this.#datagrams(slot);
        this.#prepare(slot);
      }
      this.#write();
      this.#opener?.reset();
      if (this.#fatal !== 0) return this.#fatal;
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
    const { u32, i32, view } = this.#memory;
    const message = this.#messages + slot * MMSGHDR_BYTES;
    const length = u32[(message + MMSGHDR_LENGTH) >>> 2];
    const size = this.#runLength(slot, length);
    const count = size >= length ? 1 : Math.ceil(length / size);
    this.#counters.add(Rx.datagrams, count);
    if (count > 1) this.#counters.add(Rx.coalesced_datagrams, count);
    if ((u32[(message + MSGHDR_FLAGS) >>> 2] & MSG_TRUNC) !== 0) return this.#counters.drop(RxDrop.truncated, count);

    const name = this.#names + slot * NAME_STRIDE;
    const sender = this.#family === 4 ? i32[(name + SOCKADDR_ADDRESS) >>> 2] : name + SOCKADDR_IN6_ADDRESS;
    if (this.#options.checkSenders) {
      const known = get16(view, name + SOCKADDR_PORT) === this.#options.port && this.#isPeers(sender);
      if (!known) return this.#counters.drop(RxDrop.unknown_sender, count);
    }
    const start = this.#slots + slot * SLOT_STRIDE;
    const end = start + length;
    if (length === 0) return this.#counters.drop(RxDrop.short, 1);
    this.#alone = this.#received === 1 && count === 1;
    if (this.#opener !== null) return this.#open(this.#opener, start, end, size, name);
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
  #open(opener: Opener, start: number, end: number, size: number, name: number): void {
    for (let at = start; at < end; at += size) {
      const length = Math.min(size, end - at);
      if (!opener.fits(length)) {
        this.#write();
        opener.reset();
      }
      const packet = opener.open(at, length, name);
      if (packet > 0) this.#packet(opener.at, packet, opener.peer);
    }
  }

  woken(): void {
    this.#opener?.forget();
  }

  /** Length of each datagram of a run, the last excepted; the whole length where there is no run. */
  #runLength(slot: number, length: number): number {
    const { u32, i32 } = this.#memory;
    const message = this.#messages + slot * MMSGHDR_BYTES;
    const control = this.#controls + slot * CONTROL_BYTES;
    if (u32[(message + MSGHDR_CONTROL_LENGTH) >>> 2] < CMSG_DATA + 4) return length;
    if (u32[(control + CMSG_LENGTH) >>> 2] < CMSG_DATA + 4) return length;
    if (i32[(control + CMSG_LEVEL) >>> 2] !== SOL_UDP || i32[(control + CMSG_TYPE) >>> 2] !== UDP_GRO) return length;
    const size = i32[(control + CMSG_DATA) >>> 2];
    return size > 0 ? size : length;
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
    if (u8[at] >>> 4 !== 4 || !this.#options.carriesIpv4) return this.#packetV6(at, length, sender);
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
        if (peer !== NO_VALUE) this.#timeExceeded(at, length, peer);
        return;
      }
      decrementTtl(u8, at);
    }
    this.#account(peer, length);
    if (this.#options.mayBeUnfinished && isUnfinished(u8, view, at, length)) return this.#writeUnfinished(at, length);
    this.#deliver(at, length);
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
        if (peer !== NO_VALUE) this.#timeExceeded(at, length, peer);
        return;
      }
      u8[at + IPV6_HOP_LIMIT]--;
    }
    this.#account(peer, length);
    this.#deliver(at, length);
  }

  #deliver(at: number, length: number): void {
    if (this.#alone || !this.#merger.enabled) return this.#writeAlone(at, length);
    if (this.#merger.items.full) this.#write();
    this.#merger.add(at, length);
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

  /** Writes what the merger holds, in its order, and empties it. */
  #write(): void {
    const { items } = this.#merger;
    const { count } = items;
    for (let item = 0; item < count; item++) {
      const segments = items.segmentCount[item];
      if (this.#fatal !== 0) {
        this.#dropWrite(this.#fatal, segments);
        continue;
      }
      items.finish(item);
      const address = this.#itemAddresses[item] as number;
      if (this.#sys.writev(this.#options.tun, address, items.iovCount(item) - this.#skip) < 0) {
        this.#writeFailed(item, segments);
        continue;
      }
      this.#counters.add(Rx.writes, 1);
      if (segments > 1) {
        this.#counters.add(Rx.merged_writes, 1);
        this.#counters.add(Rx.merged_packets, segments);
        this.#mergingOf(item).succeeded();
      }
    }
    this.#counters.words[Rx.bad_inner_checksum] = this.#merger.badChecksums;
    this.#merger.reset();
  }

  #mergingOf(item: number): Refusals {
    return this.#merger.items.isTcp(item) ? this.#mergingTcp : this.#mergingUdp;
  }

  /** A merged packet that the kernel does not take is written again as the packets it was made of. */
  #writeFailed(item: number, segments: number): void {
    const errno = this.#sys.errno();
    if (segments === 1 || errno === EIO || errno === EBADFD) return this.#dropWrite(errno, segments);
    const { items, options } = this.#merger;
    if (errno === EINVAL) {
      const merging = this.#mergingOf(item);
      // the items of this receive are merged already: each would count as one more refusal
      if (merging.inForce) merging.refused(errno);
      if (items.isTcp(item)) options.tcp = false;
      else options.udp = false;
    }
    items.restore(item);
    this.#counters.add(Rx.replayed_packets, segments);
    for (let segment = 0; segment < segments; segment++) {
      this.#writeAlone(items.packetAt(item, segment), items.packetLength(item, segment));
    }
  }

  /** Writes one packet as it is. */
  #writeAlone(at: number, length: number): void {
    if (this.#fatal !== 0) return this.#dropWrite(this.#fatal, 1);
    const iovec = this.#singleIov + IOVEC_BYTES;
    this.#memory.setPointer(iovec, at);
    this.#memory.u32[(iovec + IOVEC_LENGTH) >>> 2] = length;
    if (this.#sys.writev(this.#options.tun, this.#singleAddress, 2 - this.#skip) < 0) {
      this.#dropWrite(this.#sys.errno(), 1);
    } else this.#counters.add(Rx.writes, 1);
  }

  /**
   * Hands a packet on with the note that its checksum is to be completed, and its segments to be cut. A TUN that takes no such
   * note gets the checksum completed; there a super-packet cannot be had, and the kernel refuses it as too long.
   */
  #writeUnfinished(at: number, length: number): void {
    this.#write(); // what came before goes before
    this.#counters.add(Rx.unfinished_packets, 1);
    if (!this.#options.vnetHeader) {
      completeChecksum(this.#memory, this.#sum, at, length);
      return this.#writeAlone(at, length);
    }
    noteUnfinished(this.#memory, this.#vnet, at, length, this.#options.mtu);
    this.#memory.setPointer(this.#singleIov, this.#vnet);
    this.#writeAlone(at, length);
    this.#memory.setPointer(this.#singleIov, this.#zeroVnet);
  }

  #dropWrite(errno: number, packets: number): void {
    if (errno === EBADFD) this.#fatal = errno;
    this.#counters.drop(errno === EIO ? RxDrop.tun_down : RxDrop.tun_write_error, packets);
  }

  /** Tells the sender of a packet whose TTL ran out here, through the tunnel it came by. */
  #timeExceeded(at: number, length: number, peer: number): void {
    const { u8, u32, i32 } = this.#memory;
    const size =
      this.#icmpv6Options !== null && u8[at] >>> 4 === 6
        ? writeIcmpv6Error(this.#icmpv6Options, HOP_LIMIT_EXCEEDED, at, length, 0)
        : writeIcmpError(this.#icmpOptions, TIME_EXCEEDED, at, length, 0);
    if (size === 0) return;
    if (!this.#icmpLimit.take(this.#nowMs)) return this.#counters.add(Rx.icmp_suppressed, 1);
    u32[(this.#icmpIov + IOVEC_LENGTH) >>> 2] = size;
    const record = this.#options.layout.peers + peer * PEER_BYTES;
    const endpointV6 = i32[(record + PEER_ENDPOINT_V6) >>> 2];
    const message = this.#icmpMessage;
    this.#memory.setPointer(message + MSGHDR_NAME, endpointV6 === 0 ? record + PEER_SOCKADDR : endpointV6);
    u32[(message + MSGHDR_NAME_LENGTH) >>> 2] = endpointV6 === 0 ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES;
    const socket = endpointV6 === 0 ? this.#options.socket : this.#options.socketV6;
    if (this.#sys.sendmsg(socket, this.#icmpMessageAddress, MSG_DONTWAIT) >= 0) {
      this.#counters.add(Rx.icmp_sent, 1);
    }
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
