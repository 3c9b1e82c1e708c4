import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { EAGAIN, EBADF, EFD_CLOEXEC, EFD_NONBLOCK, POLLIN, POLLNVAL } from '../../../src/linux/constants.js';
import { control, syscalls } from '../../../src/linux/libc.js';
import { RegionAllocator, SharedMemory } from '../../../src/linux/memory.js';
import { IOVEC_BYTES, IOVEC_LENGTH, POLLFD_BYTES, POLLFD_EVENTS, POLLFD_REVENTS } from '../../../src/linux/structs.js';

const regions = new RegionAllocator();
const iov = regions.take(2 * IOVEC_BYTES);
const fds = regions.take(2 * POLLFD_BYTES);
const data = regions.take(4096);
const memory = SharedMemory.create(regions.used);
const { base, u8, u16, i32, u32 } = memory;

function vector(...lengths: number[]): number {
  let at = data;
  lengths.forEach((length, i) => {
    memory.setPointer(iov + i * IOVEC_BYTES, at);
    u32[(iov + i * IOVEC_BYTES + IOVEC_LENGTH) >>> 2] = length;
    at += length;
  });
  return lengths.length;
}

describe('the calls of the forwarders', () => {
  it('readv fills the pieces front to back', () => {
    const fd = openSync('/proc/version', 'r');
    const text = readFileSync('/proc/version');
    const bytes = syscalls.readv(fd, base + iov, vector(5, 10));
    closeSync(fd);
    expect(bytes).toBe(15);
    expect(Buffer.from(u8.slice(data, data + 15))).toEqual(text.subarray(0, 15));
  });

  it('writev writes the pieces front to back', () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'tweed-libc-'));
    try {
      const file = path.join(folder, 'out');
      const fd = openSync(file, 'w');
      u8.set([1, 2, 3, 4, 5], data);
      expect(syscalls.writev(fd, base + iov, vector(2, 3))).toBe(5);
      closeSync(fd);
      expect([...readFileSync(file)]).toEqual([1, 2, 3, 4, 5]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('poll tells which descriptor has something, and an eventfd wakes it', () => {
    const fd = control.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    i32[fds >>> 2] = fd;
    u16[(fds + POLLFD_EVENTS) >>> 1] = POLLIN;
    i32[(fds + POLLFD_BYTES) >>> 2] = 12_345; // open in no test process
    try {
      expect(syscalls.poll(base + fds, 1, 0)).toBe(0);
      const one = new Uint8Array(8);
      one[0] = 1;
      expect(control.write(fd, one, 8)).toBe(8);
      expect(syscalls.poll(base + fds, 2, -1)).toBe(2);
      expect(u16[(fds + POLLFD_REVENTS) >>> 1]).toBe(POLLIN);
      expect(u16[(fds + POLLFD_BYTES + POLLFD_REVENTS) >>> 1]).toBe(POLLNVAL);
      expect(syscalls.read(fd, base + data, 8)).toBe(8);
      expect(u8[data]).toBe(1);
      expect(syscalls.read(fd, base + data, 8)).toBe(-1);
      expect(syscalls.errno()).toBe(EAGAIN);
    } finally {
      control.close(fd);
    }
  });

  it.each<[string, () => number]>([
    ['read', () => syscalls.read(-1, base + data, 8)],
    ['readv', () => syscalls.readv(-1, base + iov, 1)],
    ['writev', () => syscalls.writev(-1, base + iov, 1)],
    ['sendmsg', () => syscalls.sendmsg(-1, base + data, 0)],
    ['recvmmsg', () => syscalls.recvmmsg(-1, base + data, 1, 0, 0)],
  ])('%s says −1 and EBADF for no descriptor', (_, call) => {
    expect(call()).toBe(-1);
    expect(syscalls.errno()).toBe(EBADF);
  });

  it('poll with no descriptor sleeps', () => {
    expect(syscalls.poll(base + fds, 0, 1)).toBe(0);
  });
});
