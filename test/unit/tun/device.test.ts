import os from 'node:os';
import { describe, expect, it } from 'vitest';
import { TweedError } from '../../../src/base/errors.js';
import { EACCES, EBUSY, EINVAL, EPERM } from '../../../src/linux/constants.js';
import { SystemCallError } from '../../../src/linux/errno.js';
import { DeviceBusyError, OffloadRefusedError, openTun, type Switch, type TunCalls } from '../../../src/tun/device.js';
import type { PresentDevice } from '../../../src/tun/present.js';

const { ENOENT, ENODEV } = os.constants.errno;
const FD = 9;
// Documentation/networking/tuntap.rst and linux/if_tun.h, written out once more
const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETPERSIST = 0x400454cb;
const CSUM_TSO = 0x01 | 0x02 | 0x04 | 0x08;
const USO = 0x20 | 0x40;
const TUN = 0x0001;
const NO_PI = 0x1000;
const VNET_HDR = 0x4000;
const EXCL = 0x8000;

interface Refusals {
  open?: number;
  /** Of each try, or of all. */
  attach?: number | number[];
  /** Decides about a set of offloads: an errno or 0. */
  offloads?: (mask: number) => number;
}

function scripted(refusals: Refusals = {}) {
  const log: string[] = [];
  const offloads: number[] = [];
  let request = new Uint8Array(0);
  let errno = 0;
  let persist: number | null = null;
  const answer = (reason: number, success: number): number => {
    if (reason === 0) return success;
    errno = reason;
    return -1;
  };
  const calls: TunCalls = {
    open: (path, flags) => {
      log.push(`open ${path} ${flags.toString(16)}`);
      return answer(refusals.open ?? 0, FD);
    },
    ioctl: (fd, name, argument) => {
      expect([fd, name]).toEqual([FD, TUNSETIFF]);
      log.push('attach');
      request = argument.slice();
      const { attach = 0 } = refusals;
      return answer(typeof attach === 'number' ? attach : (attach.shift() ?? 0), 0);
    },
    ioctlValue: (fd, name, mask) => {
      if (name === TUNSETPERSIST) {
        persist = mask;
        return 0;
      }
      expect([fd, name]).toEqual([FD, TUNSETOFFLOAD]);
      offloads.push(mask);
      return answer(refusals.offloads?.(mask) ?? 0, 0);
    },
    close: (fd) => {
      log.push(`close ${fd}`);
      return 0;
    },
    errno: () => errno,
  };
  return {
    calls,
    log,
    offloads,
    persist: () => persist,
    name: () => new TextDecoder().decode(request.slice(0, 16)).replace(/\0+$/, ''),
    flags: () => new DataView(request.buffer).getUint16(16, true),
    closed: () => log.filter((line) => line === `close ${FD}`).length,
  };
}

const wanted = (tso: Switch, uso: Switch) => ({ tso, uso });
const without = (refused: number, errno: number) => (mask: number) => ((mask & refused) === 0 ? 0 : errno);

describe('openTun', () => {
  it('creates the device of that name, for itself alone, with virtio-net headers and every offload', () => {
    const { calls, log, offloads, name, flags } = scripted();
    expect(openTun('flannel0', wanted('auto', 'auto'), calls)).toEqual({
      fd: FD,
      name: 'flannel0',
      vnetHeader: true,
      tso: true,
      uso: true,
      tsoErrno: 0,
      usoErrno: 0,
      adopted: false,
    });
    expect(log).toEqual(['open /dev/net/tun 80802', 'attach']); // O_RDWR, O_NONBLOCK, O_CLOEXEC
    expect(name()).toBe('flannel0');
    expect(flags()).toBe(TUN | NO_PI | VNET_HDR | EXCL);
    expect(offloads).toEqual([CSUM_TSO | USO]);
  });

  it.each<[string, Switch, Switch, Refusals['offloads'], object, number[]]>([
    ['USO off', 'auto', 'off', undefined, { tso: true, uso: false, tsoErrno: 0, usoErrno: 0 }, [CSUM_TSO]],
    [
      'USO refused, as before Linux 6.2',
      'auto',
      'auto',
      without(USO, EINVAL),
      { vnetHeader: true, tso: true, uso: false, tsoErrno: 0, usoErrno: EINVAL },
      [CSUM_TSO | USO, CSUM_TSO],
    ],
    [
      'everything refused',
      'auto',
      'auto',
      () => EINVAL,
      { vnetHeader: true, tso: false, uso: false, tsoErrno: EINVAL, usoErrno: EINVAL },
      [CSUM_TSO | USO, CSUM_TSO],
    ],
    [
      'TSO refused with USO off',
      'auto',
      'off',
      () => EINVAL,
      { vnetHeader: true, tso: false, uso: false, tsoErrno: EINVAL, usoErrno: 0 },
      [CSUM_TSO],
    ],
    ['both demanded and granted', 'on', 'on', undefined, { tso: true, uso: true }, [CSUM_TSO | USO]],
    [
      'TSO demanded, USO refused',
      'on',
      'auto',
      without(USO, EINVAL),
      { tso: true, uso: false },
      [CSUM_TSO | USO, CSUM_TSO],
    ],
    ['TSO off', 'off', 'auto', undefined, { vnetHeader: false, tso: false, uso: false, tsoErrno: 0, usoErrno: 0 }, []],
  ])('%s', (_, tso, uso, offloadVerdict, expected, asked) => {
    const { calls, offloads, closed } = scripted(offloadVerdict ? { offloads: offloadVerdict } : {});
    expect(openTun('flannel0', wanted(tso, uso), calls)).toMatchObject(expected);
    expect(offloads).toEqual(asked);
    expect(closed()).toBe(0);
  });

  it('has no virtio-net header when TSO is off: packets then come as they are', () => {
    const { calls, flags } = scripted();
    openTun('flannel0', wanted('off', 'off'), calls);
    expect(flags()).toBe(TUN | NO_PI | EXCL);
  });

  it.each<[string, Switch, Switch, Refusals, RegExp]>([
    [
      'USO is demanded and refused',
      'auto',
      'on',
      { offloads: without(USO, EINVAL) },
      /tun-uso \(EINVAL: Invalid argument\).*"auto" or "off"/,
    ],
    ['TSO is demanded and refused', 'on', 'auto', { offloads: () => EINVAL }, /tun-tso \(EINVAL: Invalid argument\)/],
    ['USO is demanded with TSO off', 'off', 'on', {}, /tun-uso without tun-tso/],
  ])('closes the device again when %s', (_, tso, uso, refusals, message) => {
    const { calls, closed } = scripted(refusals);
    const open = () => openTun('flannel0', wanted(tso, uso), calls);
    expect(open).toThrow(OffloadRefusedError);
    expect(closed()).toBe(1);
    expect(open).toThrow(message);
  });

  it('says that another daemon runs when the device is taken', () => {
    const { calls, closed, offloads } = scripted({ attach: EBUSY });
    const open = () => openTun('flannel0', wanted('auto', 'auto'), calls, () => 'held');
    expect(open).toThrow(DeviceBusyError);
    expect(open).toThrow(/flannel0 exists already and a process holds it.*stop it first/);
    expect(closed()).toBe(2);
    expect(offloads).toEqual([]);
  });

  it('takes a device over that nobody holds, and makes it go with the process', () => {
    const { calls, flags, persist, closed } = scripted({ attach: [EBUSY, 0] });
    expect(openTun('flannel0', wanted('auto', 'auto'), calls, () => 'left over')).toMatchObject({
      fd: FD,
      adopted: true,
    });
    expect(flags()).toBe(TUN | NO_PI | VNET_HDR);
    expect(persist()).toBe(0);
    expect(closed()).toBe(0);
  });

  it.each<[string, PresentDevice, RegExp]>([
    ['somebody came first', 'left over', /a process holds it/],
    ['it has several queues', 'several queues', /remove it with "ip tuntap del dev flannel0 mode tun multi_queue"/],
    ['it is of another kind', 'no tun', /remove it with "ip link del flannel0"/],
    ['the host may be reached by it', 'in use', /\(in use\); choose another --device$/],
  ])('leaves a device alone when %s', (_, present, message) => {
    const { calls, closed } = scripted({ attach: [EBUSY, EBUSY] });
    expect(() => openTun('flannel0', wanted('auto', 'auto'), calls, () => present)).toThrow(message);
    expect(closed()).toBe(1);
  });

  it('says what to do when the device may not be attached, and closes it', () => {
    const { calls, closed } = scripted({ attach: EPERM });
    const open = () => openTun('flannel0', wanted('auto', 'auto'), calls);
    expect(open).toThrow(SystemCallError);
    expect(open).toThrow(/TUNSETIFF flannel0: EPERM: Operation not permitted; run as root or give CAP_NET_ADMIN/);
    expect(closed()).toBe(2);
  });

  it.each([
    ['EPERM', EPERM, /run as root/],
    ['EACCES', EACCES, /run as root/],
    ['ENOENT', ENOENT, /modprobe tun/],
    ['ENODEV', ENODEV, /modprobe tun/],
  ])('says what to do when /dev/net/tun answers %s', (_, errno, message) => {
    const { calls, closed } = scripted({ open: errno });
    expect(() => openTun('flannel0', wanted('auto', 'auto'), calls)).toThrow(message);
    expect(closed()).toBe(0);
  });

  it.each([
    ['16 characters', 'flannel890123456'],
    ['15 characters that take more bytes', 'flännel89012345'],
  ])('refuses a name of %s, and leaves nothing open', (_, name) => {
    const { calls, log } = scripted();
    const open = () => openTun(name, wanted('auto', 'auto'), calls);
    expect(open).toThrow(TweedError);
    expect(open).toThrow(expect.objectContaining({ code: 'DEVICE_NAME' }));
    expect(log.filter((line) => !line.startsWith('open'))).toEqual([`close ${FD}`, `close ${FD}`]);
  });

  it('takes a name of 15 characters', () => {
    const { calls, name } = scripted();
    openTun('flannel89012345', wanted('auto', 'auto'), calls);
    expect(name()).toBe('flannel89012345');
  });
});
