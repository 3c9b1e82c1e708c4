/**
 * What a VXLAN device has to know of each peer besides the route: who has the gateway's address (neighbour table), and
 * to which host frames for that MAC go (forwarding database). All pure; entries that are not ours stay.
 */

import {
  type Address,
  type AnyPrefix,
  formatAddress,
  formatAnyPrefix,
  parseAddress,
  prefixContains,
} from '../../base/address.js';
import type { Change } from '../../routes/changes.js';
import { parseMac } from './mac.js';

/** A peer whose packets are encapsulated. */
export interface TunnelPeer {
  /** All of one family, with the underlay's: each family has a device of its own. */
  readonly subnet: AnyPrefix;
  readonly publicIp: Address;
  readonly mac: string;
}

/** A line of `ip -json neighbour show nud permanent`. */
export interface NeighbourJson {
  readonly dst: string;
  readonly lladdr?: string;
}

/** A line of `bridge -json fdb show`. Port, VNI and interface are there only when they are not the device's own. */
export interface ForwardingJson {
  readonly mac: string;
  readonly dst?: string;
  readonly flags?: readonly string[];
  readonly state?: string;
  readonly port?: number;
  readonly vni?: number;
  readonly viaIf?: string;
}

/** Peers that can be had together, and why the others cannot. */
export interface Settled {
  readonly peers: readonly TunnelPeer[];
  /** By subnet. */
  readonly refused: ReadonlyMap<string, string>;
}

/**
 * One MAC leads to one host, and one gateway has one MAC. Where two peers claim the same, the newer one gets it: a host
 * whose address changed may still have an old lease.
 *
 * @param peers the newest last
 */
export function settleClaims(peers: readonly TunnelPeer[]): Settled {
  const byMac = new Map<string, TunnelPeer>();
  const byGateway = new Map<Address, TunnelPeer>();
  const kept: TunnelPeer[] = [];
  const refused = new Map<string, string>();
  for (const peer of [...peers].reverse()) {
    const sameMac = byMac.get(peer.mac);
    const sameGateway = byGateway.get(peer.subnet.address);
    if (sameMac !== undefined && sameMac.publicIp !== peer.publicIp) {
      const other = formatAddress(sameMac.publicIp);
      refused.set(formatAnyPrefix(peer.subnet), `the newer lease of ${other} has its VtepMAC ${peer.mac}`);
    } else if (sameGateway !== undefined && sameGateway.mac !== peer.mac) {
      const other = formatAnyPrefix(sameGateway.subnet);
      refused.set(formatAnyPrefix(peer.subnet), `the newer lease of ${other} begins at the same address`);
    } else {
      byMac.set(peer.mac, peer);
      byGateway.set(peer.subnet.address, peer);
      kept.push(peer);
    }
  }
  return { peers: kept.reverse(), refused };
}

/**
 * Commands for `ip -batch` that make the permanent neighbours inside the overlay those of the peers. The gateway of a
 * peer's route is the first address of its subnet.
 */
export function neighbourChanges(
  device: string,
  peers: readonly TunnelPeer[],
  present: readonly NeighbourJson[],
  networks: readonly AnyPrefix[],
): { readonly set: readonly Change[]; readonly remove: readonly Change[] } {
  const entries = new Map(present.map(({ dst, lladdr = '' }) => [dst, parseMac(lladdr)]));
  const set: Change[] = [];
  const wanted = new Set<string>();
  for (const { subnet, mac } of peers) {
    const address = formatAddress(subnet.address);
    wanted.add(address);
    if (entries.get(address) === mac) continue;
    set.push({
      subject: formatAnyPrefix(subnet),
      command: `neigh replace ${address} lladdr ${mac} dev ${device} nud permanent`,
      text: `set the neighbour ${address} of ${device} to ${mac}`,
    });
  }
  const remove = [...entries.keys()]
    .filter((dst) => !wanted.has(dst) && isInside(dst, networks))
    .map((dst): Change => {
      const text = `removed the neighbour ${dst} of ${device}`;
      return { subject: dst, command: `neigh del ${dst} dev ${device}`, text };
    });
  return { set, remove };
}

/** The MACs of the device's permanent neighbours inside the overlay: forwarding entries for them are ours. */
export function neighbourMacs(present: readonly NeighbourJson[], networks: readonly AnyPrefix[]): ReadonlySet<string> {
  return new Set(
    present.filter(({ dst }) => isInside(dst, networks)).flatMap(({ lladdr = '' }) => parseMac(lladdr) ?? []),
  );
}

function isInside(text: string, networks: readonly AnyPrefix[]): boolean {
  const address = parseAddress(text);
  return address !== null && networks.some((network) => prefixContains(network, address));
}

/**
 * Commands for `bridge -batch` that make the forwarding entries those of the peers.
 *
 * @param stale MACs whose entries go unless a peer has them; entries for other MACs stay, whoever made them
 */
export function forwardingChanges(
  device: string,
  peers: readonly TunnelPeer[],
  present: readonly ForwardingJson[],
  stale: ReadonlySet<string>,
): readonly Change[] {
  const entries = new Map(present.map((entry) => [entry.mac.toLowerCase(), entry]));
  const changes: Change[] = [];
  const wanted = new Set<string>();
  for (const { subnet, publicIp, mac } of peers) {
    if (wanted.has(mac)) continue; // a host may hold two subnets for a while
    wanted.add(mac);
    const address = formatAddress(publicIp);
    if (leadsTo(entries.get(mac), address)) continue;
    changes.push({
      subject: formatAnyPrefix(subnet),
      command: `fdb replace ${mac} dev ${device} dst ${address} self permanent`,
      text: `set the forwarding entry for ${mac} of ${device} to ${address}`,
    });
  }
  for (const mac of entries.keys()) {
    if (wanted.has(mac) || !stale.has(mac)) continue;
    const text = `removed the forwarding entry for ${mac} of ${device}`;
    changes.push({ subject: mac, command: `fdb del ${mac} dev ${device} self`, text });
  }
  return changes;
}

function leadsTo(entry: ForwardingJson | undefined, address: string): boolean {
  return (
    entry?.dst === address &&
    entry.state === 'permanent' &&
    entry.port === undefined &&
    entry.vni === undefined &&
    entry.viaIf === undefined
  );
}
