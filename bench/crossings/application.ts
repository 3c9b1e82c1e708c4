/** The programs in the two containers: a UDP socket that sends and one that receives, and the messages they use. */
import {
  AF_INET,
  O_NONBLOCK,
  SO_RCVBUFFORCE,
  SO_SNDBUFFORCE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOL_SOCKET,
  SOL_UDP,
  UDP_GRO,
  UDP_SEGMENT,
} from '../../src/linux/constants.js';
import { SystemCallError } from '../../src/linux/errno.js';
import { control } from '../../src/linux/libc.js';
import type { RegionAllocator, SharedMemory } from '../../src/linux/memory.js';
import {
  CMSG_SPACE,
  IOVEC_BYTES,
  IOVEC_LENGTH,
  MMSGHDR_BYTES,
  MSGHDR_CONTROL,
  MSGHDR_CONTROL_LENGTH,
  MSGHDR_IOV,
  MSGHDR_IOV_COUNT,
  MSGHDR_NAME,
  MSGHDR_NAME_LENGTH,
  putSockaddrIn,
  SOCKADDR_IN_BYTES,
} from '../../src/linux/structs.js';

const BUFFER = 32 << 20;

/** A UDP socket bound to an address of the namespace that the thread is in. Addresses in host order. */
export function openSocket(options: {
  readonly address: number;
  readonly port: number;
  /** Payload of each datagram where more than one leaves in one send; 0: never more than one. */
  readonly segment: number;
  /** Runs of datagrams are received in one piece. */
  readonly coalesce: boolean;
}): number {
  const fd = control.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | O_NONBLOCK, 0);
  const sockaddr = new Uint8Array(SOCKADDR_IN_BYTES);
  putSockaddrIn(sockaddr, 0, options.address, options.port, AF_INET);
  if (fd < 0 || control.bind(fd, sockaddr, sockaddr.length) < 0) {
    throw new SystemCallError('bind', control.errno(), 'is another benchmark running?');
  }
  control.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, int32(BUFFER), 4);
  control.setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, int32(BUFFER), 4);
  if (options.segment > 0) control.setsockopt(fd, SOL_UDP, UDP_SEGMENT, int32(options.segment), 4);
  if (options.coalesce) control.setsockopt(fd, SOL_UDP, UDP_GRO, int32(1), 4);
  return fd;
}

function int32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}

/** How many messages a `Message` is to recvmmsg(2). */
export const MESSAGE_SLOTS = 2;

/**
 * A `struct msghdr` with one buffer and, for sending, one destination; also the first of two `struct mmsghdr`, of which
 * the second has no room.
 */
export class Message {
  readonly address: number;
  readonly #memory: SharedMemory;
  readonly #message: number;
  readonly #iov: number;
  readonly #name: number;

  /** @param buffer offset of the bytes to send, or of room to receive */
  constructor(memory: SharedMemory, regions: RegionAllocator, buffer: number) {
    this.#memory = memory;
    this.#iov = regions.take(IOVEC_BYTES);
    this.#name = regions.take(SOCKADDR_IN_BYTES);
    this.#message = regions.take(MESSAGE_SLOTS * MMSGHDR_BYTES);
    const control = regions.take(CMSG_SPACE);
    this.address = memory.base + this.#message;
    memory.setPointer(this.#iov, buffer);
    memory.setPointer(this.#message + MSGHDR_NAME, this.#name);
    memory.setPointer(this.#message + MSGHDR_IOV, this.#iov);
    memory.setPointer(this.#message + MSGHDR_CONTROL, control);
    memory.u32[(this.#message + MSGHDR_IOV_COUNT) >>> 2] = 1;
  }

  /** Makes it a message of `length` bytes to an address (host order). */
  toSend(address: number, port: number, length: number): void {
    const { u8, u32 } = this.#memory;
    putSockaddrIn(u8, this.#name, address, port, AF_INET);
    u32[(this.#message + MSGHDR_NAME_LENGTH) >>> 2] = SOCKADDR_IN_BYTES;
    u32[(this.#message + MSGHDR_CONTROL_LENGTH) >>> 2] = 0;
    u32[(this.#iov + IOVEC_LENGTH) >>> 2] = length;
  }

  /** Makes it room for `length` bytes; to be called before every receive, since the kernel writes to it. */
  toReceive(length: number): void {
    const { u32 } = this.#memory;
    u32[(this.#message + MSGHDR_NAME_LENGTH) >>> 2] = SOCKADDR_IN_BYTES;
    u32[(this.#message + MSGHDR_CONTROL_LENGTH) >>> 2] = CMSG_SPACE;
    u32[(this.#iov + IOVEC_LENGTH) >>> 2] = length;
  }

  /** Makes it one that the protocol refuses at first sight: the destination's length is too small (EINVAL). */
  toRefuse(): void {
    this.#memory.u32[(this.#message + MSGHDR_NAME_LENGTH) >>> 2] = 1;
  }
}
