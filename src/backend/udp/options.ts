import type { Switch } from '../../tun/device.js';

export type Offload = 'tunTso' | 'tunUso' | 'udpGso' | 'udpGro' | 'udpBatch';

export interface UdpBackendOptions {
  readonly deviceName: string;
  /** Drop what does not come from a current peer, or claims another's inner address. */
  readonly checkSenders: boolean;
  readonly offloads: Readonly<Record<Offload, Switch>>;
  /** Wanted size of each socket buffer, in bytes. */
  readonly socketBuffer: number;
  /** Packets that the TUN holds while nobody reads. */
  readonly txQueueLength: number;
}
