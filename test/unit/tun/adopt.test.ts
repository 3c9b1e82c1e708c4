import { describe, expect, it } from 'vitest';
import { EBADFD, EINVAL } from '../../../src/linux/constants.js';
import { adoptTun } from '../../../src/tun/adopt.js';
import { OffloadRefusedError, type Switch, type TunCalls } from '../../../src/tun/device.js';

const FD = 9;
// linux/if_tun.h, written out once more
const TUNGETIFF = 0x800454d2;
const TUN = 0x0001;
const MULTI_QUEUE = 0x0100;
const NO_PI = 0x1000;
const VNET_HDR = 0x4000;

/** A descriptor of a device of that name and those flags; of none at all without. */
function calls(name: string, flags: number, refusesUso = false): TunCalls {
  return {
    open: () => expect.unreachable(),
    close: () => expect.unreachable('it is the caller’s'),
    ioctl: (fd, request, argument) => {
      expect([fd, request]).toEqual([FD, TUNGETIFF]);
      if (name === '') return -1;
      argument.set(new TextEncoder().encode(name));
      new DataView(argument.buffer).setUint16(16, flags, true);
      return 0;
    },
    ioctlValue: (_, __, mask) => (refusesUso && (mask & 0x60) !== 0 ? -1 : 0),
    errno: () => (name === '' ? EBADFD : EINVAL),
  };
}

const wanted = (tso: Switch = 'auto', uso: Switch = 'auto') => ({ tso, uso });
const PLAIN = TUN | NO_PI;

describe('a device of a former process', () => {
  it('is taken as it is, and the offloads are agreed on anew', () => {
    expect(adoptTun(FD, 'flannel0', wanted(), calls('flannel0', PLAIN | VNET_HDR))).toEqual({
      fd: FD,
      name: 'flannel0',
      adopted: false,
      vnetHeader: true,
      tso: true,
      uso: true,
      tsoErrno: 0,
      usoErrno: 0,
    });
    const old = adoptTun(FD, 'flannel0', wanted(), calls('flannel0', PLAIN | VNET_HDR, true));
    expect(old).toMatchObject({ tso: true, uso: false, usoErrno: EINVAL });
    expect(adoptTun(FD, 'flannel0', wanted('off'), calls('flannel0', PLAIN))).toMatchObject({ vnetHeader: false });
  });

  it('is refused when an offload is demanded that it has not', () => {
    const uso = () => adoptTun(FD, 'flannel0', wanted('auto', 'on'), calls('flannel0', PLAIN | VNET_HDR, true));
    expect(uso).toThrow(OffloadRefusedError);
  });

  it.each([
    ['is gone', '', 0, wanted(), ''],
    ['has another name', 'flannel1', PLAIN | VNET_HDR, wanted(), 'flannel1'],
    ['has no header where one is wanted', 'flannel0', PLAIN, wanted(), 'flannel0'],
    ['has a header where none is wanted', 'flannel0', PLAIN | VNET_HDR, wanted('off'), 'flannel0'],
    ['has several queues', 'flannel0', PLAIN | VNET_HDR | MULTI_QUEUE, wanted(), 'flannel0'],
    ['carries frames', 'flannel0', 0x0002 | NO_PI | VNET_HDR, wanted(), 'flannel0'],
  ])('does not fit when it %s', (_, name, flags, offloads, device) => {
    expect(adoptTun(FD, 'flannel0', offloads, calls(name, flags))).toEqual({ reason: expect.any(String), device });
  });
});
