import type { Prefix } from '../../base/ipv4.js';
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
  /** The device is gone afterwards, as with flannel, and so are the keys of all sessions. */
  stop(): Promise<void>;
}
