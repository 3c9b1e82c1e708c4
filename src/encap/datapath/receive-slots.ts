/**
 * What one recvmmsg fills: a slot each for messages, with the sender's address and the control messages of UDP_GRO
 * and, where the socket asks for it, of the outer header's ECN bits.
 *
 * The kernel's structures are laid out once; a receive changes a few words of them, which `prepare` puts back. What a slot
 * holds is its forwarder's until the slot is prepared and received into again.
 */
import type { Family } from '../../base/address.js';
import {
  IP_TOS,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_TCLASS,
  MSG_DONTWAIT,
  MSG_TRUNC,
  SOL_UDP,
  UDP_GRO,
} from '../../linux/constants.js';
import type { RegionAllocator } from '../../linux/memory.js';
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
  MSGHDR_CONTROL,
  MSGHDR_CONTROL_LENGTH,
  MSGHDR_FLAGS,
  MSGHDR_IOV,
  MSGHDR_IOV_COUNT,
  MSGHDR_NAME,
  MSGHDR_NAME_LENGTH,
  SOCKADDR_IN_BYTES,
  SOCKADDR_IN6_BYTES,
} from '../../linux/structs.js';
import { CONGESTION } from '../wire/ecn.js';
import type { ForwarderContext } from './context.js';

/** What one message may bring: a run of datagrams, at most 64 KiB. */
const SLOT_BYTES = 65_536;
/** Slots are staggered, so that their first bytes do not all compete for the same lines of the cache. */
const SLOT_STRIDE = SLOT_BYTES + 1536;
/** Room for a sender's address of any family; zeros behind an IPv4 one. */
const NAME_STRIDE = 32;
/** Space for the `int` of UDP_GRO, which comes first, and that of IP_TOS or IPV6_TCLASS. */
const CONTROL_BYTES = 2 * CMSG_SPACE;
export const MAX_RECEIVE_SLOTS = 64;

export class ReceiveSlots {
  readonly count: number;
  readonly #memory: ForwarderContext['memory'];
  readonly #sys: ForwarderContext['sys'];
  readonly #descriptor: number;
  readonly #nameBytes: number;
  readonly #messages: number;
  readonly #messagesAddress: number;
  readonly #names: number;
  readonly #controls: number;
  readonly #slots: number;

  /** @param family of the socket that `descriptor` is */
  constructor(context: ForwarderContext, regions: RegionAllocator, family: Family, descriptor: number) {
    const { memory } = context;
    this.count = Math.min(context.options.receiveSlots, MAX_RECEIVE_SLOTS);
    this.#memory = memory;
    this.#sys = context.sys;
    this.#descriptor = descriptor;
    this.#nameBytes = family === 4 ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES;
    this.#messages = regions.take(this.count * MMSGHDR_BYTES);
    this.#messagesAddress = memory.base + this.#messages;
    this.#names = regions.take(this.count * NAME_STRIDE);
    this.#controls = regions.take(this.count * CONTROL_BYTES);
    const iov = regions.take(this.count * IOVEC_BYTES);
    this.#slots = regions.take(this.count * SLOT_STRIDE, 4096);
    for (let slot = 0; slot < this.count; slot++) {
      const message = this.#messages + slot * MMSGHDR_BYTES;
      memory.setPointer(iov + slot * IOVEC_BYTES, this.start(slot));
      memory.u32[(iov + slot * IOVEC_BYTES + IOVEC_LENGTH) >>> 2] = SLOT_BYTES;
      memory.setPointer(message + MSGHDR_NAME, this.name(slot));
      memory.setPointer(message + MSGHDR_IOV, iov + slot * IOVEC_BYTES);
      memory.u32[(message + MSGHDR_IOV_COUNT) >>> 2] = 1;
      memory.setPointer(message + MSGHDR_CONTROL, this.#controls + slot * CONTROL_BYTES);
      this.prepare(slot);
    }
  }

  /** The kernel writes to these on every receive. */
  prepare(slot: number): void {
    const message = this.#messages + slot * MMSGHDR_BYTES;
    const { u32 } = this.#memory;
    u32[(message + MSGHDR_NAME_LENGTH) >>> 2] = this.#nameBytes;
    u32[(message + MSGHDR_CONTROL_LENGTH) >>> 2] = CONTROL_BYTES;
  }

  /** Receives what waits, without waiting for more. @returns how many slots hold a message; -1, and the call's errno */
  receive(): number {
    return this.#sys.recvmmsg(this.#descriptor, this.#messagesAddress, this.count, MSG_DONTWAIT, 0);
  }

  /** Where a slot's bytes begin. */
  start(slot: number): number {
    return this.#slots + slot * SLOT_STRIDE;
  }

  /** How many bytes the message has. */
  length(slot: number): number {
    return this.#memory.u32[(this.#messages + slot * MMSGHDR_BYTES + MMSGHDR_LENGTH) >>> 2];
  }

  isTruncated(slot: number): boolean {
    return (this.#memory.u32[(this.#messages + slot * MMSGHDR_BYTES + MSGHDR_FLAGS) >>> 2] & MSG_TRUNC) !== 0;
  }

  /** Where the sender's socket address is. */
  name(slot: number): number {
    return this.#names + slot * NAME_STRIDE;
  }

  /** Length of each datagram of a run, the last excepted; `length`, the message's, where there is no run. */
  runLength(slot: number, length: number): number {
    const { u32, i32 } = this.#memory;
    const message = this.#messages + slot * MMSGHDR_BYTES;
    const control = this.#controls + slot * CONTROL_BYTES;
    if (u32[(message + MSGHDR_CONTROL_LENGTH) >>> 2] < CMSG_DATA + 4) return length;
    if (u32[(control + CMSG_LENGTH) >>> 2] < CMSG_DATA + 4) return length;
    if (i32[(control + CMSG_LEVEL) >>> 2] !== SOL_UDP || i32[(control + CMSG_TYPE) >>> 2] !== UDP_GRO) return length;
    const size = i32[(control + CMSG_DATA) >>> 2];
    return size > 0 ? size : length;
  }

  /** Did a router mark the datagrams of the slot? They are alike in that: the kernel joins no others. */
  isCongested(slot: number): boolean {
    const { u8, u32, i32 } = this.#memory;
    const end = u32[(this.#messages + slot * MMSGHDR_BYTES + MSGHDR_CONTROL_LENGTH) >>> 2];
    for (let at = 0; at + CMSG_DATA < end; at += CMSG_SPACE) {
      const control = this.#controls + slot * CONTROL_BYTES + at;
      const level = i32[(control + CMSG_LEVEL) >>> 2];
      const type = i32[(control + CMSG_TYPE) >>> 2];
      // a byte by IPv4, an int by IPv6
      const isField = (level === IPPROTO_IP && type === IP_TOS) || (level === IPPROTO_IPV6 && type === IPV6_TCLASS);
      if (isField) return (u8[control + CMSG_DATA] & CONGESTION) === CONGESTION;
    }
    return false;
  }
}
