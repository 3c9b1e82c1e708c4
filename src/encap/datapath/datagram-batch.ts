/**
 * Datagrams on their way out, gathered so that many leave in one system call.
 *
 * Theory of operation. With UDP_SEGMENT one sendmsg carries a run: datagrams of equal length to one peer, the last of
 * which may be shorter, and with the same ECN bits outside. So the batch holds one run. A datagram that does not continue it (another peer, longer than the
 * run's segment length, more than a send may carry) flushes first and starts the next; a run that nothing can continue
 * (it has a shorter one, or all the segments that it may have) leaves at once. That covers super-packets and runs of
 * small packets alike, and lets the tail of one super-packet travel with the head of the next.
 *
 * A datagram is one iovec (a whole packet) or two (headers from the batch's own arena, payload in place). The memory
 * they point at belongs to the caller and must stay unchanged until `flush` has returned or `empty` is true.
 *
 * When a send is refused the run is replayed datagram by datagram. The kernel takes a segmented send as a whole or not
 * at all, so a replay never sends anything twice. What is too long for its path goes out in fragments then.
 */
import {
  EAGAIN,
  ECONNREFUSED,
  EHOSTUNREACH,
  EINTR,
  EINVAL,
  EIO,
  EMSGSIZE,
  ENETDOWN,
  ENETUNREACH,
  ENOBUFS,
  ENOMEM,
  EPERM,
  MSG_DONTWAIT,
} from '../../linux/constants.js';
import type { RegionAllocator } from '../../linux/memory.js';
import {
  IOVEC_BYTES,
  IOVEC_LENGTH,
  MSGHDR_BYTES,
  MSGHDR_IOV,
  MSGHDR_IOV_COUNT,
  MSGHDR_NAME,
  MSGHDR_NAME_LENGTH,
  SOCKADDR_IN_BYTES,
  SOCKADDR_IN6_BYTES,
} from '../../linux/structs.js';
import { Tx, TxDrop } from '../forwarding/counters.js';
import {
  PEER_BYTES,
  PEER_ENDPOINT_V6,
  PEER_SOCKADDR,
  PEER_TX_BYTES,
  PEER_TX_PACKETS,
} from '../forwarding/peer-record.js';
import { OVERHEAD_IPV4, OVERHEAD_IPV6 } from '../wire/headers.js';
import { HEADER_STRIDE } from '../wire/segment.js';
import type { ForwarderContext } from './context.js';
import type { Outlet } from './outlet.js';
import { Refusals } from './refusals.js';
import { SendControl } from './send-control.js';

/** The most that one UDP send may carry: 65,535 less the IPv4 and UDP headers. By IPv6 it would be twenty bytes more. */
export const MAX_UDP_PAYLOAD = 65_507;
/** The kernel's UDP_MAX_SEGMENTS since Linux 6.9; 64 before, where some releases count the header too. */
export const MAX_SEGMENTS = 128;
export const MAX_SEGMENTS_BEFORE_6_9 = 63;

/** How often one datagram is tried again after an error that belonged to an earlier one. */
const RETRIES = 3;
/** How often a run waits a millisecond for memory. More would hold up everything else that the thread has to do. */
const NAPS = 3;
const NO_PEER = -1;

/** Told of a datagram that was too long: `available` bytes of it lie at `packet`, its path carries `room` of them (0: unknown). */
export type TooLong = (packet: number, available: number, room: number) => void;

/** Owned by one thread. Nothing is allocated after construction. */
export class DatagramBatch {
  readonly #memory: ForwarderContext['memory'];
  readonly #sys: ForwarderContext['sys'];
  readonly #counters: ForwarderContext['counters']['tx'];
  readonly #socket: number;
  readonly #socketV6: number;
  readonly #peers: number;
  readonly #outlet: Outlet;
  readonly #tooLong: TooLong;
  readonly #segmenting: Refusals;

  readonly #message: number;
  readonly #messageAddress: number;
  readonly #sendControl: SendControl;
  readonly #iov: number;
  readonly #headers: number;
  /** For each datagram of the run: its first iovec. One more than there are datagrams. */
  readonly #iovStart = new Int32Array(MAX_SEGMENTS + 1);
  readonly #lengths = new Int32Array(MAX_SEGMENTS);

  /** Most segments that the kernel takes, and that a send may have now: one while segmented sends are off. */
  #possibleSegments: number;
  #maxSegments: number;
  #peer = NO_PEER;
  #count = 0;
  #iovCount = 0;
  #bytes = 0;
  #segmentLength = 0;
  #ecn = 0;
  #napsLeft = 0;

  constructor(context: ForwarderContext, regions: RegionAllocator, outlet: Outlet, tooLong: TooLong) {
    const { memory, options } = context;
    this.#memory = memory;
    this.#sys = context.sys;
    this.#counters = context.counters.tx;
    this.#socket = options.socket;
    this.#socketV6 = options.socketV6;
    this.#peers = options.layout.peers;
    this.#outlet = outlet;
    this.#tooLong = tooLong;
    this.#segmenting = new Refusals(context.control, 'udp_gso');
    this.#possibleSegments = Math.min(options.maxSegments, MAX_SEGMENTS);
    this.#maxSegments = this.#possibleSegments;

    this.#sendControl = new SendControl(memory, regions);
    this.#message = regions.take(MSGHDR_BYTES);
    this.#messageAddress = memory.base + this.#message;
    this.#iov = regions.take(2 * MAX_SEGMENTS * IOVEC_BYTES);
    this.#headers = regions.take(MAX_SEGMENTS * HEADER_STRIDE);
  }

  /** True when nothing that was added still points into the caller's memory. */
  get empty(): boolean {
    return this.#count === 0;
  }

  /** Looks whether the kernel's refusals have been forgotten. Called while the batch is empty, once a turn. */
  begin(): void {
    this.#maxSegments = this.#segmenting.inForce ? this.#possibleSegments : 1;
  }

  /**
   * Makes room for one more datagram of `length` bytes to `peer`, flushing what it does not continue.
   *
   * @param ecn of the outer header
   * @returns offset of HEADER_STRIDE bytes for its headers, its own until it has left
   */
  reserve(peer: number, length: number, ecn = 0): number {
    if (
      this.#count > 0 &&
      (peer !== this.#peer ||
        length > this.#segmentLength ||
        ecn !== this.#ecn ||
        this.#bytes + length > MAX_UDP_PAYLOAD)
    ) {
      this.flush();
    }
    if (this.#count === 0) {
      this.#peer = peer;
      this.#segmentLength = length;
      this.#ecn = ecn;
    }
    return this.#headers + this.#count * HEADER_STRIDE;
  }

  /** Adds the whole packet at `at`. `reserve` was called with the same length just before. */
  addPacket(at: number, length: number): void {
    this.#addIovec(at, length);
    this.#closeDatagram(length);
  }

  /** Adds a packet whose headers lie where `reserve` said and whose payload lies at `payload`. */
  addSegment(headers: number, headerLength: number, payload: number, payloadLength: number): void {
    this.#addIovec(headers, headerLength);
    this.#addIovec(payload, payloadLength);
    this.#closeDatagram(headerLength + payloadLength);
  }

  #addIovec(at: number, length: number): void {
    const iovec = this.#iov + this.#iovCount++ * IOVEC_BYTES;
    this.#memory.setPointer(iovec, at);
    this.#memory.u32[(iovec + IOVEC_LENGTH) >>> 2] = length;
  }

  #closeDatagram(length: number): void {
    this.#lengths[this.#count] = length;
    this.#count++;
    this.#iovStart[this.#count] = this.#iovCount;
    this.#bytes += length;
    // nothing can join it any more: the sooner it leaves, the sooner its memory is used again, still in the cache
    if (length < this.#segmentLength || this.#count >= this.#maxSegments) this.flush();
  }

  /** Sends what was gathered. Never throws: what cannot be sent is counted as dropped. */
  flush(): void {
    const count = this.#count;
    if (count === 0) return;
    if (this.#send(0, count) >= 0) this.#sent(count, this.#bytes);
    else this.#recover();
    this.#count = 0;
    this.#iovCount = 0;
    this.#bytes = 0;
  }

  /** One sendmsg for `count` datagrams from `first` on; a second one when there was no room for the first. */
  #send(first: number, count: number): number {
    const { u32, i32 } = this.#memory;
    const message = this.#message;
    const iov = this.#iovStart[first];
    const record = this.#peers + this.#peer * PEER_BYTES;
    const endpointV6 = i32[(record + PEER_ENDPOINT_V6) >>> 2];
    const socket = endpointV6 === 0 ? this.#socket : this.#socketV6;
    this.#memory.setPointer(message + MSGHDR_NAME, endpointV6 === 0 ? record + PEER_SOCKADDR : endpointV6);
    u32[(message + MSGHDR_NAME_LENGTH) >>> 2] = endpointV6 === 0 ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES;
    this.#memory.setPointer(message + MSGHDR_IOV, this.#iov + iov * IOVEC_BYTES);
    u32[(message + MSGHDR_IOV_COUNT) >>> 2] = this.#iovStart[first + count] - iov;
    this.#sendControl.set(message, count > 1 ? this.#segmentLength : 0, this.#ecn, endpointV6 !== 0);
    const sent = this.#sys.sendmsg(socket, this.#messageAddress, MSG_DONTWAIT);
    if (sent >= 0 || this.#sys.errno() !== EAGAIN) return sent;
    this.#outlet.awaitRoom(socket);
    return this.#sys.sendmsg(socket, this.#messageAddress, MSG_DONTWAIT);
  }

  /** Do the peer's datagrams leave by IPv6? */
  #isV6(): boolean {
    return this.#memory.i32[(this.#peers + this.#peer * PEER_BYTES + PEER_ENDPOINT_V6) >>> 2] !== 0;
  }

  /** What fits into a datagram of that path, in bytes; 0 where its MTU is not known. */
  #roomOf(pathMtu: number): number {
    return Math.max(0, pathMtu - (this.#isV6() ? OVERHEAD_IPV6 : OVERHEAD_IPV4));
  }

  #sent(count: number, bytes: number): void {
    const { f64 } = this.#memory;
    const record = this.#peers + this.#peer * PEER_BYTES;
    f64[(record + PEER_TX_PACKETS) >>> 3] += count;
    f64[(record + PEER_TX_BYTES) >>> 3] += bytes;
    this.#counters.add(Tx.packets, count);
    this.#counters.add(Tx.bytes, bytes);
    this.#counters.add(Tx.sends, 1);
    if (count === 1) return;
    this.#counters.add(Tx.segmented_sends, 1);
    this.#segmenting.succeeded();
  }

  /**
   * The send of the whole run was refused: see what the reason asks for, and replay the run one by one. A path that is
   * too small answers EMSGSIZE since Linux 6.14, before that EINVAL, as do too many segments, or any at all.
   */
  #recover(): void {
    const errno = this.#sys.errno();
    const count = this.#count;
    this.#napsLeft = NAPS;
    if (count === 1) {
      this.#retry(0, errno);
      return;
    }
    if (errno === EAGAIN) {
      // it has waited for as long as a send may: datagram by datagram it would do so over and over
      this.#counters.drop(TxDrop.send_buffer_full, count);
      return;
    }
    const room = errno === EMSGSIZE || errno === EINVAL ? this.#roomOf(this.#outlet.pathMtu(this.#peer)) : 0;
    if (errno === EMSGSIZE || (room > 0 && this.#segmentLength > room)) {
      // one report a run is enough: the next run begins with another packet, and tells another sender if need be
      this.#reportTooLong(0, room);
      const socket = this.#isV6() ? this.#socketV6 : this.#socket;
      this.#outlet.allowFragments(socket, true);
      this.#replay(count);
      this.#outlet.allowFragments(socket, false);
      return;
    }
    // only where the same datagrams leave one by one is it the segmenting that the kernel does not like
    if (!this.#replay(count)) return;
    if (errno === EINVAL && count > MAX_SEGMENTS_BEFORE_6_9) this.#possibleSegments = MAX_SEGMENTS_BEFORE_6_9;
    else if (errno === EIO || (errno === EINVAL && room > 0)) this.#segmenting.refused(errno);
    this.begin();
  }

  /** Sends the run datagram by datagram. @returns true when some of them left, and none was too long for its path */
  #replay(count: number): boolean {
    this.#counters.add(Tx.replayed_packets, count);
    let left = false;
    let tooLong = false;
    for (let i = 0; i < count; i++) {
      if (this.#send(i, 1) >= 0) {
        this.#sent(1, this.#lengths[i]);
        left = true;
        continue;
      }
      const refused = this.#sys.errno();
      if (refused === EMSGSIZE) tooLong = true;
      const mayNap = this.#napsLeft > 0;
      const errno = this.#retry(i, refused);
      if (errno === 0) left = true;
      else if (errno === EAGAIN || (isShortage(errno) && !mayNap)) {
        this.#counters.drop(TxDrop.send_buffer_full, count - i - 1);
        break;
      }
    }
    return left && !tooLong;
  }

  /**
   * Datagram `index` was refused with `errno`: tries again where that helps, else counts the drop.
   *
   * @returns the errno that it was dropped for; 0 when it was sent
   */
  #retry(index: number, errno: number): number {
    let reason = errno;
    for (let tries = 0; tries < RETRIES && isPassing(reason); tries++) {
      if (isShortage(reason)) {
        // it ends only with time: sleep for a millisecond, on no descriptor at all
        if (this.#napsLeft === 0) break;
        this.#napsLeft--;
        this.#sys.poll(this.#messageAddress, 0, 1);
      }
      this.#counters.add(Tx.send_retries, 1);
      if (this.#send(index, 1) >= 0) {
        this.#sent(1, this.#lengths[index]);
        return 0;
      }
      reason = this.#sys.errno();
    }
    if (reason === EMSGSIZE) {
      reason = this.#sendInFragments(index);
      if (reason === 0) return 0;
    }
    this.#counters.drop(dropReason(reason), 1);
    return reason;
  }

  /** Datagram `index` is longer than the MTU of its path. @returns the errno that stopped the fragments too, else 0 */
  #sendInFragments(index: number): number {
    this.#reportTooLong(index, this.#roomOf(this.#outlet.pathMtu(this.#peer)));
    this.#counters.add(Tx.replayed_packets, 1);
    const socket = this.#isV6() ? this.#socketV6 : this.#socket;
    this.#outlet.allowFragments(socket, true);
    const errno = this.#send(index, 1) >= 0 ? 0 : this.#sys.errno();
    this.#outlet.allowFragments(socket, false);
    if (errno === 0) this.#sent(1, this.#lengths[index]);
    return errno;
  }

  #reportTooLong(index: number, room: number): void {
    const iovec = this.#iov + this.#iovStart[index] * IOVEC_BYTES;
    const { u32, base } = this.#memory;
    const at = u32[(iovec + 4) >>> 2] * 4_294_967_296 + u32[iovec >>> 2] - base;
    this.#tooLong(at, u32[(iovec + IOVEC_LENGTH) >>> 2], room);
  }
}

/** The kernel, or the device's queue, is out of memory. */
function isShortage(errno: number): boolean {
  return errno === ENOBUFS || errno === ENOMEM;
}

/** Errors after which the same send may work: a signal, a shortage, or an answer to an earlier datagram. */
function isPassing(errno: number): boolean {
  return errno === EINTR || errno === ECONNREFUSED || isShortage(errno);
}

function dropReason(errno: number): number {
  switch (errno) {
    case EMSGSIZE:
      return TxDrop.message_too_long;
    case EAGAIN:
    case ENOBUFS:
    case ENOMEM:
      return TxDrop.send_buffer_full;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
      return TxDrop.underlay_unreachable;
    case EPERM:
      return TxDrop.send_refused;
    default:
      return TxDrop.send_error;
  }
}
