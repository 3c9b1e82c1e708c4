/**
 * The two halves of a backend that forwards in the kernel: what it does for IPv4 and for IPv6, which are the same and have
 * nothing to do with each other. A half carries packets of its family by addresses of its family, as flannel's do.
 */

import { type Address, type AnyPrefix, type Family, formatAnyPrefix } from '../../base/address.js';
import { TweedError } from '../../base/errors.js';
import { type Lease, subnetName } from '../../subnet/lease.js';
import type { BackendContext } from '../backend.js';
import { type Ownership, ownershipOf } from './former-life.js';
import { obstacleToIpv6 } from './ipv6-obstacle.js';

export interface Half {
  readonly family: Family;
  readonly network: AnyPrefix;
  /** This host's own address on the underlay. */
  readonly local: Address;
  /** What peers send to. */
  readonly publicIp: Address;
  /** The MTU of the overlay's packets. */
  readonly mtu: number;
  readonly ownership: Ownership;
}

/** What a backend says of a half before it is there. */
export interface HalfPlan {
  /** The backend's own device for it; null when it has none. */
  readonly device: string | null;
  readonly mtu: number;
}

export class NoHalfError extends TweedError {
  constructor(reasons: Iterable<string>) {
    super('NO_ADDRESS_OF_FAMILY', `nothing can be carried: ${[...reasons].join('; ')}`);
  }
}

/** What of a network a host carries, and why not the rest. */
export interface Halves {
  readonly halves: readonly Half[];
  readonly notCarried: ReadonlyMap<Family, string>;
}

/**
 * The halves that this network has, and that this host can have. What keeps it from one of two is logged, and takes
 * nothing from the other.
 *
 * @throws NoHalfError when there is none
 */
export function halvesFor(context: BackendContext, plan: (family: Family) => HalfPlan): Halves {
  const { config, underlay, publicIp, publicIpv6, log } = context;
  const candidates = [
    { family: 4 as const, network: config.ipv4?.network, local: underlay.address || null, publicIp: publicIp || null },
    { family: 6 as const, network: config.ipv6?.network, local: underlay.ipv6?.address ?? null, publicIp: publicIpv6 },
  ];
  const notCarried = new Map<Family, string>();
  const halves = candidates.flatMap(({ family, network, local, publicIp }): readonly Half[] => {
    if (network === undefined) return [];
    const { device, mtu } = plan(family);
    const refuse = (reason: string) => {
      notCarried.set(family, `${formatAnyPrefix(network)} is not carried, since ${reason}`);
      return [];
    };
    const obstacle = family === 6 ? obstacleToIpv6(mtu) : '';
    if (obstacle !== '') return refuse(obstacle);
    if (local === null || publicIp === null) {
      return refuse(`${underlay.name} has no IPv${family} address; give it one`);
    }
    return [{ family, network, local, publicIp, mtu, ownership: ownershipOf(context, device, family) }];
  });
  if (halves.length === 0) throw new NoHalfError(notCarried.values());
  for (const reason of notCarried.values()) log.warn(reason);
  return { halves, notCarried };
}

/** What one half needs of a peer's lease. */
export interface PeerHalf {
  readonly subnet: AnyPrefix;
  readonly publicIp: Address;
  /** What its backend says of itself for this family. */
  readonly data: unknown;
}

/** The peers' halves of a family; `troubles` gets those that no packet can be sent to. */
export function peerHalves(
  leases: readonly Lease[],
  family: Family,
  troubles: Map<string, string>,
): readonly PeerHalf[] {
  return leases.flatMap((lease): readonly PeerHalf[] => {
    const { attributes } = lease;
    const subnet = family === 4 ? lease.subnet : lease.subnetV6;
    const publicIp = family === 4 ? attributes.publicIp || null : attributes.publicIpv6;
    if (subnet === null) return [];
    if (publicIp === null) {
      troubles.set(formatAnyPrefix(subnet), `its lease ${subnetName(lease)} has no IPv${family} address`);
      return [];
    }
    return [{ subnet, publicIp, data: family === 4 ? attributes.backendData : attributes.backendV6Data }];
  });
}
