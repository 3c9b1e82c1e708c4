import type { Switch } from '../../tun/device.js';

export type Offload = 'tunTso' | 'tunUso' | 'udpGso' | 'udpGro' | 'udpBatch';

/** How far packets may stay in the kernel, see src/kernel-path; `auto`: as far as is safe here. */
export type KernelPathWish = 'off' | 'route' | 'direct' | 'auto';

export interface UdpBackendOptions {
  readonly deviceName: string;
  /** Drop what does not come from a current peer, or claims another's inner address. */
  readonly checkSenders: boolean;
  readonly offloads: Readonly<Record<Offload, Switch>>;
  /** One for both directions or one for each; `auto` goes by the number of processors. */
  readonly forwarderThreads: 'auto' | 1 | 2;
  /** Wanted size of each socket buffer, in bytes. */
  readonly socketBuffer: number;
  /** Packets that the TUN holds while nobody reads. */
  readonly txQueueLength: number;
  readonly kernelPath: KernelPathWish;
  /** Whether single packets of TCP are merged on the kernel path, where that can be had. */
  readonly kernelPathMerge: boolean;
}
