import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import { GRPCResourceExhastedError, type IEvent, type IKeyValue, type KVClient } from 'etcd3';
import type { Logger } from '../../base/log.js';
import {
  ConfigChangedError,
  ForeignOwnerError,
  LeaseExistsError,
  LeaseGoneError,
  MalformedLeaseError,
} from '../errors.js';
import { DEFAULT_ETCD_PREFIX, decodeLeaseValue, encodeLeaseValue, formatSubnetKey, isIpv6OnlyKey } from '../keys.js';
import { type HostAddresses, type LeaseAttributes, type Subnets, sameHost } from '../lease.js';
import { parseNetworkConfig } from '../network-config/config.js';
import {
  interpret,
  type MalformedEntry,
  type Registry,
  type Snapshot,
  type StoredConfig,
  type StoredLease,
  type WatchEvent,
  type WatchOptions,
} from '../registry.js';
import { EtcdConnection, type EtcdOptions } from './etcd-connection.js';
import { type EtcdClients, isTransient } from './etcd-endpoint.js';
import { watchEtcd } from './etcd-watch.js';

export interface EtcdRegistryOptions extends EtcdOptions {
  readonly prefix?: string;
  readonly probeIntervalMs?: number;
}

/** So many questions for a lease's remaining time are under way at once. */
const PARALLEL_QUESTIONS = 16;

/** So many keys are asked for at once, as long as their values are as small as flannel's. */
const PAGE_KEYS = 500;

/** `255.255.255.252-30&` and an IPv6 prefix have some sixty characters. */
const LONGEST_NAME = 100;

/** A key with no lease of etcd's attached: a reservation. */
const NO_LEASE = '0';

/**
 * Where things are below a prefix, joined as flannel joins them (Go's path.Join): slashes at the end and doubled ones do
 * not count, but one at the front does, so `a/b` is another place than `/a/b`.
 */
export function etcdKeys(prefix: string): {
  readonly configKey: string;
  readonly subnets: string;
  /** Of leases without an IPv4 half: our own place, which flannel does not look at (it lists all that begins with `subnets`). */
  readonly ipv6Subnets: string;
} {
  return {
    configKey: posix.join(prefix, 'config'),
    subnets: `${posix.join(prefix, 'subnets')}/`,
    ipv6Subnets: `${posix.join(prefix, 'ipv6', 'subnets')}/`,
  };
}

/**
 * flannel's layout in etcd v3: `<prefix>/config` and `<prefix>/subnets/<key>`. Leases without an IPv4 half stand in
 * `<prefix>/ipv6/subnets/<key>`, which is looked at only when the configuration last read has IPv6.
 */
export class EtcdRegistry implements Registry {
  readonly description: string;
  readonly #connection: EtcdConnection;
  readonly #configKey: Buffer;
  readonly #subnets: string;
  readonly #ipv6Subnets: string;
  readonly #probeIntervalMs: number;
  readonly #log: Logger;
  /** Until a configuration was read, there may be. */
  #hasIpv6 = true;

  constructor(options: EtcdRegistryOptions, log: Logger) {
    this.#connection = new EtcdConnection(options, log);
    const { configKey, subnets, ipv6Subnets } = etcdKeys(options.prefix ?? DEFAULT_ETCD_PREFIX);
    this.#configKey = Buffer.from(configKey);
    this.#subnets = subnets;
    this.#ipv6Subnets = ipv6Subnets;
    this.#probeIntervalMs = options.probeIntervalMs ?? 10_000;
    this.#log = log;
    this.description = `${this.#connection.description}, prefix ${posix.dirname(configKey)}`;
  }

  getConfig(): Promise<StoredConfig> {
    return this.#connection.request(async ({ kv }) => {
      const response = await kv.range({ key: this.#configKey });
      const stored = response.kvs[0];
      const json = stored === undefined ? null : stored.value.toString();
      this.#hasIpv6 = json !== null && enablesIpv6(json);
      return {
        json,
        version: stored?.mod_revision ?? '0',
        revision: response.header.revision,
      };
    });
  }

  setConfig(json: string, expected: string | null): Promise<void> {
    return this.#connection.request(async ({ kv }) => {
      const response = await kv.txn({
        compare:
          expected === null ? [] : [{ key: this.#configKey, target: 'Mod', result: 'Equal', mod_revision: expected }],
        success: [{ request_put: { key: this.#configKey, value: Buffer.from(json) } }],
      });
      if (!response.succeeded) throw new ConfigChangedError();
    });
  }

  watchConfig(options: WatchOptions<string | null>): Promise<void> {
    return this.#watch({ key: this.#configKey }, options, (events) =>
      options.onEvents(events.map((event) => (isDelete(event) ? null : event.kv.value.toString()))),
    );
  }

  async list({ expirations = false } = {}): Promise<Snapshot> {
    return this.#connection.request(async (clients) => {
      const leases: StoredLease[] = [];
      const malformed: MalformedEntry[] = [];
      const etcdLeases = new Map<string, string>();
      const revision = await this.#readAll(clients.kv, (stored) => {
        const event = this.#read(stored);
        if (event.kind === 'put') {
          leases.push(event.lease);
          etcdLeases.set(event.lease.key, stored.lease);
        } else if (event.kind === 'malformed') malformed.push(event.entry);
      });
      if (!expirations) return { leases, malformed, revision };
      return { leases: await withExpirations(clients, leases, etcdLeases), malformed, revision };
    });
  }

  create(subnets: Subnets, attributes: LeaseAttributes, ttlSeconds: number): Promise<StoredLease> {
    const name = formatSubnetKey(subnets);
    const key = this.#keyOf(name);
    return this.#connection.request(async (clients) => {
      const version = await this.#putWithNewLease(clients, key, attributes, ttlSeconds, {
        key,
        target: 'Version',
        result: 'Equal',
        version: '0',
      });
      if (version === null) throw new LeaseExistsError(name);
      const expiresAt = Date.now() + ttlSeconds * 1000;
      return { key: name, ...subnets, attributes, reservation: false, version, expiresAt };
    });
  }

  renew(lease: StoredLease, attributes: LeaseAttributes, ttlSeconds: number): Promise<StoredLease> {
    const key = this.#keyOf(lease.key);
    return this.#connection.request(async (clients) => {
      for (;;) {
        const stored = await this.#readOwn(clients, lease.key, [lease.attributes, attributes]);
        if (stored === null) throw new LeaseGoneError(lease.key);
        const unchanged = { key, target: 'Mod', result: 'Equal', mod_revision: stored.mod_revision } as const;
        if (stored.lease === NO_LEASE) {
          const version = await this.#writeReservation(clients, stored, attributes, unchanged);
          if (version === null) continue; // written by somebody between reading and writing: look again
          return { ...lease, attributes, version, reservation: true, expiresAt: null };
        }
        const version = await this.#putWithNewLease(clients, key, attributes, ttlSeconds, unchanged);
        if (version === null) continue;
        await this.#revokeIfUnused(clients, stored.lease);
        return { ...lease, attributes, version, reservation: false, expiresAt: Date.now() + ttlSeconds * 1000 };
      }
    });
  }

  remove(lease: StoredLease): Promise<void> {
    const key = this.#keyOf(lease.key);
    return this.#connection.request(async (clients) => {
      for (;;) {
        const stored = await this.#readOwn(clients, lease.key, [lease.attributes]);
        if (stored === null) return;
        const response = await clients.kv.txn({
          compare: [{ key, target: 'Mod', result: 'Equal', mod_revision: stored.mod_revision }],
          success: [{ request_delete_range: { key } }],
        });
        if (!response.succeeded) continue;
        if (stored.lease !== NO_LEASE) await this.#revokeIfUnused(clients, stored.lease);
        return;
      }
    });
  }

  watch(options: WatchOptions<WatchEvent>): Promise<void> {
    const ranges = this.#ranges();
    let unconfirmed = ranges.length;
    const watched = {
      ...options,
      onEstablished: () => {
        if (--unconfirmed === 0) options.onEstablished?.();
      },
    };
    const watches = ranges.map((range) =>
      this.#watch(range, watched, (events) => {
        const read = events.map((event) =>
          isDelete(event) ? ({ kind: 'delete', key: this.#nameOf(event.kv) } as const) : this.#read(event.kv),
        );
        options.onEvents(read);
      }),
    );
    return Promise.race(watches);
  }

  async close(): Promise<void> {
    this.#connection.close();
  }

  #watch<E>(
    { key, range_end }: { key: Buffer; range_end?: Buffer },
    options: WatchOptions<E>,
    onEvents: (events: readonly IEvent[]) => void,
  ): Promise<void> {
    return watchEtcd(this.#connection, {
      range: { key, ...(range_end === undefined ? {} : { end: range_end }) },
      startRevision: String(BigInt(options.after) + 1n),
      signal: options.signal,
      onEstablished: () => options.onEstablished?.(),
      onEvents,
      probeIntervalMs: this.#probeIntervalMs,
    });
  }

  /** All keys below each place of leases: up to, but not including, the same text with `0`, the character after `/`. */
  #ranges(): { key: Buffer; range_end: Buffer }[] {
    const places = this.#hasIpv6 ? [this.#subnets, this.#ipv6Subnets] : [this.#subnets];
    return places.map((place) => ({ key: Buffer.from(place), range_end: Buffer.from(`${place.slice(0, -1)}0`) }));
  }

  #keyOf(name: string): Buffer {
    return Buffer.from((isIpv6OnlyKey(name) ? this.#ipv6Subnets : this.#subnets) + name);
  }

  /**
   * Everything that stands below the leases at one revision, in pages: an answer has a limit of size, and values may have
   * a megabyte each. A page that is too large is asked for again with fewer keys.
   *
   * @returns the revision
   */
  async #readAll(kv: KVClient, take: (stored: IKeyValue) => void): Promise<string> {
    let revision: string | null = null;
    for (const range of this.#ranges()) revision = await this.#readRange(kv, range, revision, take);
    return revision as string;
  }

  async #readRange(
    kv: KVClient,
    range: { readonly key: Buffer; readonly range_end: Buffer },
    at: string | null,
    take: (stored: IKeyValue) => void,
  ): Promise<string> {
    const { range_end } = range;
    let { key } = range;
    let limit = PAGE_KEYS;
    let revision = at;
    for (;;) {
      try {
        const page = await kv.range({ key, range_end, limit, ...(revision === null ? {} : { revision }) });
        revision ??= page.header.revision;
        for (const stored of page.kvs) take(stored);
        const last = page.kvs.at(-1);
        if (!page.more || last === undefined) return revision;
        key = Buffer.concat([last.key, Buffer.of(0)]);
      } catch (error) {
        if (!(error instanceof GRPCResourceExhastedError) || limit === 1) throw error;
        limit = Math.max(1, limit >> 3);
      }
    }
  }

  /** A name that is longer than any of flannel's gets a short one, as unlike a lease's as before. */
  #nameOf(stored: IKeyValue): string {
    const key = stored.key.toString();
    const ofIpv6 = key.startsWith(this.#ipv6Subnets);
    const last = key.slice(ofIpv6 ? this.#ipv6Subnets.length : this.#subnets.length);
    // so that the name tells the place: what stands in the wrong one has none of a lease's
    const name = isIpv6OnlyKey(last) === ofIpv6 ? last : `${ofIpv6 ? 'ipv6/subnets' : 'subnets'}/${last}`;
    if (name.length <= LONGEST_NAME) return name;
    return `${name.slice(0, LONGEST_NAME)}…${createHash('sha256').update(stored.key).digest('hex').slice(0, 16)}`;
  }

  #read(stored: IKeyValue): WatchEvent {
    const key = this.#nameOf(stored);
    const meaning = interpret(key, stored.value.toString());
    if (meaning.kind === 'malformed') return { kind: 'malformed', entry: meaning.entry };
    const { subnet, subnetV6, attributes } = meaning;
    const reservation = stored.lease === NO_LEASE;
    return {
      kind: 'put',
      lease: { key, subnet, subnetV6, attributes, reservation, version: stored.mod_revision, expiresAt: null },
    };
  }

  /**
   * What stands under our key now; null when nothing does. A value that cannot be read has no owner and counts as ours.
   * @throws ForeignOwnerError
   */
  async #readOwn({ kv }: EtcdClients, key: string, owners: readonly HostAddresses[]): Promise<IKeyValue | null> {
    const stored = (await kv.range({ key: this.#keyOf(key) })).kvs[0];
    if (stored === undefined) return null;
    try {
      const present = decodeLeaseValue(key, stored.value.toString());
      if (!owners.some((owner) => sameHost(owner, present))) throw new ForeignOwnerError(key, present);
    } catch (error) {
      if (!(error instanceof MalformedLeaseError)) throw error;
    }
    return stored;
  }

  /** Writes if the comparison holds, with a lease of etcd's that lasts `ttlSeconds`; null when it does not hold. */
  async #putWithNewLease(
    clients: EtcdClients,
    key: Buffer,
    attributes: LeaseAttributes,
    ttlSeconds: number,
    condition: object,
  ): Promise<string | null> {
    const { ID: lease } = await clients.lease.leaseGrant({ TTL: ttlSeconds });
    try {
      const response = await clients.kv.txn({
        compare: [condition],
        success: [{ request_put: { key, value: Buffer.from(encodeLeaseValue(attributes)), lease } }],
      });
      if (response.succeeded) return response.header.revision;
    } catch (error) {
      // After a timeout the write may have happened or be happening still, and revoking would delete the key.
      if (!isTransient(error)) await this.#revokeIfUnused(clients, lease);
      throw error;
    }
    await this.#revokeIfUnused(clients, lease);
    return null;
  }

  async #writeReservation(
    { kv }: EtcdClients,
    stored: IKeyValue,
    attributes: LeaseAttributes,
    condition: object,
  ): Promise<string | null> {
    const value = encodeLeaseValue(attributes);
    if (stored.value.toString() === value) return stored.mod_revision;
    const response = await kv.txn({
      compare: [condition],
      success: [{ request_put: { key: stored.key, value: Buffer.from(value) } }],
    });
    return response.succeeded ? response.header.revision : null;
  }

  /** Housekeeping after the real work: a failure leaves a lease of etcd's that ends by itself. */
  async #revokeIfUnused({ lease }: EtcdClients, id: string): Promise<void> {
    try {
      const { keys, TTL } = await lease.leaseTimeToLive({ ID: id, keys: true });
      if (Number(TTL) >= 0 && keys.length === 0) await lease.leaseRevoke({ ID: id });
    } catch (error) {
      this.#log.debug({ err: error, etcdLease: id }, 'cannot revoke a replaced etcd lease; it will expire by itself');
    }
  }
}

/** What cannot be read may have it. */
function enablesIpv6(json: string): boolean {
  try {
    return parseNetworkConfig(json).ipv6 !== null;
  } catch {
    return true;
  }
}

function isDelete(event: IEvent): boolean {
  return String(event.type).toLowerCase() === 'delete';
}

async function withExpirations(
  { lease: client }: EtcdClients,
  leases: readonly StoredLease[],
  etcdLeases: ReadonlyMap<string, string>,
): Promise<StoredLease[]> {
  const result = [...leases];
  let next = 0;
  const ask = async () => {
    while (next < result.length) {
      const index = next++;
      const lease = result[index] as StoredLease;
      if (lease.reservation) continue;
      const { TTL } = await client.leaseTimeToLive({ ID: etcdLeases.get(lease.key) as string });
      // -1 for a lease that ended since the list was made: due now.
      result[index] = { ...lease, expiresAt: Date.now() + Math.max(0, Number(TTL)) * 1000 };
    }
  };
  await Promise.all(Array.from({ length: PARALLEL_QUESTIONS }, ask));
  return result;
}
