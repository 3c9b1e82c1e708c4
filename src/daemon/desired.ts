import type { RefusedPeer } from '../backend/backend.js';
import { choosePeers } from '../backend/choose-peers.js';
import type { Lease, PeerSet } from '../subnet/lease.js';
import type { NetworkConfig } from '../subnet/network-config/config.js';
import type { UnderlayChoice } from './parts.js';

/** What this host should have: all that the registry, the underlay and the options say, and nothing about how to get there. */
export interface Desired {
  readonly config: NetworkConfig;
  readonly choice: UnderlayChoice;
  readonly lease: Lease;
  /** Those that packets may be sent to. The same object as long as they are the same. */
  readonly peers: PeerSet;
  readonly refused: readonly RefusedPeer[];
}

/** Puts it together; sorts the peers anew only when something they are judged by is another one. */
export class DesiredState {
  #former: { readonly all: PeerSet; readonly desired: Desired } | null = null;

  compose(config: NetworkConfig, choice: UnderlayChoice, lease: Lease, all: PeerSet): Desired {
    const former = this.#former;
    if (former?.all === all && former.desired.choice === choice && former.desired.config === config) {
      return former.desired;
    }
    const { underlay, publicIp, publicIpv6 } = choice;
    const { ipv6 } = underlay;
    const { peers, refused } = choosePeers(all.leases, {
      config,
      own: lease,
      publicIp,
      publicIpv6,
      underlay: [
        ...(underlay.address === 0 ? [] : [{ address: underlay.address, length: underlay.prefixLength }]),
        ...(ipv6 === null ? [] : [{ address: ipv6.address, length: ipv6.prefixLength }]),
      ],
      backendType: config.backend.type,
    });
    const desired = { config, choice, lease, peers: { leases: peers, complete: all.complete }, refused };
    this.#former = { all, desired };
    return desired;
  }
}
