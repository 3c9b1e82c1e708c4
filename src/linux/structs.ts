/**
 * Layouts of the structures that cross the system-call boundary, on 64-bit Linux (bits/socket.h, bits/types/struct_iovec.h,
 * poll.h, netinet/in.h). Offsets in bytes.
 */

/** `struct iovec`: pointer, 64-bit length. */
export const IOVEC_BYTES = 16;
export const IOVEC_BASE = 0;
export const IOVEC_LENGTH = 8;

/** `struct pollfd`: 32-bit descriptor, 16-bit wanted events, 16-bit returned events. */
export const POLLFD_BYTES = 8;
export const POLLFD_EVENTS = 4;
export const POLLFD_REVENTS = 6;

/** `struct msghdr`. The upper halves of its 64-bit lengths stay 0. */
export const MSGHDR_BYTES = 56;
export const MSGHDR_NAME = 0;
export const MSGHDR_NAME_LENGTH = 8;
export const MSGHDR_IOV = 16;
export const MSGHDR_IOV_COUNT = 24;
export const MSGHDR_CONTROL = 32;
export const MSGHDR_CONTROL_LENGTH = 40;
export const MSGHDR_FLAGS = 48;

/** `struct mmsghdr`: a msghdr and how many bytes came. */
export const MMSGHDR_BYTES = 64;
export const MMSGHDR_LENGTH = 56;

/** `struct cmsghdr` and the data behind it. */
export const CMSG_LENGTH = 0;
export const CMSG_LEVEL = 8;
export const CMSG_TYPE = 12;
export const CMSG_DATA = 16;
/** CMSG_SPACE of anything up to eight bytes. */
export const CMSG_SPACE = 24;

/** `struct sockaddr_in`: family in host order, port and address in network order. */
export const SOCKADDR_IN_BYTES = 16;
export const SOCKADDR_PORT = 2;
export const SOCKADDR_ADDRESS = 4;

/** The word whose four bytes in memory are `value` in network order; its own inverse. Signed. */
export function toNetworkOrder(value: number): number {
  return (value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24);
}

/** Writes an IPv4 socket address. @param address host order @param port host order */
export function putSockaddrIn(u8: Uint8Array, at: number, address: number, port: number, family: number): void {
  u8[at] = family;
  u8[at + 1] = 0;
  u8[at + SOCKADDR_PORT] = port >>> 8;
  u8[at + SOCKADDR_PORT + 1] = port;
  u8[at + SOCKADDR_ADDRESS] = address >>> 24;
  u8[at + SOCKADDR_ADDRESS + 1] = address >>> 16;
  u8[at + SOCKADDR_ADDRESS + 2] = address >>> 8;
  u8[at + SOCKADDR_ADDRESS + 3] = address;
  u8.fill(0, at + 8, at + SOCKADDR_IN_BYTES);
}

/** `struct sockaddr_in6`: family in host order, port, flow information and address in network order, scope in host order. */
export const SOCKADDR_IN6_BYTES = 28;
export const SOCKADDR_IN6_ADDRESS = 8;

/** Writes an IPv6 socket address without a scope. @param port host order */
export function putSockaddrIn6(u8: Uint8Array, at: number, address: bigint, port: number, family: number): void {
  u8.fill(0, at, at + SOCKADDR_IN6_BYTES);
  u8[at] = family;
  u8[at + SOCKADDR_PORT] = port >>> 8;
  u8[at + SOCKADDR_PORT + 1] = port;
  putIpv6(u8, at + SOCKADDR_IN6_ADDRESS, address);
}

/** Writes the sixteen bytes of an IPv6 address in network order. */
export function putIpv6(u8: Uint8Array, at: number, address: bigint): void {
  let rest = address;
  for (let i = 15; i >= 0; i--, rest >>= 8n) u8[at + i] = Number(rest & 0xffn);
}
