/** What the kernel under the tests can do, found by asking it: a version would not tell what a distribution has carried back. */

import { control } from '../../../../src/linux/libc.js';
import { openTun } from '../../../../src/tun/device.js';
import { connect, Namespace } from './namespace.js';

export interface KernelAbilities {
  /** A TUN hands over and takes UDP super-packets (Linux 6.2). */
  readonly uso: boolean;
  /** A segmented UDP send crosses a veth device whole, so that it can arrive coalesced (Linux 5.11). */
  readonly wholeAcrossVeth: boolean;
}

export async function probeKernel(): Promise<KernelAbilities> {
  const [near, far] = [new Namespace(), new Namespace()];
  try {
    const device = near.enter(() => openTun('probe', { tso: 'auto', uso: 'auto' }));
    control.close(device.fd);
    await connect(near, 'out', far, 'in');
    const { stdout } = await near.run('ethtool', '-k', 'out');
    return { uso: device.uso, wholeAcrossVeth: /^tx-udp-segmentation: on/m.test(stdout) };
  } finally {
    near.close();
    far.close();
  }
}
