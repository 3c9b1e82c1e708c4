import type { Clock } from '../../base/clock.js';
import { TweedError } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import { ForeignOwnerError, LeaseExistsError, LeaseGoneError } from '../errors.js';
import {
  halvesOf,
  type LeaseAttributes,
  publicName,
  type Subnets,
  sameHost,
  subnetName,
  subnetsOverlap,
} from '../lease.js';
import { fitsConfig, type Ipv4Network, type Ipv6Network, type NetworkConfig } from '../network-config/config.js';
import type { Registry, Snapshot, StoredLease } from '../registry.js';
import { isFree, pickSubnet } from './allocate.js';

export interface AcquireContext {
  readonly registry: Registry;
  readonly config: NetworkConfig;
  readonly attributes: LeaseAttributes;
  /** From subnet.env; each half is tried before a random one. */
  readonly previous: Subnets;
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
    const own = sortOwn(context, snapshot);
    const lease = (await renewOwn(context, own)) ?? (await takeFree(context, snapshot, own.misfits));
    if (lease === null) continue;
    await removeMisfits(context, own.misfits);
    return { lease, snapshot };
  }
  throw new AcquireRaceError();
}

/** Of the leases that stand under our address: the one to go on with, and the others. */
function sortOwn({ config, attributes, previous }: AcquireContext, snapshot: Snapshot) {
  const own = snapshot.leases.filter((lease) => sameHost(lease.attributes, attributes));
  const fitting = own.filter((lease) => fitsConfig(lease, config));
  const isPrevious = (lease: StoredLease) => subnetName(lease) === subnetName(previous);
  const best = fitting.find((lease) => lease.reservation) ?? fitting.find(isPrevious) ?? fitting[0] ?? null;
  return { best, fitting, misfits: own.filter((lease) => !fitting.includes(lease)) };
}

function renewOwn(context: AcquireContext, { best, fitting }: ReturnType<typeof sortOwn>): Promise<StoredLease | null> {
  const { registry, attributes, log } = context;
  if (best === null) return Promise.resolve(null);
  for (const other of fitting) {
    if (other !== best)
      log.warn({ key: other.key, used: best.key }, 'this host has one more lease; it is left to expire');
  }
  return registry.renew(best, attributes, context.ttlSeconds).catch(tolerateLostRace);
}

/** What the configuration no longer allows goes when its place is taken: one half of it may have been gone on with. */
async function removeMisfits({ registry, log }: AcquireContext, misfits: readonly StoredLease[]): Promise<void> {
  for (const stale of misfits) {
    if (stale.reservation) {
      log.warn({ key: stale.key }, 'a reservation for this host does not fit the network config; it is left alone');
      continue;
    }
    log.info({ key: stale.key }, 'deleting the lease of this host that does not fit the network config any more');
    await registry.remove(stale).catch(tolerateLostRace);
  }
}

async function takeFree(
  context: AcquireContext,
  snapshot: Snapshot,
  misfits: readonly StoredLease[],
): Promise<StoredLease | null> {
  const { registry, attributes, random, log } = context;
  const subnets = chooseSubnets(context, snapshot, misfits);
  const subnet = subnetName(subnets);
  const created = await registry.create(subnets, attributes, context.ttlSeconds).catch(tolerateLostRace);
  if (created === null) {
    log.info({ subnet }, 'another host took this subnet first; trying another');
    return null;
  }
  // The registry compares whole keys, so one with another length, or with one half in common, may have come between.
  const rival = (await registry.list()).leases.find(
    (lease) => !sameHost(lease.attributes, attributes) && subnetsOverlap(lease, subnets),
  );
  if (rival === undefined) return created;
  log.info(
    { subnet, rival: rival.key, owner: publicName(rival.attributes) },
    'another host took an overlapping subnet at the same time; trying another',
  );
  await registry.remove(created).catch(tolerateLostRace);
  await context.clock.sleep(random() * 200, context.signal); // or the two would meet again and again
  return null;
}

/** Each half by itself: what this host had of it, reserved or before, while it is free; else a random one. */
function chooseSubnets(context: AcquireContext, snapshot: Snapshot, misfits: readonly StoredLease[]): Subnets {
  const { config, attributes, previous, random } = context;
  const reserved = misfits.filter(({ reservation }) => reservation);
  const favourites = [...reserved, previous, ...misfits].flatMap(halvesOf);
  const taken = foreignSubnets(snapshot, attributes).flatMap(halvesOf);
  const choose = <R extends Ipv4Network | Ipv6Network>(range: R | null): R['network'] | null => {
    if (range === null) return null;
    return favourites.find((one) => isFree(one, range, taken)) ?? pickSubnet(range, taken, random);
  };
  return { subnet: choose(config.ipv4), subnetV6: choose(config.ipv6) };
}

/** The subnets that are not ours to take, those of unreadable leases included. */
export function foreignSubnets(snapshot: Snapshot, attributes: LeaseAttributes): Subnets[] {
  const others = snapshot.leases.filter((lease) => !sameHost(lease.attributes, attributes));
  return [...others, ...snapshot.malformed];
}

function tolerateLostRace(error: unknown): null {
  if (error instanceof LeaseExistsError || error instanceof LeaseGoneError || error instanceof ForeignOwnerError)
    return null;
  throw error;
}
