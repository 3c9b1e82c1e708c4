import { EventEmitter } from 'node:events';
import { messageOf, TweedError } from '../base/errors.js';
import { formatIpv4, formatPrefix, type Prefix, samePrefix } from '../base/ipv4.js';
import type { Logger } from '../base/log.js';
import { acquireLease } from './acquire.js';
import { Backoff, type Clock, systemClock } from './clock.js';
import { checkNetworkConfig, fitsConfig, type NetworkConfig } from './config.js';
import { CompactedError, ConfigError, ForeignOwnerError, LeaseLostError, RegistryError } from './errors.js';
import type { Lease, LeaseAttributes, PeerChange } from './lease.js';
import { type LeaseCause, OwnLease } from './own-lease.js';
import type { CachedState, PeerCache } from './peer-cache.js';
import { PeerTable } from './peers.js';
import {
  DEFAULT_TTL_SECONDS,
  type MalformedEntry,
  type Registry,
  type Snapshot,
  type StoredLease,
  type WatchEvent,
} from './registry.js';
import { WaitLog } from './wait-log.js';

export interface LeaseManagerOptions {
  readonly registry: Registry;
  readonly log: Logger;
  /** This host's identity among the leases. Host order. */
  readonly publicIp: number;
  /** From subnet.env. */
  readonly previousSubnet?: Prefix | null;
  readonly ttlSeconds?: number;
  /** A lease is renewed this long before its end. Default 60 minutes. */
  readonly renewMarginMs?: number;
  /** Where the last known state is kept. */
  readonly cache?: PeerCache;
  /** Start from the cache after the registry has been unreachable for so long; without it, never. */
  readonly startFromCacheAfterMs?: number;
  readonly clock?: Clock;
  readonly random?: () => number;
}

export interface ConnectionStatus {
  readonly state: 'connecting' | 'up' | 'down';
  /** Why it is down; empty otherwise. */
  readonly reason: string;
  /** Milliseconds since the epoch. */
  readonly since: number;
}

export interface LeaseManagerStatus {
  readonly registry: string;
  readonly phase: 'new' | 'waiting for config' | 'acquiring' | 'leased' | 'following' | 'lost' | 'closed';
  readonly connection: ConnectionStatus;
  readonly config: NetworkConfig | null;
  readonly lease: StoredLease | null;
  /** Milliseconds since the epoch; null for a reservation. */
  readonly renewAt: number | null;
  /** True from a start with the last known state until the registry has confirmed it. */
  readonly fromCache: boolean;
  readonly peers: readonly Lease[];
  readonly malformed: readonly { readonly key: string; readonly problem: string }[];
}

export interface LeaseManagerEvents {
  /** Never empty; many changes that come together come in one call. */
  peers: [changes: readonly PeerChange[]];
  lease: [lease: Lease, cause: LeaseCause];
  /** Forwarding must stop; nothing follows after it. */
  lost: [error: LeaseLostError];
  connection: [status: ConnectionStatus];
  /** The stored configuration is another one now. The one in force stays until the daemon is started again. */
  config: [config: NetworkConfig];
}

/** Changes that arrive within this time are announced together. */
const GATHER_MS = 20;
/** The state on disk may be this old. */
const SAVE_DELAY_MS = 2_000;
/** A session that lasted this long was a good one: the next failure starts with a short pause again. */
const GOOD_SESSION_MS = 5_000;

/**
 * One host's dealings with the registry. In order: `waitForConfig`, `acquire`, `follow`, then `release` or `close`.
 *
 * A registry that is down stops nothing: what is known stays in force, and every wait is said in the log once, and
 * again now and then.
 */
export class LeaseManager extends EventEmitter<LeaseManagerEvents> {
  readonly #options: LeaseManagerOptions;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #stop = new AbortController();
  readonly #peers = new PeerTable();
  /** What was logged about each unreadable key. */
  readonly #malformed = new Map<string, string>();
  readonly #waits: WaitLog;
  #phase: LeaseManagerStatus['phase'] = 'new';
  #connection: ConnectionStatus;
  #configJson = '';
  #config: NetworkConfig | null = null;
  /** The text last judged, so that a bad one is reported once. */
  #lastConfigSeen: string | null = null;
  #cached: CachedState | null = null;
  #lease: StoredLease | null = null;
  #own: OwnLease | null = null;
  #running: Promise<unknown> = Promise.resolve();
  #gathering = false;
  #saving: Promise<void> | null = null;

  constructor(options: LeaseManagerOptions) {
    super();
    this.#options = options;
    this.#log = options.log;
    this.#clock = options.clock ?? systemClock;
    this.#waits = new WaitLog(options.log, this.#clock);
    this.#connection = { state: 'connecting', reason: '', since: this.#clock.now() };
  }

  status(): LeaseManagerStatus {
    return {
      registry: this.#options.registry.description,
      phase: this.#phase,
      connection: this.#connection,
      config: this.#config,
      lease: this.#own?.lease ?? this.#lease,
      renewAt: this.#own?.renewAt ?? null,
      fromCache: this.#cached !== null,
      peers: this.#peers.current,
      malformed: [...this.#malformed].map(([key, problem]) => ({ key, problem })),
    };
  }

  /** Waits until a good network configuration is there, for as long as it takes. Rejects only when closed meanwhile. */
  async waitForConfig(): Promise<NetworkConfig> {
    this.#phase = 'waiting for config';
    const { registry, startFromCacheAfterMs: patience } = this.#options;
    const from = registry.description;
    const start = this.#clock.monotonic();
    const cached = patience === undefined ? null : await this.#loadCache();
    const backoff = new Backoff();
    for (;;) {
      try {
        const { json } = await registry.getConfig();
        this.#setConnection('up');
        if (json === null) {
          this.#waits.problem(
            'absent',
            `waiting for the network config: ${from} has none; write one with "tweed network set"`,
          );
        } else {
          const { config, warnings } = checkNetworkConfig(json);
          for (const warning of warnings) this.#log.warn(`network config: ${warning}`);
          this.#waits.solved('the network config is there');
          this.#configJson = json;
          this.#lastConfigSeen = json;
          this.#config = config;
          return config;
        }
      } catch (error) {
        const reason = messageOf(error);
        if (error instanceof ConfigError) {
          this.#waits.problem(reason, 'waiting for a good network config; the present one is wrong');
        } else if (error instanceof RegistryError) {
          this.#setConnection('down', reason);
          this.#waits.problem(reason, 'waiting for the registry, to read the network config');
          if (cached !== null && patience !== undefined && this.#clock.monotonic() - start >= patience) {
            return this.#startFromCache(cached);
          }
        } else throw error;
      }
      await this.#pause(backoff.next());
    }
  }

  /** Gets this host a subnet, for as long as it takes. Rejects only when closed meanwhile. */
  async acquire(attributes: LeaseAttributes): Promise<Lease> {
    if (this.#config === null)
      throw new TweedError('LEASE_ORDER', 'acquire was called before waitForConfig; report this');
    if (attributes.publicIp !== this.#options.publicIp) {
      throw new TweedError('LEASE_IDENTITY', 'the lease’s public address is not this host’s; report this');
    }
    this.#phase = 'acquiring';
    this.#lease = this.#cached === null ? await this.#acquireFromRegistry(this.#config, attributes) : this.#cached.own;
    this.#own = new OwnLease(
      {
        registry: this.#options.registry,
        attributes,
        ttlSeconds: this.#ttlSeconds,
        renewMarginMs: this.#options.renewMarginMs ?? 60 * 60_000,
        clock: this.#clock,
        log: this.#log,
        onLease: (lease, cause) => {
          this.emit('lease', lease, cause);
          this.#saveSoon();
        },
        onLost: (error) => this.#fail(error),
      },
      this.#lease,
      this.#cached === null,
    );
    this.#phase = 'leased';
    return this.#lease;
  }

  /** Starts to renew the lease and to follow the peers. The first `peers` event brings all that are there. */
  follow(): void {
    const own = this.#own;
    if (own === null) throw new TweedError('LEASE_ORDER', 'follow was called before acquire; report this');
    this.#phase = 'following';
    if (this.#cached !== null) {
      this.#peers.replaceAll(this.#cached.peers);
      this.#announce();
    }
    this.#running = Promise.all([
      own.run(this.#stop.signal).catch((error: unknown) => this.#fail(error)),
      this.#followRegistry(own).catch((error: unknown) => this.#fail(error)),
    ]);
  }

  /** Stops, and gives the subnet back; a reservation stays. A lease that cannot be given back is logged. */
  async release(): Promise<void> {
    await this.close();
    const lease = this.#own?.lease;
    if (lease === undefined || lease.reservation) return;
    try {
      await this.#options.registry.remove(lease);
      this.#log.info({ key: lease.key }, 'released the own lease');
    } catch (error) {
      if (!(error instanceof RegistryError || error instanceof ForeignOwnerError)) throw error;
      this.#log.warn({ key: lease.key, reason: messageOf(error) }, 'cannot release the own lease; it will expire');
    }
  }

  /** Stops; the lease stays. Does not close the registry. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#saving;
    if (this.#phase !== 'lost') this.#phase = 'closed';
  }

  get #ttlSeconds(): number {
    return this.#options.ttlSeconds ?? DEFAULT_TTL_SECONDS;
  }

  async #acquireFromRegistry(config: NetworkConfig, attributes: LeaseAttributes): Promise<StoredLease> {
    const backoff = new Backoff();
    for (;;) {
      try {
        const lease = await acquireLease({
          registry: this.#options.registry,
          config,
          attributes,
          previousSubnet: this.#options.previousSubnet ?? null,
          ttlSeconds: this.#ttlSeconds,
          random: this.#options.random ?? Math.random,
          clock: this.#clock,
          log: this.#log,
          signal: this.#stop.signal,
        });
        this.#waits.solved('got a lease after all');
        this.#setConnection('up');
        this.#log.info({ key: lease.key, reservation: lease.reservation }, 'this host’s subnet is leased');
        return lease;
      } catch (error) {
        if (!(error instanceof TweedError)) throw error;
        if (error instanceof RegistryError) this.#setConnection('down', error.message);
        this.#waits.problem(error.message, 'waiting for a lease');
      }
      await this.#pause(backoff.next());
    }
  }

  async #followRegistry(own: OwnLease): Promise<void> {
    const { signal } = this.#stop;
    const backoff = new Backoff();
    while (!signal.aborted) {
      let established = Number.POSITIVE_INFINITY;
      try {
        await this.#session(own, () => {
          established = this.#clock.monotonic();
          this.#waits.solved('the registry is back');
          this.#setConnection('up');
        });
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof RegistryError)) throw error;
        if (error instanceof CompactedError)
          this.#log.info('the registry compacted its history; listing the leases again');
        else {
          this.#setConnection('down', error.message);
          this.#waits.problem(error.message, 'lost the registry; traffic goes on with what is known, trying again');
        }
      }
      if (this.#clock.monotonic() - established >= GOOD_SESSION_MS) backoff.reset();
      await this.#clock.sleep(backoff.next(), signal);
    }
  }

  /** Lists everything, then follows the changes until that fails. */
  async #session(own: OwnLease, onEstablished: () => void): Promise<void> {
    const { registry } = this.#options;
    const stored = await registry.getConfig();
    this.#noteConfig(stored.json);
    const snapshot = await registry.list();
    this.#checkCached();
    own.reconcile(snapshot);
    this.#applySnapshot(own, snapshot);
    const both = new AbortController();
    const end = () => both.abort();
    this.#stop.signal.addEventListener('abort', end);
    if (this.#stop.signal.aborted) end();
    const watches = [
      registry.watch({
        after: snapshot.revision,
        signal: both.signal,
        onEstablished,
        onEvents: (events) => this.#applyEvents(own, events),
      }),
      registry.watchConfig({
        after: stored.revision,
        signal: both.signal,
        onEvents: (texts) => this.#noteConfig(texts.at(-1) ?? null),
      }),
    ];
    try {
      await Promise.race(watches);
    } finally {
      end();
      await Promise.allSettled(watches);
      this.#stop.signal.removeEventListener('abort', end);
    }
  }

  #applySnapshot(own: OwnLease, snapshot: Snapshot): void {
    const unreadable = snapshot.malformed.map((entry) => entry.key);
    for (const key of this.#malformed.keys()) if (!unreadable.includes(key)) this.#malformed.delete(key);
    for (const entry of snapshot.malformed) this.#noteMalformed(entry);
    this.#peers.replaceAll(
      snapshot.leases.filter((lease) => this.#isPeer(own, lease)),
      unreadable,
    );
    this.#announce();
  }

  #applyEvents(own: OwnLease, events: readonly WatchEvent[]): void {
    for (const event of events) {
      if (event.kind === 'malformed') this.#noteMalformed(event.entry);
      else this.#malformed.delete(event.kind === 'put' ? event.lease.key : event.key);
      if (own.handle(event) || event.kind === 'malformed') continue;
      if (event.kind === 'put' && this.#isPeer(own, event.lease)) this.#peers.set(event.lease);
      else this.#peers.delete(event.kind === 'put' ? event.lease.key : event.key);
    }
    this.#announceSoon();
  }

  /** Not ours under any key, and with an address that packets can be sent to. */
  #isPeer(own: OwnLease, lease: StoredLease): boolean {
    const { publicIp } = lease.attributes;
    return lease.key !== own.lease.key && publicIp !== this.#options.publicIp && publicIp !== 0;
  }

  #announceSoon(): void {
    if (this.#gathering) return;
    this.#gathering = true;
    void this.#clock.sleep(GATHER_MS, this.#stop.signal).then(() => {
      this.#gathering = false;
      if (!this.#stop.signal.aborted) this.#announce();
    });
  }

  #announce(): void {
    const changes = this.#peers.takeChanges();
    if (changes.length === 0) return;
    this.emit('peers', changes);
    this.#saveSoon();
  }

  #noteMalformed(entry: MalformedEntry): void {
    if (this.#malformed.get(entry.key) === entry.error.problem) return;
    this.#malformed.set(entry.key, entry.error.problem);
    this.#log.warn({ key: entry.key, reason: entry.error.message }, 'ignoring a lease that cannot be read');
  }

  #noteConfig(json: string | null): void {
    if (json === this.#lastConfigSeen) return;
    this.#lastConfigSeen = json;
    if (json === null) {
      this.#log.warn('the network config was deleted; the one in force stays until the next start');
      return;
    }
    if (json === this.#configJson) return;
    try {
      const { config } = checkNetworkConfig(json);
      this.#log.warn({ config: json }, 'the network config was changed; start the daemons again to put it in force');
      this.emit('config', config);
    } catch (error) {
      this.#log.warn(
        { reason: messageOf(error) },
        'the network config was changed to a wrong one; the one in force stays',
      );
    }
  }

  async #loadCache(): Promise<CachedState | null> {
    const state = (await this.#options.cache?.load()) ?? null;
    if (state === null) return null;
    const owner = state.own.attributes.publicIp;
    if (owner === this.#options.publicIp && fitsConfig(state.own.subnet, state.config)) return state;
    this.#log.warn(
      { savedFor: formatIpv4(owner), subnet: formatPrefix(state.own.subnet) },
      'the saved last known state is of another address or network; not using it',
    );
    return null;
  }

  #startFromCache(cached: CachedState): NetworkConfig {
    const { savedAt, own, peers, configJson, config } = cached;
    const now = this.#clock.now();
    this.#log.warn(
      {
        subnet: formatPrefix(own.subnet),
        peers: peers.length,
        savedAt: new Date(savedAt).toISOString(),
        leaseExpired: own.expiresAt !== null && own.expiresAt <= now,
      },
      'the registry is unreachable: starting from the last known state, to be checked when it is back',
    );
    this.#cached = cached;
    this.#configJson = configJson;
    this.#lastConfigSeen = configJson;
    this.#config = config;
    return config;
  }

  /** After a start from the last known state: is the network still the one that was started for? */
  #checkCached(): void {
    if (this.#cached === null) return;
    const { own, config } = this.#cached;
    const json = this.#lastConfigSeen;
    if (json !== null && json !== this.#configJson) {
      const present = tryConfig(json);
      if (present !== null && !(samePrefix(present.network, config.network) && fitsConfig(own.subnet, present))) {
        throw new LeaseLostError(own.subnet, 'the network config was changed while the registry was down');
      }
    }
    this.#log.info('the registry confirms that it is back; comparing the last known state with it');
    this.#cached = null;
  }

  #setConnection(state: ConnectionStatus['state'], reason = ''): void {
    if (this.#connection.state === state && this.#connection.reason === reason) return;
    const since = this.#connection.state === state ? this.#connection.since : this.#clock.now();
    this.#connection = { state, reason, since };
    this.emit('connection', this.#connection);
  }

  #fail(error: unknown): void {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort();
    if (!(error instanceof LeaseLostError)) throw error;
    this.#phase = 'lost';
    this.#log.error({ err: error }, error.message);
    this.emit('lost', error);
  }

  #saveSoon(): void {
    const { cache } = this.#options;
    if (cache === undefined || this.#saving !== null) return;
    this.#saving = this.#clock.sleep(SAVE_DELAY_MS, this.#stop.signal).then(async () => {
      this.#saving = null;
      const own = this.#own?.lease;
      if (own === undefined || this.#phase === 'lost') return;
      const peers = this.#peers.current;
      await cache.save({ configJson: this.#configJson, own, peers, savedAt: this.#clock.now() });
    });
  }

  async #pause(milliseconds: number): Promise<void> {
    await this.#clock.sleep(milliseconds, this.#stop.signal);
    if (this.#stop.signal.aborted) throw new TweedError('LEASE_CLOSED', 'the lease manager was closed while it waited');
  }
}

function tryConfig(json: string): NetworkConfig | null {
  try {
    return checkNetworkConfig(json).config;
  } catch {
    return null;
  }
}
