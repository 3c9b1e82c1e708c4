import type { Address } from '../../base/address.js';
import { type HostAddresses, type Lease, type Subnets, subnetName } from '../../subnet/lease.js';
import { formatKey } from '../../wireguard/keys.js';
import { readAnnouncement } from './announcement.js';
import { carriedOf, type DevicePlan, wayTo } from './devices.js';

/** A peer of a device as its lease has it; with a subnet of at least one family. */
export interface WireguardPeer extends Subnets, HostAddresses {
  /** Where its datagrams go until it speaks from elsewhere. */
  readonly address: Address;
  readonly port: number;
  readonly publicKey: Uint8Array;
  /** The public key in base64: what people and maps call it by. */
  readonly name: string;
}

/**
 * Sorts leases into peers of a device and, by what of the lease the device carries, the reasons why one is none. A key is
 * one host's, and a host has one lease: where leases share a key, the newest of them is the one that holds, as with
 * flannel, which writes them one over the other.
 *
 * @param leases the newest last
 * @param own this host's public key in base64
 */
export function wireguardPeers(
  leases: readonly Lease[],
  own: string,
  device: DevicePlan,
): { readonly peers: readonly WireguardPeer[]; readonly refused: ReadonlyMap<string, string> } {
  const refused = new Map<string, string>();
  const byKey = new Map<string, WireguardPeer>();
  for (const lease of leases) {
    const carried = carriedOf(device, lease);
    const called = subnetName(carried);
    if (called === '') continue;
    const announced = announcementFor(device, lease, carried);
    if ('refusal' in announced) {
      refused.set(called, announced.refusal);
      continue;
    }
    const { publicKey, port } = announced;
    const name = formatKey(publicKey);
    if (name === own) {
      refused.set(called, 'its public key is this host’s own, from an earlier lease or a copied key file');
      continue;
    }
    const { publicIp, publicIpv6 } = lease.attributes;
    const address = wayTo(device, { publicIp, publicIpv6 });
    if (address === null) {
      const families = [device.local.ipv4 !== null && 'IPv4', device.local.ipv6 !== null && 'IPv6'].filter(Boolean);
      refused.set(called, `its lease has no ${families.join(' or ')} address, by which its datagrams would go`);
      continue;
    }
    const older = byKey.get(name);
    if (older !== undefined) {
      refused.set(subnetName(older), `its public key is that of ${called}, a newer lease`);
      byKey.delete(name);
    }
    byKey.set(name, { ...carried, publicIp, publicIpv6, address, port, publicKey, name });
  }
  return { peers: [...byKey.values()], refused };
}

/**
 * What a host says of the device. One that has both families there announces it for each, and flannel names the port of a
 * device for IPv6 which it has not made then: the port is that of `BackendData`, or ours, since all hosts have one
 * configuration.
 */
function announcementFor(
  { mode, port }: DevicePlan,
  { attributes: { backendData, backendV6Data } }: Lease,
  { subnet, subnetV6 }: Subnets,
): ReturnType<typeof readAnnouncement> {
  const ofV6 = () => readAnnouncement(backendV6Data, port, 'BackendV6Data');
  const ofV4 = () => readAnnouncement(backendData, port);
  if (mode === 'separate') return subnet === null ? ofV6() : ofV4();
  const announced = subnetV6 !== null && (subnet === null || (backendV6Data ?? null) !== null) ? ofV6() : ofV4();
  if ('refusal' in announced) return announced;
  const first = ofV4();
  return { publicKey: announced.publicKey, port: 'refusal' in first ? port : first.port };
}
