/** System calls that only the crossings benchmark makes; the daemon's own are in src/linux/libc.ts. */
import koffi from 'koffi';

const libc = koffi.load(null);

export const native = {
  /** A call into libc that does nothing: what koffi itself costs with three arguments. memcmp(3) of no bytes. */
  nothing: libc.func('int memcmp(uintptr_t a, uintptr_t b, size_t length)') as (
    a: number,
    b: number,
    length: number,
  ) => number,
  /** The cheapest system call: it enters the kernel, reads one number, leaves. */
  getppid: libc.func('int getppid()') as () => number,
  /** clock_gettime(2). @param time address of a `struct timespec` */
  clockGettime: libc.func('int clock_gettime(int clock, uintptr_t time)') as (clock: number, time: number) => number,
  pread: libc.func('intptr_t pread64(int fd, uintptr_t buffer, size_t length, int64_t offset)') as (
    fd: number,
    buffer: number,
    length: number,
    offset: number,
  ) => number,
  pwrite: libc.func('intptr_t pwrite64(int fd, uintptr_t buffer, size_t length, int64_t offset)') as (
    fd: number,
    buffer: number,
    length: number,
    offset: number,
  ) => number,
  recvmsg: libc.func('intptr_t recvmsg(int fd, uintptr_t message, int flags)') as (
    fd: number,
    message: number,
    flags: number,
  ) => number,
  memfdCreate: libc.func('int memfd_create(const char *name, unsigned int flags)') as (
    name: string,
    flags: number,
  ) => number,
  /** setns(2): moves the calling thread, and only it, into another network namespace. */
  setns: libc.func('int setns(int fd, int type)') as (fd: number, type: number) => number,
};

export const CLONE_NEWNET = 0x4000_0000;
export const CLOCK_THREAD_CPUTIME_ID = 3;
export const MFD_CLOEXEC = 1;
