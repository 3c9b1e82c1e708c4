/**
 * Opening a TUN device and agreeing with the kernel on its offloads (Documentation/networking/tuntap.rst,
 * linux/if_tun.h).
 *
 * The device lives as long as its descriptor: when the process ends, however it ends, the kernel takes the device, its
 * addresses and its routes away.
 */
import { writeFileSync } from 'node:fs';
import { TweedError } from '../base/errors.js';
import type { Switch } from '../base/switch.js';
import {
  EACCES,
  EBUSY,
  EINVAL,
  EPERM,
  IFF_NO_PI,
  IFF_TUN,
  IFF_TUN_EXCL,
  IFF_VNET_HDR,
  IFNAMSIZ,
  O_CLOEXEC,
  O_NONBLOCK,
  O_RDWR,
  TUN_F_CSUM,
  TUN_F_TSO_ECN,
  TUN_F_TSO4,
  TUN_F_TSO6,
  TUN_F_USO4,
  TUN_F_USO6,
  TUNSETIFF,
  TUNSETOFFLOAD,
  TUNSETPERSIST,
} from '../linux/constants.js';
import { errnoText, SystemCallError } from '../linux/errno.js';
import { control } from '../linux/libc.js';
import { type PresentDevice, presentDevice, removalOf } from './present.js';

/** sizeof struct ifreq, net/if.h, and where the flags stand in it. */
export const IFREQ_BYTES = 40;
export const IFREQ_FLAGS = IFNAMSIZ;
const TSO = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;

export type { Switch };

/** The device belongs to somebody else: a daemon that is already running, or somebody who needs something else of that name. */
export class DeviceBusyError extends TweedError {
  constructor(device: string, present: PresentDevice = 'held') {
    const removal = removalOf(device, present);
    const choice = removal === '' ? '' : `remove it with "${removal}", or `;
    super(
      'DEVICE_BUSY',
      removal === '' && present !== 'in use'
        ? `the device ${device} exists already and a process holds it: another daemon (tweed or flanneld) runs on this host; stop it first, or choose another --device`
        : `the device ${device} exists already and is no TUN device that could be used (${present}); ${choice}choose another --device`,
    );
  }
}

/** An offload that was demanded (`on`) and that the kernel does not have. */
export class OffloadRefusedError extends TweedError {
  constructor(offload: string, errno: number) {
    super(
      'OFFLOAD_REFUSED',
      `the kernel refuses ${offload} (${errnoText(errno)}), which is set to "on"; set it to "auto" or "off"`,
    );
  }
}

export interface TunDevice {
  readonly fd: number;
  readonly name: string;
  /** Every packet has a virtio-net header before it, in both directions. */
  readonly vnetHeader: boolean;
  /** Super-packets may be read, and written merged. */
  readonly tso: boolean;
  readonly uso: boolean;
  /** What the kernel said to an offload that is off though it was wanted; 0 otherwise. */
  readonly tsoErrno: number;
  readonly usoErrno: number;
  /** It was there before, and nobody held it. */
  readonly adopted: boolean;
}

/** The calls that opening takes; a test scripts them. */
export type TunCalls = Pick<typeof control, 'open' | 'close' | 'ioctl' | 'ioctlValue' | 'errno'>;

/**
 * Creates the device and switches on what both sides can do. One of that name that was left without a process is taken
 * over; it goes with this process then, as one of our own does.
 *
 * @throws DeviceBusyError when it exists and cannot be taken over; OffloadRefusedError when an offload set to `on` is refused;
 * SystemCallError when there is no TUN to be had. No device is left behind then.
 */
export function openTun(
  name: string,
  wanted: { readonly tso: Switch; readonly uso: Switch },
  calls: TunCalls = control,
  present: (name: string) => PresentDevice = presentDevice,
): TunDevice {
  const fd = calls.open('/dev/net/tun', O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) {
    const errno = calls.errno();
    const hint =
      errno === EPERM || errno === EACCES
        ? 'run as root or give CAP_NET_ADMIN and access to /dev/net/tun'
        : 'load the module with `modprobe tun`, or pass the device into the container (--device /dev/net/tun)';
    throw new SystemCallError('open /dev/net/tun', errno, hint);
  }
  try {
    // USO rides on the same header and checksums as TSO, and is never negotiated without it
    const vnetHeader = wanted.tso !== 'off';
    const adopted = attach(fd, name, vnetHeader, calls, present);
    return { ...negotiateOffloads(fd, name, wanted, calls), adopted };
  } catch (error) {
    calls.close(fd);
    throw error;
  }
}

/** Of a device that is attached. @throws OffloadRefusedError */
export function negotiateOffloads(
  fd: number,
  name: string,
  wanted: { readonly tso: Switch; readonly uso: Switch },
  calls: TunCalls,
): Omit<TunDevice, 'adopted'> {
  const vnetHeader = wanted.tso !== 'off';
  if (vnetHeader) return { fd, name, vnetHeader, ...negotiate(fd, wanted, calls) };
  if (wanted.uso === 'on') throw new OffloadRefusedError('tun-uso without tun-tso', EINVAL);
  return { fd, name, vnetHeader, tso: false, uso: false, tsoErrno: 0, usoErrno: 0 };
}

/** True when the device was there before. */
function attach(
  fd: number,
  name: string,
  vnetHeader: boolean,
  calls: TunCalls,
  present: (name: string) => PresentDevice,
): boolean {
  const encoded = new TextEncoder().encode(name);
  if (encoded.length >= IFNAMSIZ) {
    throw new TweedError('DEVICE_NAME', `"${name}" is too long for a device name; use at most 15 characters`);
  }
  const flags = IFF_TUN | IFF_NO_PI | (vnetHeader ? IFF_VNET_HDR : 0);
  let errno = setInterface(fd, encoded, flags | IFF_TUN_EXCL, calls);
  if (errno === 0) return false;
  if (errno === EBUSY) {
    const found = present(name);
    if (found !== 'left over') throw new DeviceBusyError(name, found);
    errno = setInterface(fd, encoded, flags, calls);
    if (errno === EBUSY) throw new DeviceBusyError(name);
    if (errno === 0) {
      calls.ioctlValue(fd, TUNSETPERSIST, 0);
      return true;
    }
  }
  throw new SystemCallError(`TUNSETIFF ${name}`, errno, 'run as root or give CAP_NET_ADMIN');
}

/** @returns the errno; 0 when the descriptor is the device's now */
function setInterface(fd: number, name: Uint8Array, flags: number, calls: TunCalls): number {
  const request = new Uint8Array(IFREQ_BYTES);
  request.set(name);
  new DataView(request.buffer).setUint16(IFREQ_FLAGS, flags, true);
  return calls.ioctl(fd, TUNSETIFF, request) < 0 ? calls.errno() : 0;
}

/** The ioctl is refused as a whole for one unknown bit, so USO is asked for first and given up first. */
function negotiate(
  fd: number,
  wanted: { readonly tso: Switch; readonly uso: Switch },
  calls: TunCalls,
): Pick<TunDevice, 'tso' | 'uso' | 'tsoErrno' | 'usoErrno'> {
  let usoErrno = 0;
  if (wanted.uso !== 'off') {
    if (calls.ioctlValue(fd, TUNSETOFFLOAD, TSO | TUN_F_USO4 | TUN_F_USO6) >= 0) {
      return { tso: true, uso: true, tsoErrno: 0, usoErrno };
    }
    usoErrno = calls.errno();
    if (wanted.uso === 'on') throw new OffloadRefusedError('tun-uso', usoErrno);
  }
  if (calls.ioctlValue(fd, TUNSETOFFLOAD, TSO) >= 0) return { tso: true, uso: false, tsoErrno: 0, usoErrno };
  const tsoErrno = calls.errno();
  if (wanted.tso === 'on') throw new OffloadRefusedError('tun-tso', tsoErrno);
  return { tso: false, uso: false, tsoErrno, usoErrno };
}

/** Value of addr_gen_mode (Documentation/networking/ip-sysctl.rst): no link-local address. */
const ADDRESS_GENERATION_NONE = '1';

/**
 * Keeps the kernel from giving the device an IPv6 link-local address, and with it from soliciting routers there: nothing on
 * the overlay answers, and each of these packets would count as dropped. To be called before the device is up.
 */
export function withoutLinkLocal(name: string): void {
  try {
    writeFileSync(`/proc/sys/net/ipv6/conf/${name}/addr_gen_mode`, ADDRESS_GENERATION_NONE);
  } catch {
    // no IPv6 here, or /proc/sys is read-only: nothing depends on it
  }
}
