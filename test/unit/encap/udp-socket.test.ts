import os from 'node:os';
import { describe, expect, it } from 'vitest';
import type { Address } from '../../../src/base/address.js';
import {
  adoptUdpSocket,
  openUdpSocket,
  pathMtu,
  receiveQueueDrops,
  type SocketCalls,
  type UdpSocketOptions,
} from '../../../src/encap/datapath/udp-socket.js';
import {
  EADDRINUSE,
  EADDRNOTAVAIL,
  EINVAL,
  EPERM,
  IP_MTU_DISCOVER,
  IP_PMTUDISC_DO,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_MTU_DISCOVER,
  IPV6_V6ONLY,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SOL_SOCKET,
  SOL_UDP,
  UDP_GRO,
  UDP_SEGMENT,
} from '../../../src/linux/constants.js';
import { SystemCallError } from '../../../src/linux/errno.js';
import { control } from '../../../src/linux/libc.js';
import { OffloadRefusedError } from '../../../src/tun/device.js';
import { address } from './support/workbench.js';

const { EMFILE, ENOPROTOOPT } = os.constants.errno;
const FD = 42;
const LOOPBACK = 0x7f000001;

interface Refusals {
  socket?: number;
  bind?: number;
  /** By level and name, `17:103`. */
  options?: Record<string, number>;
}

/** Calls that succeed unless they are told not to, with a kernel that grants buffers of `limit` bytes without force. */
function scripted(refusals: Refusals = {}, limit = 212_992) {
  const log: string[] = [];
  const options = new Map<string, number>();
  let errno = 0;
  const refuse = (reason: number | undefined): boolean => {
    errno = reason ?? errno;
    return reason !== undefined;
  };
  let bound = new Uint8Array(0);
  const calls: SocketCalls = {
    socket: (domain, type, protocol) => {
      log.push(`socket ${domain} ${type} ${protocol}`);
      return refuse(refusals.socket) ? -1 : FD;
    },
    bind: (fd, name) => {
      bound = name.slice();
      log.push(`bind ${fd}`);
      return refuse(refusals.bind) ? -1 : 0;
    },
    setsockopt: (fd, level, name, value, length) => {
      expect([fd, value.length]).toEqual([FD, length]);
      const key = `${level}:${name}`;
      if (refuse(refusals.options?.[key])) return -1;
      const wanted = new DataView(value.buffer).getInt32(length === 16 ? 8 : 0, true);
      const forced: Record<number, number> = { [SO_SNDBUFFORCE]: SO_SNDBUF, [SO_RCVBUFFORCE]: SO_RCVBUF };
      if (level === SOL_SOCKET && forced[name] !== undefined) options.set(`${level}:${forced[name]}`, wanted * 2);
      else if (name === SO_SNDBUF || name === SO_RCVBUF) options.set(key, Math.min(wanted, limit) * 2);
      else options.set(key, wanted);
      return 0;
    },
    getsockopt: (_fd, level, name, value) => {
      new DataView(value.buffer).setUint32(0, options.get(`${level}:${name}`) ?? 0, true);
      return 0;
    },
    close: (fd) => {
      log.push(`close ${fd}`);
      return 0;
    },
    errno: () => errno,
  };
  return { calls, log, options, bound: () => bound };
}

const WANTED: UdpSocketOptions = {
  address: address('192.0.2.1'),
  port: 8285,
  gso: 'auto',
  gro: 'auto',
  buffer: 7_340_032,
};
const GSO = `${SOL_UDP}:${UDP_SEGMENT}`;
const GRO = `${SOL_UDP}:${UDP_GRO}`;

describe('openUdpSocket', () => {
  it('binds to the address and port, turns both offloads on and forces the buffers', () => {
    const { calls, log, options, bound } = scripted();
    expect(openUdpSocket(WANTED, calls)).toEqual({
      fd: FD,
      gso: true,
      gro: true,
      gsoErrno: 0,
      groErrno: 0,
      sendBuffer: 7_340_032,
      receiveBuffer: 7_340_032,
    });
    expect([...bound()]).toEqual([2, 0, 8285 >> 8, 8285 & 255, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    expect(options.get(GRO)).toBe(1);
    expect(log).toEqual(['socket 2 524290 0', `bind ${FD}`]);
  });

  it('has DF set in every datagram', () => {
    const { calls, options } = scripted();
    openUdpSocket(WANTED, calls);
    expect(options.get(`${IPPROTO_IP}:${IP_MTU_DISCOVER}`)).toBe(IP_PMTUDISC_DO);
  });

  it('is of the family of its address, and leaves the port to the other family’s socket', () => {
    const { calls, log, options, bound } = scripted();
    openUdpSocket({ ...WANTED, address: (0x2001_0db8n << 96n) | 1n }, calls);
    expect(log).toEqual(['socket 10 524290 0', `bind ${FD}`]);
    expect([...bound()].slice(0, 12)).toEqual([10, 0, 8285 >> 8, 8285 & 255, 0, 0, 0, 0, 0x20, 1, 0x0d, 0xb8]);
    expect(options.get(`${IPPROTO_IPV6}:${IPV6_V6ONLY}`)).toBe(1);
    expect(options.get(`${IPPROTO_IPV6}:${IPV6_MTU_DISCOVER}`)).toBe(IP_PMTUDISC_DO);
    const refused = () => openUdpSocket({ ...WANTED, address: 1n }, scripted({ bind: EADDRINUSE }).calls);
    expect(refused).toThrow('bind UDP [::1]:8285');
  });

  it('asks for no offload that is off', () => {
    const { calls, options } = scripted();
    const socket = openUdpSocket({ ...WANTED, gso: 'off', gro: 'off' }, calls);
    expect(socket).toMatchObject({ gso: false, gro: false, gsoErrno: 0, groErrno: 0 });
    expect([options.has(GSO), options.has(GRO)]).toEqual([false, false]);
  });

  it('does without an offload that the kernel refuses, and remembers why', () => {
    const { calls } = scripted({ options: { [GSO]: ENOPROTOOPT, [GRO]: EINVAL } });
    expect(openUdpSocket(WANTED, calls)).toMatchObject({
      gso: false,
      gro: false,
      gsoErrno: ENOPROTOOPT,
      groErrno: EINVAL,
    });
  });

  it.each([
    ['gso', GSO, 'udp-gso'],
    ['gro', GRO, 'udp-gro'],
  ] as const)('refuses to start, and closes the socket, when %s is demanded and refused', (name, key, label) => {
    const { calls, log } = scripted({ options: { [key]: ENOPROTOOPT } });
    expect(() => openUdpSocket({ ...WANTED, [name]: 'on' }, calls)).toThrow(OffloadRefusedError);
    expect(() => openUdpSocket({ ...WANTED, [name]: 'on' }, calls)).toThrow(
      `${label} (ENOPROTOOPT: Protocol not available)`,
    );
    expect(log.filter((line) => line === `close ${FD}`)).toHaveLength(2);
  });

  it('takes the buffers that it is granted where it may not force them, and says how large they are', () => {
    const forced = { [`${SOL_SOCKET}:${SO_SNDBUFFORCE}`]: EPERM, [`${SOL_SOCKET}:${SO_RCVBUFFORCE}`]: EPERM };
    const { calls } = scripted({ options: forced });
    expect(openUdpSocket(WANTED, calls)).toMatchObject({ sendBuffer: 212_992, receiveBuffer: 212_992 });
  });

  it.each([
    [EADDRINUSE, 'SYSCALL_EADDRINUSE', /another daemon uses this port/],
    [EADDRNOTAVAIL, 'SYSCALL_EADDRNOTAVAIL', /not on this host/],
    [EPERM, 'SYSCALL_EPERM', /check --iface/],
  ])('says what to do when it cannot be bound (errno %i), and closes the socket', (errno, code, hint) => {
    const { calls, log } = scripted({ bind: errno });
    const open = () => openUdpSocket(WANTED, calls);
    expect(open).toThrow(SystemCallError);
    expect(open).toThrow(hint);
    expect(open).toThrow('192.0.2.1:8285');
    expect(open).toThrow(expect.objectContaining({ code }));
    expect(log.at(-1)).toBe(`close ${FD}`);
  });

  it('says what to do when there is no socket to be had, and closes nothing', () => {
    const { calls, log } = scripted({ socket: EMFILE });
    expect(() => openUdpSocket(WANTED, calls)).toThrow(/raise the limit of open files/);
    expect(log).toEqual(['socket 2 524290 0']);
  });
});

describe('a real socket on loopback', () => {
  it('opens with every switch off, is refused a second time on its port, and has dropped nothing', () => {
    const options: UdpSocketOptions = { address: LOOPBACK, port: 0, gso: 'off', gro: 'off', buffer: 65_536 };
    const { fd, sendBuffer, receiveBuffer } = openUdpSocket(options);
    try {
      expect(fd).toBeGreaterThan(2);
      expect(sendBuffer).toBe(65_536);
      expect(receiveBuffer).toBe(65_536);
      expect(receiveQueueDrops(fd)).toBe(0);
    } finally {
      control.close(fd);
    }
  });

  it('opens with the offloads that this kernel has', () => {
    const socket = openUdpSocket({ address: LOOPBACK, port: 0, gso: 'auto', gro: 'auto', buffer: 65_536 });
    control.close(socket.fd);
    expect(socket.gso).toBe(socket.gsoErrno === 0);
    expect(socket.gro).toBe(socket.groErrno === 0);
  });

  it('knows the MTU of the path to itself, and none to where there is no path', () => {
    for (const itself of [LOOPBACK, 1n]) expect(pathMtu(itself, 8285)).toBeGreaterThanOrEqual(1500);
    expect(pathMtu(0xffffffff, 8285)).toBe(0);
  });

  it('counts nothing for a descriptor that is no socket', () => {
    expect(receiveQueueDrops(-1)).toBe(0);
  });
});

describe('a socket of a former process', () => {
  const wanted: UdpSocketOptions = { address: LOOPBACK, port: 0, gso: 'auto', gro: 'auto', buffer: 100_000 };
  /** Bound to a port that is free now. */
  function open(address: Address = LOOPBACK) {
    const socket = openUdpSocket({ ...wanted, address });
    const name = new Uint8Array(16);
    control.getsockname(socket.fd, name, [16]);
    return { socket, options: { ...wanted, address, port: ((name[2] as number) << 8) | (name[3] as number) } };
  }

  it('is taken where it is bound as wanted, with its options set anew', () => {
    const { socket, options } = open();
    const adopted = adoptUdpSocket(socket.fd, { ...options, gro: 'off', buffer: 50_000 });
    expect(adopted).toMatchObject({ fd: socket.fd, gro: false });
    const gro = new Uint8Array(4);
    control.getsockopt(socket.fd, SOL_UDP, UDP_GRO, gro, [4]);
    expect(gro[0]).toBe(0);
    control.close(socket.fd);
  });

  it('is taken by IPv6 too, and never for one of the other family', () => {
    const { socket, options } = open(1n);
    expect(adoptUdpSocket(socket.fd, options)).toMatchObject({ fd: socket.fd });
    expect(adoptUdpSocket(socket.fd, { ...options, address: LOOPBACK })).toContain('another address');
    control.close(socket.fd);
  });

  it.each([{ address: 0x7f000002 }, { port: 1 }])('does not fit when %j is wanted', (other) => {
    const { socket, options } = open();
    expect(adoptUdpSocket(socket.fd, { ...options, ...other })).toContain('another address');
    control.close(socket.fd);
  });

  it('does not fit when it is no socket', () => {
    const fd = control.eventfd(0, 0);
    expect(adoptUdpSocket(fd, wanted)).toContain('ENOTSOCK');
    control.close(fd);
  });
});
