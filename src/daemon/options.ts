import type { Switch } from '../base/switch.js';

/** What one host's daemon is told, checked, every default filled in. */
export interface DaemonOptions {
  readonly registry: {
    /** etcd URLs, or one `file:///directory`. */
    readonly endpoints: readonly string[];
    readonly prefix: string;
    readonly keyFile?: string;
    readonly certFile?: string;
    readonly caFile?: string;
    readonly username?: string;
    readonly password?: string;
  };
  readonly underlay: {
    readonly interfaces: readonly string[];
    readonly patterns: readonly string[];
    readonly canReach: string;
    /** An IPv4 address; empty: the interface's own. */
    readonly publicIp: string;
  };
  readonly lease: {
    readonly ttlSeconds: number;
    readonly renewMarginSeconds: number;
    readonly releaseOnExit: boolean;
    readonly startFromCache: boolean;
  };
  readonly rules: {
    readonly masquerade: boolean;
    readonly fullyRandom: boolean;
    readonly forward: boolean;
    readonly blackhole: boolean;
    readonly resyncSeconds: number;
  };
  readonly udp: {
    readonly deviceName: string;
    readonly checkSenders: boolean;
    readonly offloads: Readonly<Record<'tunTso' | 'tunUso' | 'udpGso' | 'udpGro' | 'udpBatch', Switch>>;
    readonly forwarderThreads: 'auto' | 1 | 2;
    /** Bytes, each way. */
    readonly socketBuffer: number;
    /** Packets. */
    readonly txQueueLength: number;
  };
  /** Take the place of the daemon that runs, if one does. */
  readonly takeOver: boolean;
  /** Leave no device, route or rule behind. */
  readonly cleanUpOnExit: boolean;
  readonly subnetFile: string;
  readonly runDirectory: string;
  readonly health: { readonly address: string /** 0: none. */; readonly port: number };
  readonly logLevel: string;
}
