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

type Address = [fd: number, address: Uint8Array, length: number];
type Option = [fd: number, level: number, name: number];

/**
 * A function by its declaration in C, whose arguments koffi has no types for. It is declared when it is first called: that takes
 * as long as many calls, and most programs call few.
 */
function call<Arguments extends unknown[]>(declaration: string): (...given: Arguments) => number {
  let declared: ((...given: Arguments) => number) | null = null;
  return (...given) => {
    declared ??= libc.func(declaration) as (...given: Arguments) => number;
    return declared(...given);
  };
}

const syscall = call<[number: number, command: number, attributes: number, size: number]>(
  'long syscall(long number, int command, uintptr_t attributes, unsigned int size)',
);
/** asm/unistd_64.h, asm-generic/unistd.h */
const SYS_BPF = process.arch === 'arm64' ? 280 : 321;
const SYS_SETRESUID = process.arch === 'arm64' ? 147 : 117;

/** The calls of the control side, none of them in a hurry. */
export const control = {
  open: call<[path: string, flags: number]>('int open(const char *path, int flags)'),
  close: call<[fd: number]>('int close(int fd)'),
  write: call<[fd: number, buffer: Uint8Array, length: number]>(
    'intptr_t write(int fd, const void *buffer, size_t length)',
  ),
  /** ioctl(2) with a structure that the kernel reads and may write. */
  ioctl: call<[fd: number, request: number, argument: Uint8Array]>(
    'int ioctl(int fd, unsigned long request, _Inout_ uint8_t *argument)',
  ),
  /** ioctl(2) with a plain number. */
  ioctlValue: call<[fd: number, request: number, argument: number]>(
    'int ioctl(int fd, unsigned long request, unsigned long argument)',
  ),
  socket: call<[domain: number, type: number, protocol: number]>('int socket(int domain, int type, int protocol)'),
  bind: call<Address>('int bind(int fd, const void *address, unsigned int length)'),
  connect: call<Address>('int connect(int fd, const void *address, unsigned int length)'),
  sendto: call<[fd: number, buffer: Uint8Array, length: number, flags: number, to: Uint8Array, toLength: number]>(
    'intptr_t sendto(int fd, const void *buffer, size_t length, int flags, const void *to, unsigned int toLength)',
  ),
  setsockopt: call<[...Option, value: Uint8Array, length: number]>(
    'int setsockopt(int fd, int level, int name, const void *value, unsigned int length)',
  ),
  getsockopt: call<[...Option, value: Uint8Array, length: number[]]>(
    'int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ unsigned int *length)',
  ),
  /** getsockname(2). @param length of the buffer before, of the address after */
  getsockname: call<[fd: number, address: Uint8Array, length: number[]]>(
    'int getsockname(int fd, _Out_ uint8_t *address, _Inout_ unsigned int *length)',
  ),
  /** recvmsg(2). @param message address of a `struct msghdr` */
  recvmsg: call<[fd: number, message: number, flags: number]>('intptr_t recvmsg(int fd, uintptr_t message, int flags)'),
  /** poll(2). @param fds an array of `struct pollfd` */
  poll: call<[fds: Uint8Array, count: number, timeoutMs: number]>(
    'int poll(_Inout_ uint8_t *fds, unsigned long count, int timeoutMs)',
  ),
  flock: call<[fd: number, operation: number]>('int flock(int fd, int operation)'),
  /** fcntl(2) with a plain number. */
  fcntl: call<[fd: number, command: number, argument: number]>('int fcntl(int fd, int command, long argument)'),
  faccessat: call<[directory: number, path: string, mode: number, flags: number]>(
    'int faccessat(int directory, const char *path, int mode, int flags)',
  ),
  prctl: call<[option: number, a: number, b: number, c: number, d: number]>(
    'int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)',
  ),
  /** capset(2), of the calling thread. @param header `struct __user_cap_header_struct`; @param data two of `__user_cap_data_struct` */
  capset: call<[header: Uint8Array, data: Uint8Array]>('int capset(const void *header, const void *data)'),
  /** setresuid(2), which libc does in every thread of the process. */
  setresuid: call<[real: number, effective: number, saved: number]>(
    'int setresuid(unsigned int real, unsigned int effective, unsigned int saved)',
  ),
  /** setresuid(2), of the calling thread only. */
  setresuidOfThread: (real: number, effective: number, saved: number): number =>
    syscall(SYS_SETRESUID, real, effective, saved),
  /** signal(2). @param handler 0: what the kernel does; 1: ignore */
  signal: call<[signal: number, handler: number]>('uintptr_t signal(int signal, uintptr_t handler)'),
  /** execve(2). Both lists end with null. */
  execve: call<[path: string, argv: readonly (string | null)[], environment: readonly (string | null)[]]>(
    'int execve(const char *path, const char **argv, const char **environment)',
  ),
  memfdCreate: call<[name: string, flags: number]>('int memfd_create(const char *name, unsigned int flags)'),
  eventfd: call<[initial: number, flags: number]>('int eventfd(unsigned int initial, int flags)'),
  /** bpf(2), for which libc has no function. @param attributes address of a `union bpf_attr` */
  bpf: (command: number, attributes: number, size: number): number => syscall(SYS_BPF, command, attributes, size),
  strerror: call<[errno: number]>('const char *strerror(int errno)') as unknown as (errno: number) => string,
  errno: koffi.errno as () => number,
};

/** The address of a typed array's first byte. Only for memory that never moves: a WebAssembly memory's. */
export function addressOf(array: Uint8Array): number {
  return Number(koffi.address(array));
}
