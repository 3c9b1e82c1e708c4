/** The control messages of a send: how long each segment is, and the ECN bits of the outer header. */
import { IP_TOS, IPPROTO_IP, IPPROTO_IPV6, IPV6_TCLASS, SOL_UDP, UDP_SEGMENT } from '../../linux/constants.js';
import type { RegionAllocator, SharedMemory } from '../../linux/memory.js';
import {
  CMSG_DATA,
  CMSG_LENGTH,
  CMSG_LEVEL,
  CMSG_SPACE,
  CMSG_TYPE,
  MSGHDR_CONTROL,
  MSGHDR_CONTROL_LENGTH,
} from '../../linux/structs.js';

/** One behind the other, so that a send names the first, the second, both or none of them. */
export class SendControl {
  readonly #memory: SharedMemory;
  readonly #segment: number;
  readonly #ecn: number;

  constructor(memory: SharedMemory, regions: RegionAllocator) {
    this.#memory = memory;
    this.#segment = regions.take(2 * CMSG_SPACE);
    this.#ecn = this.#segment + CMSG_SPACE;
    const { u32 } = memory;
    u32[(this.#segment + CMSG_LENGTH) >>> 2] = CMSG_DATA + 2;
    u32[(this.#segment + CMSG_LEVEL) >>> 2] = SOL_UDP;
    u32[(this.#segment + CMSG_TYPE) >>> 2] = UDP_SEGMENT;
    u32[(this.#ecn + CMSG_LENGTH) >>> 2] = CMSG_DATA + 4;
  }

  /**
   * Makes them those of the next send. @param message offset of its `struct msghdr` @param segmentLength 0 where it is one
   * datagram @param ecn 0 leaves the field alone @param isV6 it leaves by IPv6
   */
  set(message: number, segmentLength: number, ecn: number, isV6: boolean): void {
    const { u16, u32 } = this.#memory;
    const bytes = (segmentLength > 0 ? CMSG_SPACE : 0) + (ecn > 0 ? CMSG_SPACE : 0);
    u32[(message + MSGHDR_CONTROL_LENGTH) >>> 2] = bytes;
    if (bytes === 0) return;
    this.#memory.setPointer(message + MSGHDR_CONTROL, segmentLength > 0 ? this.#segment : this.#ecn);
    u16[(this.#segment + CMSG_DATA) >>> 1] = segmentLength;
    if (ecn === 0) return;
    u32[(this.#ecn + CMSG_LEVEL) >>> 2] = isV6 ? IPPROTO_IPV6 : IPPROTO_IP;
    u32[(this.#ecn + CMSG_TYPE) >>> 2] = isV6 ? IPV6_TCLASS : IP_TOS;
    u32[(this.#ecn + CMSG_DATA) >>> 2] = ecn;
  }
}
