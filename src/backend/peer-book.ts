import { contains, formatPrefix, overlaps, type Prefix } from '../base/ipv4.js';
import type { Lease, PeerChange } from '../subnet/lease.js';
import type { BackendContext } from './backend.js';

/** The peers as they were last announced. */
export class PeerBook {
  readonly #leases = new Map<string, Lease>();

  apply(changes: readonly PeerChange[]): void {
    for (const { kind, lease } of changes) {
      const subnet = formatPrefix(lease.subnet);
      this.#leases.delete(subnet); // one that changed counts as the newest
      if (kind !== 'removed') this.#leases.set(subnet, lease);
    }
  }

  /** In the order in which they were announced, the newest last. */
  get leases(): readonly Lease[] {
    return [...this.#leases.values()];
  }
}

/** Why a lease is no peer that packets can be sent to by this backend; empty when it is. */
export function refusalOf(
  { subnet, attributes }: Lease,
  type: string,
  { config, publicIp }: Pick<BackendContext, 'config' | 'publicIp'>,
  own: Prefix,
): string {
  const { network } = config;
  const theirs = attributes.backendType ?? 'udp'; // flannel's udp backend leaves it out
  if (theirs !== type) return `peer ignored: its backend is ${theirs}, ours is ${type}`;
  if (attributes.publicIp === 0) return 'peer ignored: it has no IPv4 address';
  if (attributes.publicIp === publicIp) return 'peer ignored: it names this host as its owner';
  if (subnet.length < network.length || !contains(network, subnet.address)) {
    return `peer ignored: its subnet is outside ${formatPrefix(network)}`;
  }
  if (overlaps(subnet, own)) return `peer ignored: its subnet overlaps ${formatPrefix(own)}, this host's own`;
  return '';
}
