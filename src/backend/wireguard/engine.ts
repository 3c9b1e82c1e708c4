import type { Prefix } from '../../base/ipv4.js';
import type { Inheritance } from '../../linux/inheritance.js';
import type { BackendStatus } from '../backend.js';
import type { WireguardPeer } from './peers.js';

/** What is the same on this host for as long as the backend lives. */
export interface EngineContext {
  /** The device's, in bytes. */
  readonly mtu: number;
  readonly port: number;
  readonly presharedKey: Uint8Array | null;
  /** Seconds; 0 for none. */
  readonly keepalive: number;
}

export interface EnginePeers {
  readonly peers: readonly WireguardPeer[];
  /** As `PeerSet` has it. */
  readonly complete: boolean;
}

/** By subnet: why a peer cannot be had. */
export type EngineRefusals = ReadonlyMap<string, string>;

/** Who encrypts and forwards: the kernel, or this process. The contracts are those of `Backend`. */
export interface Engine {
  readonly name: 'kernel' | 'user';
  readonly failed: Promise<Error>;
  start(subnet: Prefix, peers: EnginePeers): Promise<EngineRefusals>;
  setPeers(peers: EnginePeers): Promise<{ readonly mended: readonly string[]; readonly refused: EngineRefusals }>;
  status(): Pick<BackendStatus, 'peers' | 'features' | 'totals' | 'drops'>;
  stuckFor(): number;
  /** What another process can go on with, where there is something. */
  descriptors?(): ReadonlyMap<string, number>;
  /**
   * The keys of all sessions are gone afterwards, and so is the device, as with flannel, unless there is an heir who gets it.
   */
  stop(heir?: Inheritance): Promise<void>;
}
