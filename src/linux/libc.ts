/**
 * libc through koffi: the system calls that Node does not offer.
 *
 * Why koffi: `tuntap2`, the TUN package one would expect, is no longer in the npm registry, and no other kept package
 * does offloads. koffi ships its binaries inside npm packages, so nothing is compiled on the user's machine, it works
 * in worker threads, and a call costs a fraction of the system call it makes.
 *
 * Pointers are plain numbers (`uintptr_t`): user addresses have 47 bits and a double holds 53. The functions return
 * what libc returns, −1 on failure with the reason in `errno()`, which must be asked for before anything else happens.
 */
import koffi from 'koffi';

/** The calls on the packets' way. A test hands a forwarder a scripted object of this shape instead. */
export interface Syscalls {
  /** poll(2). @param fds address of an array of `struct pollfd` */
  poll(fds: number, count: number, timeoutMs: number): number;
  read(fd: number, buffer: number, length: number): number;
  /** readv(2). @param iov address of an array of `struct iovec` */
  readv(fd: number, iov: number, count: number): number;
  writev(fd: number, iov: number, count: number): number;
  /** sendmsg(2). @param message address of a `struct msghdr` */
  sendmsg(fd: number, message: number, flags: number): number;
  /** recvmmsg(2). @param messages address of an array of `struct mmsghdr`; @param timeout always 0 */
  recvmmsg(fd: number, messages: number, count: number, flags: number, timeout: number): number;
  /** The reason why the last call of this thread returned −1. */
  errno(): number;
}

const libc = koffi.load(null);

export const syscalls: Syscalls = {
  poll: libc.func('int poll(uintptr_t fds, unsigned long count, int timeout)'),
  read: libc.func('intptr_t read(int fd, uintptr_t buffer, size_t length)'),
  readv: libc.func('intptr_t readv(int fd, uintptr_t iov, int count)'),
  writev: libc.func('intptr_t writev(int fd, uintptr_t iov, int count)'),
  sendmsg: libc.func('intptr_t sendmsg(int fd, uintptr_t message, int flags)'),
  recvmmsg: libc.func('int recvmmsg(int fd, uintptr_t messages, unsigned int count, int flags, uintptr_t timeout)'),
  errno: koffi.errno as () => number,
};

/** The calls of the control side, none of them in a hurry. */
export const control = {
  open: libc.func('int open(const char *path, int flags)') as (path: string, flags: number) => number,
  close: libc.func('int close(int fd)') as (fd: number) => number,
  write: libc.func('intptr_t write(int fd, const void *buffer, size_t length)') as (
    fd: number,
    buffer: Uint8Array,
    length: number,
  ) => number,
  /** ioctl(2) with a structure that the kernel reads and may write. */
  ioctl: libc.func('int ioctl(int fd, unsigned long request, _Inout_ uint8_t *argument)') as (
    fd: number,
    request: number,
    argument: Uint8Array,
  ) => number,
  /** ioctl(2) with a plain number. */
  ioctlValue: libc.func('ioctl', 'int', ['int', 'unsigned long', 'unsigned long']) as (
    fd: number,
    request: number,
    argument: number,
  ) => number,
  socket: libc.func('int socket(int domain, int type, int protocol)') as (
    domain: number,
    type: number,
    protocol: number,
  ) => number,
  bind: libc.func('int bind(int fd, const void *address, unsigned int length)') as (
    fd: number,
    address: Uint8Array,
    length: number,
  ) => number,
  connect: libc.func('int connect(int fd, const void *address, unsigned int length)') as (
    fd: number,
    address: Uint8Array,
    length: number,
  ) => number,
  setsockopt: libc.func('int setsockopt(int fd, int level, int name, const void *value, unsigned int length)') as (
    fd: number,
    level: number,
    name: number,
    value: Uint8Array,
    length: number,
  ) => number,
  getsockopt: libc.func(
    'int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ unsigned int *length)',
  ) as (fd: number, level: number, name: number, value: Uint8Array, length: number[]) => number,
  /** getsockname(2). @param length of the buffer before, of the address after */
  getsockname: libc.func('int getsockname(int fd, _Out_ uint8_t *address, _Inout_ unsigned int *length)') as (
    fd: number,
    address: Uint8Array,
    length: number[],
  ) => number,
  /** recvmsg(2). @param message address of a `struct msghdr` */
  recvmsg: libc.func('intptr_t recvmsg(int fd, uintptr_t message, int flags)') as (
    fd: number,
    message: number,
    flags: number,
  ) => number,
  /** fcntl(2) with a plain number. */
  fcntl: libc.func('int fcntl(int fd, int command, long argument)') as (
    fd: number,
    command: number,
    argument: number,
  ) => number,
  flock: libc.func('int flock(int fd, int operation)') as (fd: number, operation: number) => number,
  eventfd: libc.func('int eventfd(unsigned int initial, int flags)') as (initial: number, flags: number) => number,
  errno: koffi.errno as () => number,
};

/** The address of a typed array's first byte. Only for memory that never moves: a WebAssembly memory's. */
export function addressOf(array: Uint8Array): number {
  return Number(koffi.address(array));
}
