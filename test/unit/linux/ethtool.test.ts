/** The switches of a device: the bytes of the request, what is answered, and what comes of a refusal. */
import { readdirSync } from 'node:fs';
import { beforeEach, describe, expect, it } from 'vitest';
import { AF_INET, EINVAL, EPERM, SOCK_DGRAM } from '../../../src/linux/constants.js';
import { SystemCallError } from '../../../src/linux/errno.js';
import { type DeviceSwitch, deviceState, type EthtoolCalls, setDeviceSwitch } from '../../../src/linux/ethtool.js';
import { SharedMemory } from '../../../src/linux/memory.js';

const EMFILE = 24;
const EOPNOTSUPP = 95;
const SOCKET = 17;
/** linux/ethtool.h */
const ETHTOOL = { GTSO: 0x1e, STSO: 0x1f, GGRO: 0x2b, SGRO: 0x2c };

/** One memory for all tests: a WebAssembly memory reserves gigabytes of address space. */
const memory = SharedMemory.create(48);

interface Request {
  readonly descriptor: number;
  readonly request: number;
  /** `struct ifreq` as it came. */
  readonly ifreq: Buffer;
  /** `struct ethtool_value`: the command, and what it carries. */
  readonly command: number;
  readonly data: number;
}

let requests: Request[];
let sockets: (readonly number[])[];
let closed: number[];
/** What the driver has turned on, by the command that asks. */
let inForce: Map<number, number>;
/** The driver agrees and does nothing. */
let stubborn: boolean;
let refuse: (command: number) => number;
let errno: number;
let noSocket: number;
beforeEach(() => {
  requests = [];
  sockets = [];
  closed = [];
  inForce = new Map([
    [ETHTOOL.GTSO, 1],
    [ETHTOOL.GGRO, 0],
  ]);
  stubborn = false;
  refuse = () => 0;
  errno = 0;
  noSocket = 0;
  memory.u8.fill(0xff);
});

/** ioctl(2) as the kernel does it: by the address in the request. */
const calls: EthtoolCalls = {
  socket: (...asked) => {
    sockets.push(asked);
    errno = noSocket;
    return noSocket === 0 ? SOCKET : -1;
  },
  ioctl: (descriptor, request, argument) => {
    const ifreq = Buffer.from(argument);
    const at = Number(ifreq.readBigUInt64LE(16)) - memory.base;
    const [command, data] = [memory.view.getUint32(at, true), memory.view.getUint32(at + 4, true)];
    requests.push({ descriptor, request, ifreq, command, data });
    errno = refuse(command);
    if (errno !== 0) return -1;
    const asked = inForce.get(command);
    if (asked !== undefined) memory.view.setUint32(at + 4, asked, true);
    else if (!stubborn) inForce.set(command - 1, data);
    return 0;
  },
  close: (descriptor) => {
    errno = 0; // what close leaves is not the reason
    closed.push(descriptor);
    return 0;
  },
  errno: () => errno,
};
const set = (what: DeviceSwitch, on: boolean, name = 'tweed8285-in') => setDeviceSwitch(name, what, on, calls, memory);

describe('the request', () => {
  it('is a struct ifreq: the name with its zeros, the address of the value, and zeros to its end', () => {
    set('tso', false);
    const pointer = Buffer.alloc(8);
    pointer.writeBigUInt64LE(BigInt(memory.base));
    const name = Buffer.alloc(16);
    name.write('tweed8285-in');
    for (const { ifreq } of requests) expect(ifreq).toEqual(Buffer.concat([name, pointer, Buffer.alloc(16)]));
    expect(requests.map(({ request }) => request)).toEqual([0x8946, 0x8946]);
  });

  it.each<[DeviceSwitch, boolean, number, number, number]>([
    ['tso', false, ETHTOOL.STSO, 0, ETHTOOL.GTSO],
    ['tso', true, ETHTOOL.STSO, 1, ETHTOOL.GTSO],
    ['gro', false, ETHTOOL.SGRO, 0, ETHTOOL.GGRO],
    ['gro', true, ETHTOOL.SGRO, 1, ETHTOOL.GGRO],
  ])('turns %s to %s, then asks for it', (what, on, setting, data, asking) => {
    set(what, on);
    expect(requests.map(({ command, data }) => [command, data])).toEqual([
      [setting, data],
      [asking, 0],
    ]);
  });

  it.each([
    ['a', 'a'],
    ['fifteen-letters', 'fifteen-letters'],
    ['sixteen--letters', 'sixteen--letter'],
    ['far-longer-than-any-device', 'far-longer-than'],
  ])('has the name %s with a zero behind it, and nothing of what was there before', (name, written) => {
    set('gro', true, name);
    const [first] = requests;
    expect(first?.ifreq.subarray(0, 16).toString('latin1')).toBe(written.padEnd(16, '\0'));
    expect(first?.ifreq.subarray(24).every((byte) => byte === 0)).toBe(true);
  });

  it('goes by a socket of its own', () => {
    set('gro', true);
    expect(sockets).toEqual([[AF_INET, SOCK_DGRAM, 0]]);
    expect(requests.map(({ descriptor }) => descriptor)).toEqual([SOCKET, SOCKET]);
  });
});

describe('the answer', () => {
  it.each<[DeviceSwitch, boolean]>([
    ['tso', false],
    ['tso', true],
    ['gro', false],
    ['gro', true],
  ])('is what is in force: %s %s', (what, on) => {
    expect(set(what, on)).toBe(on);
    expect(closed).toEqual([SOCKET]);
  });

  it.each<[DeviceSwitch, boolean, boolean]>([
    ['tso', false, true],
    ['gro', true, false],
  ])('is what is in force where the driver agrees and does nothing: %s', (what, wanted, there) => {
    stubborn = true;
    expect(set(what, wanted)).toBe(there);
    expect(closed).toEqual([SOCKET]);
  });

  it('may be any number but 0 for on', () => {
    stubborn = true;
    inForce.set(ETHTOOL.GGRO, 0x8000_0000);
    expect(set('gro', false)).toBe(true);
  });
});

describe('a switch that is only asked for', () => {
  it.each<[DeviceSwitch, number, number, boolean]>([
    ['tso', ETHTOOL.GTSO, 1, true],
    ['tso', ETHTOOL.GTSO, 0, false],
    ['gro', ETHTOOL.GGRO, 1, true],
    ['gro', ETHTOOL.GGRO, 0, false],
  ])('stays as it is: %s (%i) is %i', (what, asking, value, on) => {
    inForce.set(asking, value);
    const before = [...inForce];
    expect(deviceState('tweed8285-out', what, calls, memory)).toBe(on);
    expect(requests.map(({ command, data }) => [command, data])).toEqual([[asking, 0]]);
    expect(requests[0]?.ifreq.subarray(0, 16).toString('latin1')).toBe('tweed8285-out'.padEnd(16, '\0'));
    expect([...inForce]).toEqual(before);
    expect(closed).toEqual([SOCKET]);
  });

  it('is refused as one that is set', () => {
    refuse = () => EPERM;
    expect(() => deviceState('tweed8285-out', 'gro', calls, memory)).toThrow(
      expect.objectContaining({ code: 'SYSCALL_EPERM', call: 'ioctl SIOCETHTOOL' }),
    );
    expect(closed).toEqual([SOCKET]);
    expect(() => deviceState('tweed-nowhere', 'gro')).toThrow(/SIOCETHTOOL: E(NODEV|PERM)/);
  });
});

describe('a refusal', () => {
  it.each([
    ['to set', ETHTOOL.STSO, EPERM, 'SYSCALL_EPERM', 1],
    ['to set', ETHTOOL.STSO, EOPNOTSUPP, 'SYSCALL_EOPNOTSUPP', 1],
    ['to tell', ETHTOOL.GTSO, EINVAL, 'SYSCALL_EINVAL', 2],
  ])('%s (%i, errno %i) is an error with its code, and the socket is closed', (_, refused, reason, code, asked) => {
    refuse = (command) => (command === refused ? reason : 0);
    const attempt = () => set('tso', false);
    expect(attempt).toThrow(expect.objectContaining({ code, errno: reason, call: 'ioctl SIOCETHTOOL' }));
    expect(requests).toHaveLength(asked);
    expect(closed).toEqual([SOCKET]);
    expect(attempt).toThrow(SystemCallError);
    expect(attempt).toThrow(/; is there a device tweed8285-in, and CAP_NET_ADMIN\?$/);
    expect(closed).toEqual([SOCKET, SOCKET, SOCKET]);
  });

  it('of a socket is an error, and nothing is closed', () => {
    noSocket = EMFILE;
    expect(() => set('gro', true)).toThrow(
      expect.objectContaining({
        code: 'SYSCALL_EMFILE',
        call: 'socket',
        message: expect.stringMatching(/raise the limit/),
      }),
    );
    expect([requests, closed]).toEqual([[], []]);
  });

  it('is the kernel’s own for a device that is not there, and leaves no descriptor open', () => {
    const open = () => readdirSync('/proc/self/fd').length;
    const attempt = () => setDeviceSwitch('tweed-nowhere', 'tso', false);
    expect(attempt).toThrow(SystemCallError);
    const before = open();
    for (let i = 0; i < 3; i++) expect(attempt).toThrow(/SIOCETHTOOL: E(NODEV|PERM)/);
    expect(open()).toBe(before);
  });
});
