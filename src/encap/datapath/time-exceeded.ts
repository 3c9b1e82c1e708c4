import { MSG_DONTWAIT } from '../../linux/constants.js';
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
import { Rx } from '../forwarding/counters.js';
import { PEER_BYTES, PEER_ENDPOINT_V6, PEER_SOCKADDR } from '../forwarding/peer-record.js';
import { type IcmpErrorOptions, type RateLimit, TIME_EXCEEDED, writeIcmpError } from '../wire/icmp.js';
import { HOP_LIMIT_EXCEEDED, type Icmpv6ErrorOptions, MAX_ICMPV6_ERROR, writeIcmpv6Error } from '../wire/icmpv6.js';
import { ipv6Bytes } from '../wire/ipv6.js';
import type { ForwarderContext } from './context.js';

/** "Time exceeded" and "hop limit exceeded", back through the tunnel that the packet came by. */
export class TimeExceeded {
  readonly #memory: ForwarderContext['memory'];
  readonly #sys: ForwarderContext['sys'];
  readonly #options: ForwarderContext['options'];
  readonly #counters: ForwarderContext['counters']['rx'];
  readonly #icmp: IcmpErrorOptions;
  readonly #icmpv6: Icmpv6ErrorOptions | null;
  readonly #limit: RateLimit;
  readonly #message: number;
  readonly #messageAddress: number;
  readonly #iov: number;

  constructor(context: ForwarderContext, regions: RegionAllocator, limit: RateLimit) {
    const { memory, sum, options } = context;
    const { ipv6 } = options;
    this.#memory = memory;
    this.#sys = context.sys;
    this.#options = options;
    this.#counters = context.counters.rx;
    this.#limit = limit;
    const to = regions.take(MAX_ICMPV6_ERROR);
    this.#icmp = { memory, sum, to, source: options.overlayAddress };
    this.#icmpv6 = ipv6 === null ? null : { memory, sum, to, source: ipv6Bytes(ipv6.overlayAddress) };
    this.#iov = regions.take(IOVEC_BYTES);
    this.#message = regions.take(MSGHDR_BYTES);
    this.#messageAddress = memory.base + this.#message;
    memory.setPointer(this.#iov, to);
    memory.setPointer(this.#message + MSGHDR_IOV, this.#iov);
    memory.u32[(this.#message + MSGHDR_IOV_COUNT) >>> 2] = 1;
  }

  /** Tells the sender of the packet at `at`, which has `length` bytes and came from `peer`. Counts what it does. */
  send(at: number, length: number, peer: number, nowMs: number): void {
    const { u8, u32, i32 } = this.#memory;
    const size =
      this.#icmpv6 !== null && u8[at] >>> 4 === 6
        ? writeIcmpv6Error(this.#icmpv6, HOP_LIMIT_EXCEEDED, at, length, 0)
        : writeIcmpError(this.#icmp, TIME_EXCEEDED, at, length, 0);
    if (size === 0) return;
    if (!this.#limit.take(nowMs)) return this.#counters.add(Rx.icmp_suppressed, 1);
    u32[(this.#iov + IOVEC_LENGTH) >>> 2] = size;
    const record = this.#options.layout.peers + peer * PEER_BYTES;
    const endpointV6 = i32[(record + PEER_ENDPOINT_V6) >>> 2];
    const message = this.#message;
    this.#memory.setPointer(message + MSGHDR_NAME, endpointV6 === 0 ? record + PEER_SOCKADDR : endpointV6);
    u32[(message + MSGHDR_NAME_LENGTH) >>> 2] = endpointV6 === 0 ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES;
    const socket = endpointV6 === 0 ? this.#options.socket : this.#options.socketV6;
    if (this.#sys.sendmsg(socket, this.#messageAddress, MSG_DONTWAIT) >= 0) this.#counters.add(Rx.icmp_sent, 1);
  }
}
