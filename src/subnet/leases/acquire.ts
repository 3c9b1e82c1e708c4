import type { Clock } from '../../base/clock.js';
import { TweedError } from '../../base/errors.js';
import { formatIpv4, formatPrefix, type Prefix, samePrefix } from '../../base/ipv4.js';
import type { Logger } from '../../base/log.js';
import { ForeignOwnerError, LeaseExistsError, LeaseGoneError, OutOfSubnetsError } from '../errors.js';
import { type LeaseAttributes, type Subnets, subnetsOverlap } from '../lease.js';
import {
  describeRanges,
  fitsConfig,
  fitsRange,
  type Ipv4Network,
  type NetworkConfig,
} from '../network-config/config.js';
import type { Registry, Snapshot, StoredLease } from '../registry.js';
import { freeSubnets, pickSubnet } from './allocate.js';

export interface AcquireContext {
  readonly registry: Registry;
  readonly config: NetworkConfig;
  readonly attributes: LeaseAttributes;
  /** From subnet.env; tried before a random one. */
  readonly previousSubnet: Prefix | null;
  readonly ttlSeconds: number;
  readonly random: () => number;
  readonly clock: Clock;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** Races lost in a row before the caller's back-off takes over. */
const MAX_RACES = 10;

/** Other hosts were faster again and again. */
export class AcquireRaceError extends TweedError {
  constructor() {
    super('LEASE_RACES', `lost ${MAX_RACES} races for a subnet in a row; it is tried again by itself`);
  }
}

/** A lease, and what the registry held when it was got. */
export interface Acquired {
  readonly lease: StoredLease;
  readonly snapshot: Snapshot;
}

/**
 * Gets this host a subnet: the one it holds already, else its previous one, else a random free one.
 *
 * @throws AcquireRaceError, OutOfSubnetsError, RegistryError: all three may pass with time.
 */
export async function acquireLease(context: AcquireContext): Promise<Acquired> {
  for (let race = 0; race < MAX_RACES; race++) {
    const snapshot = await context.registry.list();
    const lease = (await reuseOwn(context, snapshot)) ?? (await takeFree(context, snapshot));
    if (lease !== null) return { lease, snapshot };
  }
  throw new AcquireRaceError();
}

/** Renews the lease that stands under our address, and deletes those that the configuration no longer allows. */
async function reuseOwn(context: AcquireContext, snapshot: Snapshot): Promise<StoredLease | null> {
  const { registry, config, attributes, previousSubnet, log } = context;
  const own = snapshot.leases.filter((lease) => lease.attributes.publicIp === attributes.publicIp);
  const fitting = own.filter((lease) => fitsConfig(lease, config));
  const isPrevious = (lease: StoredLease) =>
    previousSubnet !== null && lease.subnet !== null && samePrefix(lease.subnet, previousSubnet);
  const best = fitting.find((lease) => lease.reservation) ?? fitting.find(isPrevious) ?? fitting[0];
  for (const stale of own.filter((lease) => !fitsConfig(lease, config))) {
    if (stale.reservation) {
      log.warn({ key: stale.key }, 'a reservation for this host does not fit the network config; it is left alone');
      continue;
    }
    log.info({ key: stale.key }, 'deleting the lease of this host that does not fit the network config any more');
    await registry.remove(stale).catch(tolerateLostRace);
  }
  if (best === undefined) return null;
  for (const other of fitting) {
    if (other !== best)
      log.warn({ key: other.key, used: best.key }, 'this host has one more lease; it is left to expire');
  }
  return registry.renew(best, attributes, context.ttlSeconds).catch(tolerateLostRace);
}

async function takeFree(context: AcquireContext, snapshot: Snapshot): Promise<StoredLease | null> {
  const { registry, config, attributes, previousSubnet, random, log } = context;
  const range = config.ipv4;
  if (range === null) throw new OutOfSubnetsError(describeRanges(config));
  const foreign = foreignSubnets(snapshot, attributes);
  const foreignV4 = foreign.map((other) => other.subnet).filter((other) => other !== null);
  const subnet =
    previousSubnet !== null && isUsable(previousSubnet, range, foreignV4)
      ? previousSubnet
      : pickSubnet(range, foreignV4, random);
  const created = await registry
    .create({ subnet, subnetV6: null }, attributes, context.ttlSeconds)
    .catch(tolerateLostRace);
  if (created === null) {
    log.info({ subnet: formatPrefix(subnet) }, 'another host took this subnet first; trying another');
    return null;
  }
  // The registry compares whole keys, so a subnet of another length may have come between list and create.
  const rival = (await registry.list()).leases.find(
    (lease) => lease.attributes.publicIp !== attributes.publicIp && subnetsOverlap(lease, { subnet, subnetV6: null }),
  );
  if (rival === undefined) return created;
  log.info(
    { subnet: formatPrefix(subnet), rival: rival.key, owner: formatIpv4(rival.attributes.publicIp) },
    'another host took an overlapping subnet at the same time; trying another',
  );
  await registry.remove(created).catch(tolerateLostRace);
  await context.clock.sleep(random() * 200, context.signal); // or the two would meet again and again
  return null;
}

/** The subnets that are not ours to take, those of unreadable leases included. */
export function foreignSubnets(snapshot: Snapshot, attributes: LeaseAttributes): Subnets[] {
  const others = snapshot.leases.filter((lease) => lease.attributes.publicIp !== attributes.publicIp);
  return [...others, ...snapshot.malformed];
}

function isUsable(subnet: Prefix, range: Ipv4Network, foreign: readonly Prefix[]): boolean {
  if (!fitsRange(subnet, range)) return false;
  const only = { ...range, subnetMin: subnet.address, subnetMax: subnet.address };
  return freeSubnets(only, foreign, 1).length === 1;
}

function tolerateLostRace(error: unknown): null {
  if (error instanceof LeaseExistsError || error instanceof LeaseGoneError || error instanceof ForeignOwnerError)
    return null;
  throw error;
}
