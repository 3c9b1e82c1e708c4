/** A TUN device of a former process, whose descriptor was kept: device, addresses, routes and queue are as they were. */
import { IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TUN, IFF_VNET_HDR, IFNAMSIZ, TUNGETIFF } from '../linux/constants.js';
import { errnoName } from '../linux/errno.js';
import { control } from '../linux/libc.js';
import { IFREQ_BYTES, IFREQ_FLAGS, negotiateOffloads, type Switch, type TunCalls, type TunDevice } from './device.js';

/** Why a descriptor is not used, and the device that it is of, which would be in the way of a new one; empty for none. */
export interface Unfit {
  readonly reason: string;
  readonly device: string;
}

/**
 * Takes the device behind a descriptor if it is of that name and kind, and agrees with the kernel on its offloads anew. The
 * descriptor stays open in any case.
 *
 * @throws OffloadRefusedError when an offload set to `on` is refused
 */
export function adoptTun(
  fd: number,
  name: string,
  wanted: { readonly tso: Switch; readonly uso: Switch },
  calls: TunCalls = control,
): TunDevice | Unfit {
  const request = new Uint8Array(IFREQ_BYTES);
  if (calls.ioctl(fd, TUNGETIFF, request) < 0) {
    return { reason: `there is no device behind it (${errnoName(calls.errno())})`, device: '' };
  }
  const device = Buffer.from(request.subarray(0, IFNAMSIZ)).toString().replace(/\0.*$/s, '');
  if (device !== name) return { reason: `it is ${device}`, device };
  const flags = new DataView(request.buffer).getUint16(IFREQ_FLAGS, true);
  const kind = IFF_TUN | IFF_NO_PI | (wanted.tso === 'off' ? 0 : IFF_VNET_HDR);
  if ((flags & (IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE)) !== kind) {
    return { reason: `it has other flags (0x${flags.toString(16)})`, device };
  }
  return { ...negotiateOffloads(fd, name, wanted, calls), adopted: false };
}
