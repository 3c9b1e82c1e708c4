/** Who may be a peer: the one place where that is decided. What a backend needs besides, such as a MAC address, it checks itself. */

import { contains, formatIpv4, formatPrefix, netmask, overlaps, type Prefix, samePrefix } from '../base/ipv4.js';
import { type Lease, publicName, type Subnets, subnetName } from '../subnet/lease.js';
import type { NetworkConfig } from '../subnet/network-config/config.js';
import { ipv4Network, type RefusedPeer } from './backend.js';

/** What peers are judged by. */
export interface PeerRules {
  readonly config: NetworkConfig;
  /** This host's subnet. */
  readonly own: Subnets;
  /** What peers send to. Host order. */
  readonly publicIp: number;
  /** This host's address on the underlay, with the length of the link's prefix. */
  readonly underlay: Prefix;
  /** Leases of another backend type are none of ours, except for `udp`, where flannel leaves the type out. */
  readonly backendType: string;
}

export interface ChosenPeers {
  readonly peers: readonly Lease[];
  readonly refused: readonly RefusedPeer[];
}

/** Sorts the leases of other hosts into those that packets are sent to, and those that they are not, with the reason. */
export function choosePeers(leases: readonly Lease[], rules: PeerRules): ChosenPeers {
  const peers: Lease[] = [];
  const refused: RefusedPeer[] = [];
  for (const lease of leases) {
    const reason = refusalOf(lease, rules);
    if (reason === '') peers.push(lease);
    else refused.push({ subnet: subnetName(lease), publicIp: publicName(lease.attributes), reason });
  }
  return { peers, refused };
}

/** Why a lease is no peer; empty when it is one. */
export function refusalOf({ subnet, attributes }: Lease, rules: PeerRules): string {
  const { config, backendType } = rules;
  const { network } = ipv4Network(config);
  const own = rules.own.subnet;
  const { publicIp } = attributes;
  const theirs = attributes.backendType ?? 'udp';
  if (theirs !== backendType) return `its backend is ${theirs}, ours is ${backendType}`;
  if (subnet === null) return 'it has no IPv4 subnet';
  if (publicIp === 0) return 'it has no IPv4 address';
  if (publicIp === rules.publicIp || publicIp === rules.underlay.address) return 'it names this host as its owner';
  const unusable = unusableAddress(publicIp);
  if (unusable !== '') return `its public address ${formatIpv4(publicIp)} is ${unusable}`;
  if (contains(network, publicIp) && !isOnLink(publicIp, rules.underlay)) {
    return `its public address ${formatIpv4(publicIp)} lies inside the overlay, which would lead through itself`;
  }
  if (subnet.length < network.length || !contains(network, subnet.address)) {
    return `its subnet is outside ${formatPrefix(network)}`;
  }
  if (own === null) return '';
  if (samePrefix(subnet, own)) return 'it claims this host’s own subnet';
  if (overlaps(subnet, own)) return `its subnet overlaps ${formatPrefix(own)}, this host’s own`;
  return '';
}

/** An overlay that covers the underlay works as long as the hosts are on one link, whose own route is the longer one. */
function isOnLink(address: number, { address: own, length }: Prefix): boolean {
  return ((address ^ own) & netmask(length)) === 0;
}

/** Why no host can have an address (RFC 6890, RFC 5771); empty when one can. */
function unusableAddress(address: number): string {
  const first = address >>> 24;
  if (first === 0) return 'of “this network”';
  if (first === 127) return 'a loopback address';
  if (first >= 224 && first < 240) return 'a multicast address';
  if (address === 0xffff_ffff) return 'the broadcast address';
  if (first >= 240) return 'of a reserved block';
  return '';
}
