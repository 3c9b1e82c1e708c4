/** Who may be a peer: the one place where that is decided. What a backend needs besides, such as a MAC address, it checks itself. */

import {
  type Address,
  type AnyPrefix,
  formatAddress,
  formatAnyPrefix,
  prefixContains,
  prefixCovers,
  prefixesOverlap,
  sameAnyPrefix,
} from '../base/address.js';
import { type HostAddresses, halvesOf, type Lease, publicName, type Subnets, subnetName } from '../subnet/lease.js';
import { type NetworkConfig, networksOf } from '../subnet/network-config/config.js';
import type { RefusedPeer } from './backend.js';

/** What peers are judged by. */
export interface PeerRules extends HostAddresses {
  readonly config: NetworkConfig;
  /** This host's subnet. */
  readonly own: Subnets;
  /** This host's addresses on the underlay, each with the length of the link's prefix. */
  readonly underlay: readonly AnyPrefix[];
  /** Leases of another backend type are none of ours, except for `udp`, where flannel leaves the type out. */
  readonly backendType: string;
  /** Whether the backend has a use for IPv6: where it has none, nobody's IPv6 half or address is looked at. */
  readonly carriesIpv6: boolean;
}

export interface ChosenPeers {
  /** Without the halves and addresses that are refused, or that the network or the backend has no use for. */
  readonly peers: readonly Lease[];
  readonly refused: readonly RefusedPeer[];
}

/**
 * Sorts the leases of other hosts into those that packets are sent to, and those that they are not, with the reason. What
 * is wrong with one half of a lease, or one of its addresses, takes nothing from the other.
 */
export function choosePeers(leases: readonly Lease[], rules: PeerRules): ChosenPeers {
  const peers: Lease[] = [];
  const refused: RefusedPeer[] = [];
  for (const lease of leases) {
    const { peer, complaints } = judge(rules.carriesIpv6 ? lease : withoutIpv6(lease), rules);
    if (peer !== null) peers.push(peer);
    const named = lease.attributes;
    for (const { what, reason } of complaints) {
      refused.push({
        subnet: what === null ? subnetName(lease) : formatAnyPrefix(what),
        publicIp: publicName(named),
        reason,
      });
    }
  }
  return { peers, refused };
}

/** Why a lease is no peer, or what of it is left out; empty when it is one as it is. */
export function refusalOf(lease: Lease, rules: PeerRules): string {
  return judge(lease, rules).complaints[0]?.reason ?? '';
}

/** About one half of a lease, or about all of it. */
interface Complaint {
  readonly what: AnyPrefix | null;
  readonly reason: string;
}

interface Judgement {
  readonly peer: Lease | null;
  readonly complaints: readonly Complaint[];
}

function judge(lease: Lease, rules: PeerRules): Judgement {
  const none = (...reasons: string[]): Judgement => ({
    peer: null,
    complaints: reasons.map((reason) => ({ what: null, reason })),
  });
  const { attributes } = lease;
  const theirs = attributes.backendType ?? 'udp';
  if (theirs !== rules.backendType) return none(`its backend is ${theirs}, ours is ${rules.backendType}`);
  const addresses = addressesOf(attributes);
  if (addresses.length === 0) return none(`it has no ${rules.carriesIpv6 ? '' : 'IPv4 '}address`);
  if (addresses.some((address) => isOwn(address, rules))) return none('it names this host as its owner');
  const complaints: Complaint[] = [];
  const good = addresses.filter((address) => {
    const reason = addressRefusal(address, rules);
    if (reason !== '') complaints.push({ what: null, reason });
    return reason === '';
  });
  if (good.length === 0) return { peer: null, complaints };
  if (!addressesOf(rules).some((own) => good.some((other) => typeof own === typeof other))) {
    const [one = ''] = good.map((address) => (typeof address === 'number' ? 'IPv4' : 'IPv6'));
    return none(`it has an ${one} address only, and this host has none`);
  }
  const halves = halvesOf(lease).filter((half) => {
    const reason = halfRefusal(half, rules);
    if (reason !== '') complaints.push({ what: half, reason });
    return reason === '';
  });
  if (halves.length === 0) return { peer: null, complaints };
  if (complaints.length === 0) return { peer: lease, complaints };
  return { peer: reduced(lease, good, halves), complaints };
}

/** The lease with no more than these. */
function reduced(lease: Lease, addresses: readonly Address[], halves: readonly AnyPrefix[]): Lease {
  const { subnet, subnetV6, attributes } = lease;
  const { publicIp, publicIpv6 } = attributes;
  return {
    ...lease,
    subnet: subnet !== null && halves.includes(subnet) ? subnet : null,
    subnetV6: subnetV6 !== null && halves.includes(subnetV6) ? subnetV6 : null,
    attributes: {
      ...attributes,
      publicIp: addresses.includes(publicIp) ? publicIp : 0,
      publicIpv6: publicIpv6 !== null && addresses.includes(publicIpv6) ? publicIpv6 : null,
    },
  };
}

function withoutIpv6(lease: Lease): Lease {
  const { subnetV6, attributes } = lease;
  if (subnetV6 === null && attributes.publicIpv6 === null) return lease;
  return { ...lease, subnetV6: null, attributes: { ...attributes, publicIpv6: null } };
}

function addressesOf({ publicIp, publicIpv6 }: HostAddresses): Address[] {
  return [...(publicIp === 0 ? [] : [publicIp]), ...(publicIpv6 === null ? [] : [publicIpv6])];
}

function isOwn(address: Address, rules: PeerRules): boolean {
  return (
    address === rules.publicIp || address === rules.publicIpv6 || rules.underlay.some((own) => own.address === address)
  );
}

function addressRefusal(address: Address, rules: PeerRules): string {
  const text = `its public address ${formatAddress(address)}`;
  const unusable = typeof address === 'number' ? unusableAddress(address) : unusableAddressV6(address);
  if (unusable !== '') return `${text} is ${unusable}`;
  const isInside = networksOf(rules.config).some((network) => prefixContains(network, address));
  // An overlay that covers the underlay works as long as the hosts are on one link, whose own route is the longer one.
  if (isInside && !rules.underlay.some((own) => isOnLink(address, own))) {
    return `${text} lies inside the overlay, which would lead through itself`;
  }
  return '';
}

/** `own` has host bits. */
function isOnLink(address: Address, own: AnyPrefix): boolean {
  const shift = BigInt((typeof own.address === 'number' ? 32 : 128) - own.length);
  return typeof address === typeof own.address && BigInt(address) >> shift === BigInt(own.address) >> shift;
}

function halfRefusal(half: AnyPrefix, { config, own }: PeerRules): string {
  const network = networksOf(config).find(({ address }) => typeof address === typeof half.address);
  if (network === undefined) return `the network has no IPv${typeof half.address === 'number' ? 4 : 6}`;
  if (!prefixCovers(network, half)) return `its subnet is outside ${formatAnyPrefix(network)}`;
  for (const ours of halvesOf(own)) {
    if (sameAnyPrefix(half, ours)) return 'it claims this host’s own subnet';
    if (prefixesOverlap(half, ours)) return `its subnet overlaps ${formatAnyPrefix(ours)}, this host’s own`;
  }
  return '';
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

/** The same for IPv6 (RFC 4291). A link-local address means nothing without its link, and a mapped one is of IPv4. */
function unusableAddressV6(address: bigint): string {
  if (address === 0n) return 'the unspecified address';
  if (address === 1n) return 'the loopback address';
  if (address >> 120n === 0xffn) return 'a multicast address';
  if (address >> 118n === 0xfe80n >> 6n) return 'a link-local address';
  if (address >> 32n === 0xffffn) return 'an IPv4 address in the form of IPv6';
  return '';
}
