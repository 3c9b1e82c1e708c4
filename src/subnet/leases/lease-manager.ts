import { EventEmitter } from 'node:events';
import { Backoff, type Clock, systemClock } from '../../base/clock.js';
import { messageOf, TweedError } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import { Standing } from '../../base/standing.js';
import { unforeseen } from '../../base/unforeseen.js';
import { ConfigError, ForeignOwnerError, LeaseLostError, RegistryError, StateOutdatedError } from '../errors.js';
import {
  type HostAddresses,
  type Lease,
  type LeaseAttributes,
  type PeerSet,
  publicName,
  type Subnets,
  sameHost,
  subnetName,
} from '../lease.js';
import { checkNetworkConfig, fitsConfig, type NetworkConfig } from '../network-config/config.js';
import { DEFAULT_TTL_SECONDS, type Registry, type StoredLease } from '../registry.js';
import { acquireLease } from './acquire.js';
import { type LeaseCause, OwnLease } from './own-lease.js';
import {
  type CachedState,
  CacheWriter,
  describeState,
  isCurrent,
  type PeerCache,
  type StateToSave,
} from './peer-cache.js';
import { PeerFollower } from './peer-follower.js';

export interface LeaseManagerOptions {
  readonly registry: Registry;
  readonly log: Logger;
  /** Whose saved state may be used. */
  readonly host: HostAddresses;
  /** From subnet.env. */
  readonly previous?: Subnets;
  readonly ttlSeconds?: number;
  /** A lease is renewed this long before its end. Default 60 minutes. */
  readonly renewMarginMs?: number;
  /** Where the last known state is kept. A start begins from it while the lease in it is ours by the clock. */
  readonly cache?: PeerCache;
  /** Begin also from one that is too old for that, after the registry has been unreachable for so long; without it, never. */
  readonly startFromCacheAfterMs?: number;
  readonly clock?: Clock;
  /** Gives a number from 0 up to, but not including, 1. */
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
  readonly phase: 'new' | 'waiting for config' | 'acquiring' | 'following' | 'lost' | 'closed';
  readonly connection: ConnectionStatus;
  readonly config: NetworkConfig | null;
  readonly lease: StoredLease | null;
  /** Milliseconds since the epoch; null for a reservation. */
  readonly renewAt: number | null;
  /** True from a beginning with the last known state until the registry has been compared with it. */
  readonly fromCache: boolean;
  /** Somebody else writes this host's lease as well. */
  readonly hasTwin: boolean;
  readonly peers: PeerSet;
  readonly malformed: readonly { readonly key: string; readonly problem: string }[];
}

export interface LeaseManagerEvents {
  /** The peers are others than before; many changes that come together are one. */
  peers: [];
  lease: [lease: Lease, cause: LeaseCause];
  /** Forwarding must stop; nothing follows after it. */
  lost: [error: LeaseLostError];
  connection: [status: ConnectionStatus];
  /** The stored configuration is another one now. The one in force stays until the daemon is started again. */
  config: [config: NetworkConfig];
}

const NO_PEERS: PeerSet = { leases: [], complete: false };

/** Stopping does not wait longer than this for requests that are under way. */
const STOP_TIMEOUT_MS = 1_000;
/** What was broken off by an error that nobody foresaw begins again after this time. */
const RESUME_MS = 1_000;

/**
 * One host's dealings with the registry. In order: `waitForConfig`, `acquire`, `follow`, then `release` or `close`.
 *
 * A daemon that was started again begins with what the one before it knew, as long as its lease has time left: nobody else
 * may have the subnet until then, whatever the registry is doing. What the registry says is compared when it answers.
 *
 * A registry that is down stops nothing: what is known stays in force, and every wait is said in the log once, and again
 * now and then.
 */
export class LeaseManager extends EventEmitter<LeaseManagerEvents> {
  readonly #options: LeaseManagerOptions;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #stop = new AbortController();
  readonly #waits: Standing;
  readonly #saver: CacheWriter | null;
  #phase: LeaseManagerStatus['phase'] = 'new';
  #connection: ConnectionStatus;
  #config: NetworkConfig | null = null;
  /** The text of the config in force. */
  #configJson = '';
  /** The text last seen in the registry, so that every other one is reported once. */
  #seenConfig: string | null = null;
  /** The state this run was begun with, until it was compared with the registry. */
  #cached: CachedState | null = null;
  #verified = true;
  #own: OwnLease | null = null;
  #follower: PeerFollower | null = null;
  #running: Promise<unknown> | null = null;

  constructor(options: LeaseManagerOptions) {
    super();
    this.#options = options;
    this.#log = options.log;
    this.#clock = options.clock ?? systemClock;
    this.#waits = new Standing(options.log, this.#clock);
    this.#connection = { state: 'connecting', reason: '', since: this.#clock.now() };
    this.#saver =
      options.cache === undefined ? null : new CacheWriter(options.cache, this.#clock, () => this.#stateToSave());
  }

  status(): LeaseManagerStatus {
    return {
      registry: this.#options.registry.description,
      phase: this.#phase,
      connection: this.#connection,
      config: this.#config,
      lease: this.#own?.lease ?? null,
      renewAt: this.#own?.renewAt ?? null,
      fromCache: this.#cached !== null,
      hasTwin: this.#own?.hasTwin ?? false,
      peers: this.peers,
      malformed: this.#follower?.malformed ?? [],
    };
  }

  /** The other hosts' leases. Another object after every change. */
  get peers(): PeerSet {
    return this.#follower?.peers ?? NO_PEERS;
  }

  /** From now on this host's lease is to say this. It is written as soon as the registry answers; the subnet stays. */
  announce(attributes: LeaseAttributes): void {
    this.#own?.announce(attributes);
    this.#saver?.touch();
  }

  /**
   * The last known configuration where it will do; else waits until a good one is there, for as long as it takes. Rejects
   * only when closed meanwhile. Call it again when nothing can be made of what it gave: it asks the registry then.
   */
  async waitForConfig(): Promise<NetworkConfig> {
    const { registry, startFromCacheAfterMs: patience } = this.#options;
    const start = this.#clock.monotonic();
    const cached = this.#phase === 'new' ? await this.#loadCache() : null;
    this.#phase = 'waiting for config';
    this.#cached = null;
    if (cached !== null && isCurrent(cached, this.#clock.now())) {
      this.#log.info(
        describeState(cached),
        'beginning with the last known state; the registry is compared when it answers',
      );
      return this.#beginWith(cached);
    }
    const backoff = new Backoff();
    for (;;) {
      try {
        const { json } = await registry.getConfig();
        this.#setConnection('up');
        if (json !== null) return this.#putInForce(json);
        const message = `waiting for the network config: ${registry.description} has none; write one with "tweed network set"`;
        this.#waits.problem('absent', message);
      } catch (error) {
        const reason = messageOf(error);
        if (error instanceof ConfigError) {
          this.#waits.problem(reason, 'waiting for a good network config; the present one is wrong');
        } else if (error instanceof RegistryError) {
          this.#setConnection('down', reason);
          this.#waits.problem(reason, 'waiting for the registry, to read the network config');
          const waited = this.#clock.monotonic() - start;
          if (cached !== null && patience !== undefined && waited >= patience) {
            const leaseExpired = cached.own.expiresAt !== null && cached.own.expiresAt <= this.#clock.now();
            const message =
              'the registry is unreachable: starting from the last known state, to be compared when it is back';
            this.#log.warn({ ...describeState(cached), leaseExpired }, message);
            return this.#beginWith(cached);
          }
        } else throw error;
      }
      await this.#pause(backoff.next());
    }
  }

  /** Gets this host a subnet, for as long as it takes. The peers are known then. Rejects only when closed meanwhile. */
  async acquire(config: NetworkConfig, attributes: LeaseAttributes): Promise<Lease> {
    this.#phase = 'acquiring';
    const cached = this.#cached;
    const { lease, peers } =
      cached === null ? await this.#acquireFromRegistry(config, attributes) : { ...cached, lease: cached.own };
    this.#verified = cached === null;
    const { registry, renewMarginMs = 60 * 60_000 } = this.#options;
    const context = {
      registry,
      ttlSeconds: this.#ttlSeconds,
      renewMarginMs,
      clock: this.#clock,
      log: this.#log,
      onLease: (renewed: StoredLease, cause: LeaseCause) => {
        this.emit('lease', renewed, cause);
        this.#saver?.touch();
      },
      onLost: (error: LeaseLostError) => this.#fail(error),
    };
    const own = new OwnLease(context, lease, attributes, this.#verified);
    const follower = new PeerFollower({
      registry,
      own,
      clock: this.#clock,
      log: this.#log,
      signal: this.#stop.signal,
      onPeers: () => {
        unforeseen.guard('telling of new peers', () => this.emit('peers'));
        this.#saver?.touch();
      },
      onConfig: (json) => unforeseen.guard('looking at the network config', () => this.#noteConfig(json)),
      onListed: () => this.#checkCached(),
      onUp: () => {
        this.#setConnection('up');
        this.#saver?.touch();
      },
      onDown: (reason) => this.#setConnection('down', reason),
    });
    follower.seed(peers, this.#verified);
    this.#own = own;
    this.#follower = follower;
    return lease;
  }

  /**
   * Keeps the lease and follows the peers from now on. Apart from `acquire`, so that a daemon that knows its lease already
   * can first forward: to load etcd's client, and to be answered, takes longer than all that comes before it.
   */
  follow(): void {
    const own = this.#own;
    const follower = this.#follower;
    if (own === null || follower === null || this.#running !== null || this.#stop.signal.aborted) return;
    this.#phase = 'following';
    this.#running = Promise.all([
      this.#keepDoing('keeping the own lease', () => own.run(this.#stop.signal)),
      this.#keepDoing('following the peers', () => follower.run()),
    ]);
  }

  /** Stops, and gives the subnet back; a reservation stays. A lease that cannot be given back in a second is logged. */
  async release(): Promise<void> {
    await this.close();
    const lease = this.#own?.lease;
    if (lease === undefined || lease.reservation || this.#phase === 'lost') return;
    const failed = (reason: string) =>
      this.#log.warn({ key: lease.key, reason }, 'cannot release the own lease; it will expire');
    const removed = this.#options.registry.remove(lease).then(
      async () => {
        this.#log.info({ key: lease.key }, 'released the own lease');
        await this.#options.cache?.clear();
      },
      (error: unknown) => {
        if (!(error instanceof RegistryError || error instanceof ForeignOwnerError)) throw error;
        failed(error.message);
      },
    );
    if (!(await this.#endsInTime(removed))) failed(`no answer within ${STOP_TIMEOUT_MS} ms`);
  }

  /** Stops; the lease stays. Does not close the registry. Takes no longer than a second, even with requests under way. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#endsInTime(this.#running ?? Promise.resolve());
    await this.#saver?.close();
    if (this.#phase === 'lost') await this.#options.cache?.clear();
    else this.#phase = 'closed';
  }

  get #ttlSeconds(): number {
    return this.#options.ttlSeconds ?? DEFAULT_TTL_SECONDS;
  }

  #putInForce(json: string): NetworkConfig {
    const { config, warnings } = checkNetworkConfig(json);
    for (const warning of warnings) this.#log.warn(`network config: ${warning}`);
    this.#waits.solved('the network config is there');
    this.#configJson = json;
    this.#seenConfig = json;
    this.#config = config;
    return config;
  }

  async #acquireFromRegistry(config: NetworkConfig, attributes: LeaseAttributes) {
    const backoff = new Backoff();
    for (;;) {
      try {
        const { lease, snapshot } = await acquireLease({
          registry: this.#options.registry,
          config,
          attributes,
          previous: this.#options.previous ?? { subnet: null, subnetV6: null },
          ttlSeconds: this.#ttlSeconds,
          random: this.#options.random ?? Math.random,
          clock: this.#clock,
          log: this.#log,
          signal: this.#stop.signal,
        });
        this.#waits.solved('got a lease after all');
        this.#setConnection('up');
        this.#log.info({ key: lease.key, reservation: lease.reservation }, 'this host has leased its subnet');
        return { lease, peers: snapshot.leases };
      } catch (error) {
        if (!(error instanceof TweedError)) throw error;
        if (error instanceof RegistryError) this.#setConnection('down', error.message);
        this.#waits.problem(error.message, 'waiting for a lease');
      }
      await this.#pause(backoff.next());
    }
  }

  #noteConfig(json: string | null): void {
    if (json === this.#seenConfig) return;
    this.#seenConfig = json;
    if (json === this.#configJson) return;
    if (json === null) {
      this.#log.warn('the network config was deleted; the one in force stays until the next start');
      return;
    }
    try {
      const { config } = checkNetworkConfig(json);
      this.#log.warn({ config: json }, 'the network config was changed; start the daemons again to put it in force');
      this.emit('config', config);
      this.#saver?.touch();
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      this.#log.warn(
        { reason: error.message },
        'the network config was changed to a wrong one; the one in force stays',
      );
    }
  }

  async #loadCache(): Promise<CachedState | null> {
    const state = (await this.#options.cache?.load()) ?? null;
    if (state === null) return null;
    const owner = state.own.attributes;
    if (sameHost(owner, this.#options.host) && fitsConfig(state.own, state.config)) return state;
    this.#log.warn(
      { savedFor: publicName(owner), subnet: subnetName(state.own) },
      'the saved last known state is of another address or network; not using it',
    );
    return null;
  }

  #beginWith(cached: CachedState): NetworkConfig {
    const { configJson, config } = cached;
    this.#cached = cached;
    this.#configJson = configJson;
    this.#seenConfig = configJson;
    this.#config = config;
    return config;
  }

  /** After a beginning with the last known state: is the configuration still the one that it was begun for? */
  #checkCached(): void {
    if (this.#cached === null) return;
    const { own, configJson } = this.#cached;
    const present = this.#seenConfig;
    if (present !== null && present !== configJson && isConfig(present)) throw new StateOutdatedError(own);
    this.#log.info('comparing the last known state with the registry');
    this.#cached = null;
  }

  #setConnection(state: ConnectionStatus['state'], reason = ''): void {
    if (this.#connection.state === state && this.#connection.reason === reason) return;
    const since = this.#connection.state === state ? this.#connection.since : this.#clock.now();
    this.#connection = { state, reason, since };
    this.emit('connection', this.#connection);
  }

  #fail(error: LeaseLostError): void {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort();
    this.#phase = 'lost';
    if (error instanceof StateOutdatedError) this.#log.warn(error.message);
    else this.#log.error({ code: error.code }, error.message);
    this.emit('lost', error);
  }

  /** Until the manager is closed or the lease is lost: what nobody foresaw ends neither the lease nor the following. */
  async #keepDoing(what: string, run: () => Promise<void>): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        return await run();
      } catch (error) {
        if (error instanceof LeaseLostError) return this.#fail(error);
        unforeseen.note(what, error);
        await this.#clock.sleep(RESUME_MS, signal);
      }
    }
  }

  #stateToSave(): StateToSave | null {
    const own = this.#own?.lease;
    if (own === undefined || this.#phase === 'lost') return null;
    // what a later start is to begin with is the configuration that would be in force then
    const newest = this.#seenConfig !== null && isConfig(this.#seenConfig) ? this.#seenConfig : this.#configJson;
    return { configJson: newest, own, peers: this.#follower?.keyed ?? [], savedAt: this.#clock.now() };
  }

  async #endsInTime(work: Promise<unknown>): Promise<boolean> {
    const timer = new AbortController();
    const timeout = this.#clock.sleep(STOP_TIMEOUT_MS, timer.signal).then(() => false);
    const inTime = await Promise.race([work.then(() => true), timeout]);
    timer.abort();
    return inTime;
  }

  async #pause(milliseconds: number): Promise<void> {
    await this.#clock.sleep(milliseconds, this.#stop.signal);
    if (this.#stop.signal.aborted) {
      throw new TweedError('LEASE_CLOSED', 'the lease manager was closed while it waited; nothing is left to do');
    }
  }
}

function isConfig(json: string): boolean {
  try {
    checkNetworkConfig(json);
    return true;
  } catch {
    return false;
  }
}
