import { formatPrefix, type Prefix } from '../../base/ipv4.js';
import { hasIpv4, type Lease } from '../../subnet/lease.js';
import { formatKey } from '../../wireguard/keys.js';
import { readAnnouncement } from './announcement.js';

/** A peer as its lease has it. */
export interface WireguardPeer {
  readonly subnet: Prefix;
  /** Host order. */
  readonly publicIp: number;
  readonly port: number;
  readonly publicKey: Uint8Array;
  /** The public key in base64: what people and maps call it by. */
  readonly name: string;
}

/**
 * Sorts leases into peers and, by subnet, the reasons why one is none. A key is one host's, and a host has one subnet: where
 * leases share a key, the newest of them is the one that holds, as with flannel, which writes them one over the other.
 *
 * @param leases the newest last
 * @param own this host's public key in base64
 */
export function wireguardPeers(
  leases: readonly Lease[],
  own: string,
  ownPort: number,
): { readonly peers: readonly WireguardPeer[]; readonly refused: ReadonlyMap<string, string> } {
  const refused = new Map<string, string>();
  const byKey = new Map<string, WireguardPeer>();
  for (const { subnet, attributes } of leases.filter(hasIpv4)) {
    const announced = readAnnouncement(attributes.backendData, ownPort);
    if ('refusal' in announced) {
      refused.set(formatPrefix(subnet), announced.refusal);
      continue;
    }
    const { publicKey, port } = announced;
    const name = formatKey(publicKey);
    if (name === own) {
      refused.set(
        formatPrefix(subnet),
        'its public key is this host’s own, from an earlier lease or a copied key file',
      );
      continue;
    }
    const older = byKey.get(name);
    if (older !== undefined) {
      refused.set(formatPrefix(older.subnet), `its public key is that of ${formatPrefix(subnet)}, a newer lease`);
      byKey.delete(name);
    }
    byKey.set(name, { subnet, publicIp: attributes.publicIp, port, publicKey, name });
  }
  return { peers: [...byKey.values()], refused };
}
