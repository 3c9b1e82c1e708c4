/** Sockets with blocking calls, for tools that must not measure Node's event loop. Addresses in host order. */
import koffi from 'koffi';
import { AF_INET, SO_RCVBUF, SOCK_CLOEXEC, type SOCK_DGRAM, SOL_SOCKET } from '../../src/linux/constants.js';
import { SystemCallError } from '../../src/linux/errno.js';
import { control } from '../../src/linux/libc.js';
import { putSockaddrIn, SOCKADDR_IN_BYTES } from '../../src/linux/structs.js';

const libc = koffi.load(null);

export const SOCK_STREAM = 1;
const SO_REUSEADDR = 2;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const BACKLOG = 128;

export const send = libc.func('intptr_t send(int fd, const void *buffer, size_t length, int flags)') as (
  fd: number,
  buffer: Uint8Array,
  length: number,
  flags: number,
) => number;
export const recv = libc.func('intptr_t recv(int fd, _Out_ uint8_t *buffer, size_t length, int flags)') as (
  fd: number,
  buffer: Uint8Array,
  length: number,
  flags: number,
) => number;
export const sendto = libc.func(
  'intptr_t sendto(int fd, const void *buffer, size_t length, int flags, const void *address, unsigned int size)',
) as (fd: number, buffer: Uint8Array, length: number, flags: number, address: Uint8Array, size: number) => number;
export const recvfrom = libc.func(
  'intptr_t recvfrom(int fd, _Out_ uint8_t *buffer, size_t length, int flags, _Out_ uint8_t *address, _Inout_ unsigned int *size)',
) as (fd: number, buffer: Uint8Array, length: number, flags: number, address: Uint8Array, size: number[]) => number;
const listen = libc.func('int listen(int fd, int backlog)') as (fd: number, backlog: number) => number;
export const accept = libc.func('int accept(int fd, void *address, void *size)') as (
  fd: number,
  address: null,
  size: null,
) => number;

export function sockaddr(address: number, port: number): Uint8Array {
  const bytes = new Uint8Array(SOCKADDR_IN_BYTES);
  putSockaddrIn(bytes, 0, address, port, AF_INET);
  return bytes;
}

export function openSocket(type: typeof SOCK_STREAM | typeof SOCK_DGRAM): number {
  const fd = control.socket(AF_INET, type | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new SystemCallError('socket', control.errno(), 'raise the limit of open files');
  return fd;
}

/** A socket that serves a port of all addresses. */
export function serve(type: typeof SOCK_STREAM | typeof SOCK_DGRAM, port: number): number {
  const fd = openSocket(type);
  setOption(fd, SOL_SOCKET, SO_REUSEADDR, int32(1));
  setOption(fd, SOL_SOCKET, SO_RCVBUF, int32(4 << 20));
  const address = sockaddr(0, port);
  if (control.bind(fd, address, address.length) < 0 || (type === SOCK_STREAM && listen(fd, BACKLOG) < 0)) {
    throw new SystemCallError(`bind port ${port}`, control.errno(), 'is another server running in this namespace?');
  }
  return fd;
}

/** Connects, for at most a second. @returns the descriptor; −1 when nobody answers */
export function connect(type: typeof SOCK_STREAM | typeof SOCK_DGRAM, address: Uint8Array): number {
  const fd = openSocket(type);
  setOption(fd, SOL_SOCKET, SO_RCVTIMEO, seconds(1));
  setOption(fd, SOL_SOCKET, SO_SNDTIMEO, seconds(1));
  if (type === SOCK_STREAM) noDelay(fd);
  if (control.connect(fd, address, address.length) >= 0) return fd;
  control.close(fd);
  return -1;
}

/** Small messages leave at once. */
export function noDelay(fd: number): void {
  setOption(fd, IPPROTO_TCP, TCP_NODELAY, int32(1));
}

function setOption(fd: number, level: number, option: number, value: Uint8Array): void {
  control.setsockopt(fd, level, option, value, value.length);
}

function int32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}

/** A `struct timeval`. */
function seconds(value: number): Uint8Array {
  const bytes = new Uint8Array(16);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
