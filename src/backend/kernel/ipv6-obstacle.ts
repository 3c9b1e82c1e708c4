/** What keeps a host from carrying IPv6, whichever backend it is. */

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { IPV6_MIN_MTU } from '../../encap/wire/headers.js';
import type { Kernel } from './kernel.js';

/**
 * Why no device of this host can carry IPv6, and what to do about it; empty when one can.
 *
 * @param mtu of the overlay's packets
 * @param hasKernel whether the kernel has IPv6 at all; a test puts in its own answer
 */
export function obstacleToIpv6(mtu: number, hasKernel = existsSync('/proc/net/if_inet6')): string {
  if (!hasKernel) return 'this kernel has no IPv6; boot it without ipv6.disable=1';
  if (mtu >= IPV6_MIN_MTU) return '';
  return `packets of ${mtu} bytes are left and IPv6 needs ${IPV6_MIN_MTU}; raise the underlay's MTU`;
}

/** The same of a device that is there, when what can be done about it from here has been done. @param mtu that it is to have */
export async function obstacleOnDevice(
  name: string,
  mtu: number,
  { ip, setSwitch }: Pick<Kernel, 'ip' | 'setSwitch'>,
): Promise<string> {
  const obstacle = obstacleToIpv6(mtu);
  if (obstacle !== '') return obstacle;
  const disabled = `net/ipv6/conf/${name}/disable_ipv6`;
  // One that was too small for IPv6 in its life until now has no such switch before it is larger.
  if (!existsSync(`/proc/sys/${disabled}`))
    await ip.run('link', 'set', 'dev', name, 'mtu', String(mtu)).catch(() => {});
  await setSwitch(disabled, '0'); // whatever is usual for new devices
  const state = await readFile(`/proc/sys/${disabled}`, 'utf8').catch(() => 'missing');
  return state.trim() === '0' ? '' : 'IPv6 is disabled in the kernel; enable it (net.ipv6.conf, ipv6.disable)';
}
