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
import { contains, overlaps, type Prefix } from '../base/ipv4.js';
import { type Ipv6Prefix, netmaskV6 } from '../base/ipv6.js';
import { whyNoHosts } from '../base/no-hosts.js';
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
}

export interface ChosenPeers {
  /** Without the halves and addresses that are refused, or that the network has no use for. */
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
  const ordinary = new OrdinaryPeers(rules);
  for (const lease of leases) {
    if (ordinary.has(lease)) {
      peers.push(lease);
      continue;
    }
    const { peer, complaints } = judge(lease, rules);
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

/**
 * A quick look, since all leases are judged whenever one of them changes, and nearly all are good: who passes it is a peer as
 * he is, and everybody else is judged with reasons.
 */
export class OrdinaryPeers {
  readonly #rules: PeerRules;
  readonly #network: Prefix | null;
  readonly #networkV6: MaskedPrefix | null;
  readonly #ownV6: MaskedPrefix | null;
  readonly #addresses: ReadonlySet<Address>;

  constructor(rules: PeerRules) {
    this.#rules = rules;
    this.#network = rules.config.ipv4?.network ?? null;
    this.#networkV6 = masked(rules.config.ipv6?.network ?? null);
    this.#ownV6 = masked(rules.own.subnetV6);
    this.#addresses = new Set([...addressesOf(rules), ...rules.underlay.map(({ address }) => address)]);
  }

  /** False says nothing. */
  has({ subnet, subnetV6, attributes }: Lease): boolean {
    const { publicIp, publicIpv6, backendType = 'udp' } = attributes;
    const { own, publicIp: ownIp, publicIpv6: ownIpv6, backendType: ours } = this.#rules;
    if (backendType !== ours || (subnet === null && subnetV6 === null)) return false;
    if ((publicIp === 0 || ownIp === 0) && (publicIpv6 === null || ownIpv6 === null)) return false;
    if (publicIp !== 0) {
      const first = publicIp >>> 24;
      if (first === 0 || first === 127 || first >= 224 || this.#addresses.has(publicIp)) return false;
      if (this.#network !== null && contains(this.#network, publicIp)) return false;
    }
    if (publicIpv6 !== null) {
      const isGlobal = publicIpv6 >> 125n === 1n || publicIpv6 >> 121n === 0x7en; // 2000::/3, fc00::/7
      if (!isGlobal || this.#addresses.has(publicIpv6)) return false;
      if (this.#networkV6 !== null && isIn(this.#networkV6, publicIpv6)) return false;
    }
    if (subnet !== null) {
      if (this.#network === null || subnet.length < this.#network.length) return false;
      if (!contains(this.#network, subnet.address) || (own.subnet !== null && overlaps(subnet, own.subnet)))
        return false;
    }
    if (subnetV6 !== null) {
      if (this.#networkV6 === null || subnetV6.length < this.#networkV6.length) return false;
      if (!isIn(this.#networkV6, subnetV6.address)) return false;
      const ownV6 = this.#ownV6;
      if (ownV6 !== null && (subnetV6.length < ownV6.length || isIn(ownV6, subnetV6.address))) return false;
    }
    return true;
  }
}

/** Its mask takes longer to make than to use. */
interface MaskedPrefix extends Ipv6Prefix {
  readonly mask: bigint;
}

function masked(prefix: Ipv6Prefix | null): MaskedPrefix | null {
  return prefix === null ? null : { ...prefix, mask: netmaskV6(prefix.length) };
}

function isIn({ address, mask }: MaskedPrefix, other: bigint): boolean {
  return (other & mask) === address;
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
  if (addresses.length === 0) return none('it has no address');
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
  const unusable = whyNoHosts(address);
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
