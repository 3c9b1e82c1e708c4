/**
 * What stands under the name that a TUN device is to have (/sys/class/net/NAME/tun_flags, linux/if_tun.h).
 *
 * NetworkManager, systemd-networkd and `ip tuntap add` make TUN devices that live on without a process. Such a device can be
 * attached to as if it were new, as long as no other process is.
 */
import { existsSync, readFileSync } from 'node:fs';
import { IFF_MULTI_QUEUE, IFF_PERSIST, IFF_TUN } from '../linux/constants.js';

/**
 * `none`; `left over`, which can be used if nobody holds it; `held` by a process, which it goes with; or of a kind that
 * cannot be used. One that is no TUN device and up is `in use`: it may be what this host is reached by.
 */
export type PresentDevice = 'none' | 'left over' | 'held' | 'several queues' | 'no tun' | 'in use';

/** include/uapi/linux/if.h */
const IFF_UP = 1;

/** @param root where devices are listed */
export function presentDevice(name: string, root = '/sys/class/net'): PresentDevice {
  const text = readOrEmpty(`${root}/${name}/tun_flags`);
  if (text === '' && !existsSync(`${root}/${name}`)) return 'none';
  const flags = Number(text);
  if ((flags & IFF_TUN) === 0)
    return (Number(readOrEmpty(`${root}/${name}/flags`)) & IFF_UP) === 0 ? 'no tun' : 'in use';
  if ((flags & IFF_PERSIST) === 0) return 'held';
  if ((flags & IFF_MULTI_QUEUE) !== 0) return 'several queues';
  // A TUN device has a carrier while a process is attached; one that is down cannot be asked.
  return readOrEmpty(`${root}/${name}/carrier`) === '1' ? 'held' : 'left over';
}

/** The command that takes away what cannot be used; empty where there is none, or where it could cut the host off. */
export function removalOf(name: string, present: PresentDevice): string {
  if (present === 'several queues') return `ip tuntap del dev ${name} mode tun multi_queue`;
  return present === 'no tun' ? `ip link del ${name}` : '';
}

function readOrEmpty(file: string): string {
  try {
    return readFileSync(file, 'latin1').trim();
  } catch {
    return '';
  }
}
