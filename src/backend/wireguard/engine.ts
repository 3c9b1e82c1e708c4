import { hostPrefix } from '../../base/address.js';
import type { OverlayNetworks } from '../../encap/forwarding/layout.js';
import type { Inheritance } from '../../linux/inheritance.js';
import type { WantedLink } from '../../routes/links.js';
import type { BackendStatus, PeerStatus } from '../backend.js';
import type { WireguardPeer } from './peers.js';

/** What is the same on this host for as long as a device lives. */
export interface EngineContext {
  /** Its name. */
  readonly device: string;
  /** What it carries. */
  readonly networks: OverlayNetworks;
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

/** By subnet, as the device calls a peer: why it cannot be had. */
export type EngineRefusals = ReadonlyMap<string, string>;

/** The peers by their public keys in base64. */
export interface EngineStatus extends Pick<BackendStatus, 'features' | 'totals' | 'drops'> {
  readonly peers: ReadonlyMap<string, PeerStatus>;
}

/** Who encrypts and forwards for one device: the kernel, or this process. The contracts are those of `Backend`. */
export interface Engine {
  readonly name: 'kernel' | 'user';
  readonly failed: Promise<Error>;
  /** @param subnets this host's, of the families that the device carries */
  start(subnets: OverlayNetworks, peers: EnginePeers): Promise<EngineRefusals>;
  setPeers(peers: EnginePeers): Promise<{ readonly mended: readonly string[]; readonly refused: EngineRefusals }>;
  status(): EngineStatus;
  stuckFor(): number;
  /** What another process can go on with, where there is something. */
  descriptors?(): ReadonlyMap<string, number>;
  /** What it can leave another process when it has stopped. */
  vessels?(): readonly string[];
  /**
   * The keys of all sessions are gone afterwards, but for what a vessel takes in, and so is the device, as with flannel, unless
   * there is an heir who gets it.
   */
  stop(heir?: Inheritance, vessels?: Inheritance): Promise<void>;
}

/** What the device is to look like. */
export function wantedLink(
  { device, networks, mtu }: EngineContext,
  subnets: OverlayNetworks,
  txQueueLength: number,
): WantedLink {
  const own = prefixesOf(networks);
  return {
    name: device,
    mtu,
    txQueueLength,
    addresses: prefixesOf(subnets).map(({ address }) => hostPrefix(address)),
    networks: own,
    routes: own.map((destination) => ({ destination })),
  };
}

function prefixesOf({ ipv4, ipv6 }: OverlayNetworks) {
  return [ipv4, ipv6].filter((prefix) => prefix !== null);
}
