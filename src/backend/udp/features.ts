import type { DataPlane } from '../../encap/datapath/data-plane.js';
import type { RuntimeFeature } from '../../encap/forwarding/control-block.js';
import { EINVAL } from '../../linux/constants.js';
import { errnoText } from '../../linux/errno.js';
import { describeQuirk, kernelRelease } from '../../linux/kernel-quirks.js';
import type { Switch } from '../../tun/device.js';
import type { FeatureStatus } from '../backend.js';
import type { Descriptors } from './descriptors.js';
import type { KernelPathKeeper } from './kernel-path-keeper.js';
import { segmentedSendDoubt } from './kernel-quirks.js';
import type { UdpBackendOptions } from './options.js';

interface InForce {
  readonly descriptors: Descriptors;
  readonly plane: DataPlane;
  readonly threads: 1 | 2;
  /** Only the `udp` backend's packets can go by it. */
  readonly kernelPath?: Pick<KernelPathKeeper, 'features'>;
}

/** What was wanted of offloads, threads and buffers, what is in force, and why the two differ. */
export function featuresOf(
  { offloads, socketBuffer, forwarderThreads }: UdpBackendOptions,
  { descriptors: { tun, socket }, plane: { control }, threads, kernelPath }: InForce,
  release = kernelRelease(),
): FeatureStatus[] {
  const refused = (errno: number) => (errno === 0 ? '' : `refused by the kernel (${errnoText(errno)})`);
  const usoRefused = (errno: number) => {
    const known = errno === EINVAL ? describeQuirk(release, 'tun_without_uso') : '';
    return known === '' ? refused(errno) : `${refused(errno)}: ${known}`;
  };
  const lacks = (wanted: Switch, has: boolean, other: string) => (wanted === 'off' || has ? '' : `needs ${other}`);
  const atRunTime = (feature: RuntimeFeature) => {
    const errno = control.turnedOff(feature);
    if (errno === 0) return '';
    const until = control.offForGood(feature) ? 'for good' : 'for a minute';
    return `turned off ${until} after ${errnoText(errno)}`;
  };
  const doubt = offloads.udpGso === 'auto' ? segmentedSendDoubt(release) : '';
  const feature = (name: string, wanted: string, on: boolean, reason: string): FeatureStatus => ({
    name,
    wanted,
    inForce: on && reason === '' ? 'on' : 'off',
    reason,
  });
  const buffer = (name: string, bytes: number): FeatureStatus => ({
    name,
    wanted: String(socketBuffer),
    inForce: String(bytes),
    reason: bytes < socketBuffer ? 'limited by the system (net.core.rmem_max, wmem_max) without CAP_NET_ADMIN' : '',
  });
  return [
    feature('tun_tso', offloads.tunTso, tun.tso, refused(tun.tsoErrno)),
    feature(
      'tun_uso',
      offloads.tunUso,
      tun.uso,
      usoRefused(tun.usoErrno) || lacks(offloads.tunUso, tun.tso, 'tun_tso'),
    ),
    feature('udp_gso', offloads.udpGso, socket.gso, doubt || refused(socket.gsoErrno) || atRunTime('udp_gso')),
    feature('udp_gro', offloads.udpGro, socket.gro, refused(socket.groErrno)),
    feature('udp_batch', offloads.udpBatch, offloads.udpBatch !== 'off', ''),
    feature(
      'merge_tcp',
      offloads.tunTso,
      tun.tso,
      lacks(offloads.tunTso, tun.tso, 'tun_tso') || atRunTime('merge_tcp'),
    ),
    feature(
      'merge_udp',
      offloads.tunUso,
      tun.uso,
      lacks(offloads.tunUso, tun.uso, 'tun_uso') || atRunTime('merge_udp'),
    ),
    { name: 'forwarder_threads', wanted: String(forwarderThreads), inForce: String(threads), reason: '' },
    buffer('send_buffer', socket.sendBuffer),
    buffer('receive_buffer', socket.receiveBuffer),
    ...(kernelPath?.features() ?? []),
  ];
}
