/**
 * The UDP sockets that carry the overlay: one for each family of the underlay that the host has, bound to the underlay's
 * address of that family, unconnected.
 *
 * Why not one for both: a socket can be bound to both an IPv4 and an IPv6 address only by being bound to every address of
 * the host, where it would be reached from networks that have nothing to do with the overlay, and the kernel would choose
 * from which address it speaks. Two sockets leave the IPv4 one as it is in a host without IPv6, so it can be handed to, and
 * taken from, a daemon that knows no other; and either can come and go without the other.
 */
import { type Address, type Family, familyOf, formatEndpoint } from '../../base/address.js';
import {
  AF_INET,
  AF_INET6,
  EADDRINUSE,
  EADDRNOTAVAIL,
  IP_MTU,
  IP_MTU_DISCOVER,
  IP_PMTUDISC_DO,
  IP_PMTUDISC_WANT,
  IP_RECVTOS,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_MTU,
  IPV6_MTU_DISCOVER,
  IPV6_RECVTCLASS,
  IPV6_V6ONLY,
  SK_MEMINFO_DROPS,
  SK_MEMINFO_WORDS,
  SO_MEMINFO,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SO_TYPE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOL_SOCKET,
  SOL_UDP,
  UDP_GRO,
  UDP_SEGMENT,
} from '../../linux/constants.js';
import { errnoName, SystemCallError } from '../../linux/errno.js';
import { control } from '../../linux/libc.js';
import { putSockaddrIn, putSockaddrIn6, SOCKADDR_IN_BYTES, SOCKADDR_IN6_BYTES } from '../../linux/structs.js';
import { OffloadRefusedError, type Switch } from '../../tun/device.js';

export interface UdpSocket {
  readonly fd: number;
  /** Segmented sends (UDP_SEGMENT) and coalesced receives (UDP_GRO) are in force. */
  readonly gso: boolean;
  readonly gro: boolean;
  readonly gsoErrno: number;
  readonly groErrno: number;
  /** What the kernel granted, in bytes, without its own overhead. */
  readonly sendBuffer: number;
  readonly receiveBuffer: number;
}

export interface UdpSocketOptions {
  /** Of the underlay; the socket is of its family. */
  readonly address: Address;
  readonly port: number;
  readonly gso: Switch;
  readonly gro: Switch;
  /** Wanted size of each buffer, in bytes. */
  readonly buffer: number;
  /** Receives tell the ECN bits of the outer header. */
  readonly ecn?: boolean;
}

/** The calls that opening takes; a test scripts them. */
export type SocketCalls = Pick<typeof control, 'socket' | 'bind' | 'setsockopt' | 'getsockopt' | 'close' | 'errno'>;
type AdoptCalls = Pick<SocketCalls, 'setsockopt' | 'getsockopt' | 'errno'> & Pick<typeof control, 'getsockname'>;

/**
 * Opens and binds the socket.
 *
 * @throws SystemCallError when it cannot be bound, OffloadRefusedError when an offload set to `on` is refused
 */
export function openUdpSocket(options: UdpSocketOptions, calls: SocketCalls = control): UdpSocket {
  const family = familyOf(options.address);
  const fd = calls.socket(domainOf(family), SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    throw new SystemCallError(
      'socket',
      calls.errno(),
      family === 6 ? 'enable IPv6 in the kernel, or raise the limit of open files' : 'raise the limit of open files',
    );
  try {
    if (family === 6) calls.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, int32(1), 4);
    const address = sockaddrOf(options.address, options.port);
    if (calls.bind(fd, address, address.length) < 0) {
      const errno = calls.errno();
      throw new SystemCallError(`bind UDP ${formatEndpoint(options.address, options.port)}`, errno, bindHint(errno));
    }
    return configure(fd, options, calls);
  } catch (error) {
    calls.close(fd);
    throw error;
  }
}

/**
 * Takes a socket of a former process if it is bound as this one is to be, and sets its options anew. What waits in it is
 * received. The descriptor stays open in any case.
 *
 * @returns the socket, or the reason why it does not fit
 * @throws OffloadRefusedError when an offload set to `on` is refused
 */
export function adoptUdpSocket(fd: number, options: UdpSocketOptions, calls: AdoptCalls = control): UdpSocket | string {
  const type = new Uint8Array(4);
  if (calls.getsockopt(fd, SOL_SOCKET, SO_TYPE, type, [4]) < 0) return `it is no socket (${errnoName(calls.errno())})`;
  const wanted = sockaddrOf(options.address, options.port);
  const bound = new Uint8Array(wanted.length);
  const known = calls.getsockname(fd, bound, [bound.length]) >= 0;
  if (type[0] !== SOCK_DGRAM || !known || Buffer.compare(bound, wanted) !== 0) return 'it is bound to another address';
  // refused by a kernel that does not know it, where it is off anyway
  if (options.gro === 'off') calls.setsockopt(fd, SOL_UDP, UDP_GRO, int32(0), 4);
  return configure(fd, options, calls);
}

function configure(
  fd: number,
  options: UdpSocketOptions,
  calls: Pick<SocketCalls, 'setsockopt' | 'getsockopt' | 'errno'>,
): UdpSocket {
  const family = familyOf(options.address);
  allowFragments(fd, family, false, calls);
  if (options.ecn) {
    const [level, option] = family === 6 ? [IPPROTO_IPV6, IPV6_RECVTCLASS] : [IPPROTO_IP, IP_RECVTOS];
    calls.setsockopt(fd, level, option, int32(1), 4);
  }
  // reading UDP_SEGMENT tells whether the kernel knows it; 0 leaves it to each send
  const gsoErrno = offload(fd, UDP_SEGMENT, 0, 'udp-gso', options.gso, calls);
  const groErrno = offload(fd, UDP_GRO, 1, 'udp-gro', options.gro, calls);
  return {
    fd,
    gso: options.gso !== 'off' && gsoErrno === 0,
    gro: options.gro !== 'off' && groErrno === 0,
    gsoErrno,
    groErrno,
    sendBuffer: setBuffer(fd, SO_SNDBUF, SO_SNDBUFFORCE, options.buffer, calls),
    receiveBuffer: setBuffer(fd, SO_RCVBUF, SO_RCVBUFFORCE, options.buffer, calls),
  };
}

function bindHint(errno: number): string {
  if (errno === EADDRINUSE)
    return 'another daemon uses this port; stop it, or set another Backend.Port for the network';
  if (errno === EADDRNOTAVAIL) return 'the address is not on this host; check --iface and --public-ip';
  return 'check --iface';
}

/**
 * Says what becomes of datagrams that are longer than the MTU of their path: refused with EMSGSIZE, or cut into
 * fragments. Refusing is what sets DF in every datagram. The kernel's default, which allows fragments, leaves DF out of
 * all segmented sends, so that a router on the way would cut each of their datagrams and nobody would ever hear of it.
 */
export function allowFragments(
  fd: number,
  family: Family,
  allowed: boolean,
  calls: Pick<SocketCalls, 'setsockopt'> = control,
): void {
  const [level, option] = family === 6 ? [IPPROTO_IPV6, IPV6_MTU_DISCOVER] : [IPPROTO_IP, IP_MTU_DISCOVER];
  calls.setsockopt(fd, level, option, int32(allowed ? IP_PMTUDISC_WANT : IP_PMTUDISC_DO), 4);
}

/** Sets an offload unless it is off. @returns the errno of a refusal that `auto` puts up with, else 0 */
function offload(
  fd: number,
  name: number,
  value: number,
  label: string,
  wanted: Switch,
  calls: Pick<SocketCalls, 'setsockopt' | 'errno'>,
): number {
  if (wanted === 'off' || calls.setsockopt(fd, SOL_UDP, name, int32(value), 4) >= 0) return 0;
  const errno = calls.errno();
  if (wanted === 'on') throw new OffloadRefusedError(label, errno);
  return errno;
}

/** Asks for a buffer beyond the system's limit where we may, within it where we may not. @returns what was granted */
function setBuffer(
  fd: number,
  option: number,
  force: number,
  bytes: number,
  calls: Pick<SocketCalls, 'setsockopt' | 'getsockopt'>,
): number {
  if (calls.setsockopt(fd, SOL_SOCKET, force, int32(bytes), 4) < 0) {
    calls.setsockopt(fd, SOL_SOCKET, option, int32(bytes), 4);
  }
  const granted = new Uint8Array(4);
  calls.getsockopt(fd, SOL_SOCKET, option, granted, [4]);
  // the kernel doubles what is asked, to pay for its bookkeeping (socket(7))
  return new DataView(granted.buffer).getUint32(0, true) / 2;
}

/** Datagrams that the kernel dropped because nobody fetched them in time: the count that SO_RXQ_OVFL reports. */
export function receiveQueueDrops(fd: number): number {
  const words = new Uint8Array(SK_MEMINFO_WORDS * 4);
  if (control.getsockopt(fd, SOL_SOCKET, SO_MEMINFO, words, [words.length]) < 0) return 0;
  return new DataView(words.buffer).getUint32(SK_MEMINFO_DROPS * 4, true);
}

/** The MTU that the kernel knows for the path to an address; 0 when it cannot tell. */
export function pathMtu(address: Address, port: number): number {
  const family = familyOf(address);
  const fd = control.socket(domainOf(family), SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return 0;
  const sockaddr = sockaddrOf(address, port);
  const [level, option] = family === 6 ? [IPPROTO_IPV6, IPV6_MTU] : [IPPROTO_IP, IP_MTU];
  const mtu = new Uint8Array(4);
  const known =
    control.connect(fd, sockaddr, sockaddr.length) >= 0 && control.getsockopt(fd, level, option, mtu, [4]) >= 0;
  control.close(fd);
  return known ? new DataView(mtu.buffer).getUint32(0, true) : 0;
}

function domainOf(family: Family): number {
  return family === 6 ? AF_INET6 : AF_INET;
}

function sockaddrOf(address: Address, port: number): Uint8Array {
  if (typeof address === 'number') {
    const bytes = new Uint8Array(SOCKADDR_IN_BYTES);
    putSockaddrIn(bytes, 0, address, port, AF_INET);
    return bytes;
  }
  const bytes = new Uint8Array(SOCKADDR_IN6_BYTES);
  putSockaddrIn6(bytes, 0, address, port, AF_INET6);
  return bytes;
}

function int32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}
