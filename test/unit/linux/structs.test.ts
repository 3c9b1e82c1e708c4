import { constants as files } from 'node:fs';
import os from 'node:os';
import fc from 'fast-check';
import koffi from 'koffi';
import { describe, expect, it } from 'vitest';
import * as numbers from '../../../src/linux/constants.js';
import { errnoName, errnoText, SystemCallError } from '../../../src/linux/errno.js';
import * as layout from '../../../src/linux/structs.js';

// the structures as the headers declare them; koffi lays them out by the C rules of this machine
const iovec = koffi.struct('iovec', { base: 'void *', length: 'size_t' });
const pollfd = koffi.struct('pollfd', { fd: 'int', events: 'short', revents: 'short' });
const msghdr = koffi.struct('msghdr', {
  name: 'void *',
  nameLength: 'uint32_t',
  iov: 'void *',
  iovCount: 'size_t',
  control: 'void *',
  controlLength: 'size_t',
  flags: 'int',
});
const mmsghdr = koffi.struct('mmsghdr', { header: msghdr, length: 'unsigned int' });
const cmsghdr = koffi.struct('cmsghdr', { length: 'size_t', level: 'int', type: 'int', data: 'int' });
const sockaddr = koffi.struct('sockaddr_in', {
  family: 'uint16_t',
  port: 'uint16_t',
  address: 'uint32_t',
  zero: koffi.array('uint8_t', 8),
});

const sockaddrIn6 = koffi.struct('sockaddr_in6', {
  family: 'uint16_t',
  port: 'uint16_t',
  flow: 'uint32_t',
  address: koffi.array('uint8_t', 16),
  scope: 'uint32_t',
});

describe('the layouts of structures', () => {
  it.each([
    ['iovec', iovec, layout.IOVEC_BYTES, { base: layout.IOVEC_BASE, length: layout.IOVEC_LENGTH }],
    ['pollfd', pollfd, layout.POLLFD_BYTES, { fd: 0, events: layout.POLLFD_EVENTS, revents: layout.POLLFD_REVENTS }],
    [
      'msghdr',
      msghdr,
      layout.MSGHDR_BYTES,
      {
        name: layout.MSGHDR_NAME,
        nameLength: layout.MSGHDR_NAME_LENGTH,
        iov: layout.MSGHDR_IOV,
        iovCount: layout.MSGHDR_IOV_COUNT,
        control: layout.MSGHDR_CONTROL,
        controlLength: layout.MSGHDR_CONTROL_LENGTH,
        flags: layout.MSGHDR_FLAGS,
      },
    ],
    ['mmsghdr', mmsghdr, layout.MMSGHDR_BYTES, { header: 0, length: layout.MMSGHDR_LENGTH }],
    [
      'cmsghdr',
      cmsghdr,
      layout.CMSG_SPACE,
      { length: layout.CMSG_LENGTH, level: layout.CMSG_LEVEL, type: layout.CMSG_TYPE, data: layout.CMSG_DATA },
    ],
    [
      'sockaddr_in',
      sockaddr,
      layout.SOCKADDR_IN_BYTES,
      { family: 0, port: layout.SOCKADDR_PORT, address: layout.SOCKADDR_ADDRESS },
    ],
    [
      'sockaddr_in6',
      sockaddrIn6,
      layout.SOCKADDR_IN6_BYTES,
      { family: 0, port: layout.SOCKADDR_PORT, address: layout.SOCKADDR_IN6_ADDRESS },
    ],
  ])('%s is as C lays it out', (_, type, bytes, offsets) => {
    expect(koffi.sizeof(type)).toBe(bytes);
    for (const [field, offset] of Object.entries(offsets)) expect(koffi.offsetof(type, field), field).toBe(offset);
  });
});

describe('putSockaddrIn and toNetworkOrder', () => {
  it('write port and address as they go over the wire', () => {
    const bytes = new Uint8Array(20).fill(0xee);
    layout.putSockaddrIn(bytes, 2, 0xc0000201, 8285, 2);
    expect([...bytes]).toEqual([0xee, 0xee, 2, 0, 0x20, 0x5d, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0xee, 0xee]);
  });

  it('write an IPv6 address as it goes over the wire, without flow and scope', () => {
    const bytes = new Uint8Array(32).fill(0xee);
    layout.putSockaddrIn6(bytes, 2, (0x2001_0db8n << 96n) | 0x1ffn, 8285, 10);
    const address = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff];
    expect([...bytes]).toEqual([0xee, 0xee, 10, 0, 0x20, 0x5d, 0, 0, 0, 0, ...address, 0, 0, 0, 0, 0xee, 0xee]);
  });

  it('toNetworkOrder gives the word that lies in memory, and is its own inverse', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), (address) => {
        const bytes = new Uint8Array(16);
        layout.putSockaddrIn(bytes, 0, address, 1, 2);
        const inMemory = new DataView(bytes.buffer).getInt32(layout.SOCKADDR_ADDRESS, true);
        expect(layout.toNetworkOrder(address)).toBe(inMemory);
        expect(layout.toNetworkOrder(inMemory) >>> 0).toBe(address);
      }),
    );
  });
});

describe('the numbers of the kernel', () => {
  it('agree with what Node knows of errors and of opening', () => {
    const errors = Object.entries(numbers).filter(([name]) => /^E[A-Z]/.test(name) && !name.startsWith('EFD_'));
    expect(errors.length).toBeGreaterThan(15);
    const known = os.constants.errno as Readonly<Record<string, number>>;
    for (const [name, value] of errors) {
      if (name === 'EBADFD')
        expect(value).toBe(77); // asm-generic/errno.h; Node has no name for it
      else expect(value, name).toBe(known[name]);
    }
    expect([numbers.O_RDWR, numbers.O_NONBLOCK]).toEqual([files.O_RDWR, files.O_NONBLOCK]);
  });
});

describe('errors of system calls', () => {
  it('have a name where there is one', () => {
    expect(errnoName(22)).toBe('EINVAL');
    expect(errnoName(11)).toMatch(/^E(AGAIN|WOULDBLOCK)$/);
    expect(errnoName(12345)).toBe('errno 12345');
    expect(errnoText(77)).toBe('EBADFD: File descriptor in bad state');
    for (let errno = 1; errno <= 133; errno++) {
      if (errno === 41 || errno === 58) continue; // Linux has none
      expect(errnoText(errno)).toMatch(/^E[A-Z0-9]+: \S/);
    }
  });

  it('carry a stable code and end with what to do', () => {
    const error = new SystemCallError('bind', 98, 'stop the other one');
    expect(error).toMatchObject({ code: 'SYSCALL_EADDRINUSE', call: 'bind', errno: 98, name: 'SystemCallError' });
    expect(error.message).toBe('bind: EADDRINUSE: Address already in use; stop the other one');
  });
});
