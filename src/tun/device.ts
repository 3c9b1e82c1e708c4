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
} from '../linux/constants.js';
import { errnoName, SystemCallError } from '../linux/errno.js';
import { control } from '../linux/libc.js';

/** sizeof struct ifreq, net/if.h, and where the flags stand in it. */
export const IFREQ_BYTES = 40;
export const IFREQ_FLAGS = IFNAMSIZ;
const TSO = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;

export type { Switch };

/** The device belongs to somebody else: most likely a daemon that is already running. */
export class DeviceBusyError extends TweedError {
  constructor(device: string) {
    super(
      'DEVICE_BUSY',
      `the device ${device} exists already: another daemon (tweed or flanneld) runs on this host; stop it first, or choose another --device`,
    );
  }
}

/** An offload that was demanded (`on`) and that the kernel does not have. */
export class OffloadRefusedError extends TweedError {
  constructor(offload: string, errno: number) {
    super(
      'OFFLOAD_REFUSED',
      `the kernel refuses ${offload} (${errnoName(errno)}), which is set to "on"; set it to "auto" or "off"`,
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
}

/** The calls that opening takes; a test scripts them. */
export type TunCalls = Pick<typeof control, 'open' | 'close' | 'ioctl' | 'ioctlValue' | 'errno'>;

/**
 * Creates the device and switches on what both sides can do.
 *
 * @throws DeviceBusyError when it exists; OffloadRefusedError when an offload set to `on` is refused;
 * SystemCallError when there is no TUN to be had. No device is left behind then.
 */
export function openTun(
  name: string,
  wanted: { readonly tso: Switch; readonly uso: Switch },
  calls: TunCalls = control,
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
    attach(fd, name, vnetHeader, calls);
    return negotiateOffloads(fd, name, wanted, calls);
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
): TunDevice {
  const vnetHeader = wanted.tso !== 'off';
  if (vnetHeader) return { fd, name, vnetHeader, ...negotiate(fd, wanted, calls) };
  if (wanted.uso === 'on') throw new OffloadRefusedError('tun-uso without tun-tso', EINVAL);
  return { fd, name, vnetHeader, tso: false, uso: false, tsoErrno: 0, usoErrno: 0 };
}

function attach(fd: number, name: string, vnetHeader: boolean, calls: TunCalls): void {
  const encoded = new TextEncoder().encode(name);
  if (encoded.length >= IFNAMSIZ) {
    throw new TweedError('DEVICE_NAME', `"${name}" is too long for a device name; use at most 15 characters`);
  }
  const request = new Uint8Array(IFREQ_BYTES);
  request.set(encoded);
  const flags = IFF_TUN | IFF_NO_PI | IFF_TUN_EXCL | (vnetHeader ? IFF_VNET_HDR : 0);
  new DataView(request.buffer).setUint16(IFREQ_FLAGS, flags, true);
  if (calls.ioctl(fd, TUNSETIFF, request) < 0) {
    const errno = calls.errno();
    if (errno === EBUSY) throw new DeviceBusyError(name);
    throw new SystemCallError(`TUNSETIFF ${name}`, errno, 'run as root or give CAP_NET_ADMIN');
  }
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
 * Keeps the kernel from giving the device an IPv6 link-local address, and with it from soliciting routers there: the
 * overlay carries IPv4 only, and each of these packets would count as dropped. To be called before the device is up.
 */
export function withoutLinkLocal(name: string): void {
  try {
    writeFileSync(`/proc/sys/net/ipv6/conf/${name}/addr_gen_mode`, ADDRESS_GENERATION_NONE);
  } catch {
    // no IPv6 here, or /proc/sys is read-only: nothing depends on it
  }
}
