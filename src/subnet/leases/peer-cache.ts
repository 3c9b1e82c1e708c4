import { rm } from 'node:fs/promises';
import { replaceFile } from '../../base/atomic-file.js';
import type { Clock } from '../../base/clock.js';
import { messageOf } from '../../base/errors.js';
import { formatPrefix, parsePrefix } from '../../base/ipv4.js';
import { formatIpv6Prefix, parseIpv6Prefix } from '../../base/ipv6.js';
import { type JsonLimits, parseJson } from '../../base/json.js';
import type { Logger } from '../../base/log.js';
import { shown } from '../../base/printable.js';
import { Standing } from '../../base/standing.js';
import { readTextFile } from '../../base/text-file.js';
import { decodeLeaseValue, encodeLeaseValue } from '../keys.js';
import { halvesOf, subnetName } from '../lease.js';
import { type NetworkConfig, parseNetworkConfig } from '../network-config/config.js';
import type { StoredLease } from '../registry.js';
import type { KeyedLease } from './claims.js';

/** What a daemon needs to know to start while the registry is down. */
export interface CachedState {
  readonly configJson: string;
  readonly config: NetworkConfig;
  readonly own: StoredLease;
  readonly peers: readonly KeyedLease[];
  /** Milliseconds since the epoch. */
  readonly savedAt: number;
  /** It was learnt from the registry that this run asks, too. */
  readonly ofThisRegistry: boolean;
}

/** What is saved; the rest comes of it. */
export type StateToSave = Omit<CachedState, 'config' | 'ofThisRegistry'>;

const FORMAT = 1;
/** Some 200,000 peers, each in three levels; more is not ours. */
const LIMITS: JsonLimits = { length: 1 << 26, depth: 4 };
/** The state on disk may be this old. */
const SAVE_DELAY_MS = 2_000;
/** What could not be saved is tried again so often. */
const RETRY_MS = 10_000;

/** A lease that has no more than this left is not begun with: the registry may be the first to say that it has run out. */
const CLOCK_TOLERANCE_MS = 5_000;

/**
 * Is its lease ours by the clock, and the registry the one that we have? A state from the future tells that the clock was
 * put back, and nothing of how much time is left.
 *
 * @param now milliseconds since the epoch
 */
export function isCurrent({ own: { expiresAt }, savedAt, ofThisRegistry }: CachedState, now: number): boolean {
  return ofThisRegistry && savedAt <= now && (expiresAt === null || expiresAt - CLOCK_TOLERANCE_MS > now);
}

/** For the log. */
export function describeState({ own, peers, savedAt }: CachedState): Record<string, unknown> {
  return { subnet: subnetName(own), peers: peers.length, savedAt: new Date(savedAt).toISOString() };
}

/** The last known state on disk: one JSON file, replaced atomically. */
export class PeerCache {
  readonly #complaints: Standing;

  constructor(
    readonly path: string,
    private readonly log: Logger,
    /** Anything that is the same for the same registry only. Holds no secret. */
    private readonly registry = '',
  ) {
    this.#complaints = new Standing(log);
  }

  /** Null when there is none, or none that can be trusted; the reason is logged. */
  async load(): Promise<CachedState | null> {
    let text: string;
    try {
      text = await readTextFile(this.path, LIMITS.length);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.#reject(messageOf(error));
      return null;
    }
    try {
      return parseState(parseJson(text, LIMITS), this.registry);
    } catch (error) {
      this.#reject(messageOf(error));
      return null;
    }
  }

  /** A failure is logged once, and no more: the cache is a convenience. @returns whether it was saved */
  save(state: StateToSave): Promise<boolean> {
    return this.#complaints.attempt(`saving the last known state in ${this.path}`, () =>
      replaceFile(this.path, `${JSON.stringify(formatState(state, this.registry))}\n`, 0o600),
    );
  }

  /** Forgets the state: it must not be started from any more. */
  async clear(): Promise<void> {
    await rm(this.path, { force: true }).catch((error: unknown) => {
      this.log.warn({ path: this.path, reason: messageOf(error) }, 'cannot delete the last known state');
    });
  }

  #reject(reason: string): void {
    this.log.warn({ path: this.path, reason }, 'the saved last known state cannot be used');
  }
}

/** Saves the state a little after it changed, however often it changes. */
export class CacheWriter {
  readonly #stop = new AbortController();
  #dirty = false;
  #running: Promise<void> = Promise.resolve();
  #busy = false;

  /** @param state What is to be saved, asked for when it is; null for nothing any more. */
  constructor(
    private readonly cache: PeerCache,
    private readonly clock: Clock,
    private readonly state: () => StateToSave | null,
  ) {}

  /** The state has changed. */
  touch(): void {
    this.#dirty = true;
    if (this.#busy) return;
    this.#busy = true;
    this.#running = this.#run().finally(() => {
      this.#busy = false;
    });
  }

  /** Saves what is not saved yet, and ends. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    let delay = SAVE_DELAY_MS;
    while (this.#dirty) {
      await this.clock.sleep(delay, this.#stop.signal);
      this.#dirty = false;
      const state = this.state();
      if (state === null || (await this.cache.save(state))) continue;
      delay = RETRY_MS;
      this.#dirty = !this.#stop.signal.aborted;
    }
  }
}

function formatState(state: StateToSave, registry: string): object {
  return {
    format: FORMAT,
    registry,
    savedAt: state.savedAt,
    config: state.configJson,
    own: { ...formatLease(state.own), reservation: state.own.reservation, expiresAt: state.own.expiresAt },
    peers: state.peers.map(formatLease),
  };
}

function formatLease(lease: KeyedLease): Record<string, unknown> {
  const { key, subnet, subnetV6 } = lease;
  return {
    key,
    subnet: subnet === null ? null : formatPrefix(subnet),
    ...(subnetV6 !== null && { subnetV6: formatIpv6Prefix(subnetV6) }),
    value: encodeLeaseValue(lease.attributes),
  };
}

function parseState(value: unknown, registry: string): CachedState {
  const state = object(value, 'the file');
  if (state.format !== FORMAT) throw new Error(`format ${shown(state.format)} is unknown`);
  if (typeof state.config !== 'string') throw new Error('config is missing');
  if (!Array.isArray(state.peers)) throw new Error('peers is no list');
  const own = object(state.own, 'own');
  const { expiresAt } = own;
  if (expiresAt !== null && !isTime(expiresAt)) throw new Error('own.expiresAt is no time');
  if (!isTime(state.savedAt)) throw new Error('savedAt is no time');
  return {
    configJson: state.config,
    config: parseNetworkConfig(state.config),
    own: { ...parseLease(own), version: '', reservation: own.reservation === true, expiresAt },
    peers: state.peers.map((peer) => parseLease(object(peer, 'a peer'))),
    savedAt: state.savedAt,
    ofThisRegistry: state.registry === registry,
  };
}

function parseLease(value: Record<string, unknown>): KeyedLease {
  const { key, subnet, subnetV6 = null, value: encoded } = value;
  if (typeof key !== 'string' || typeof encoded !== 'string') throw new Error('a lease lacks key or value');
  const halves = {
    subnet: parseHalf(subnet, (text) => parsePrefix(text, { maskHostBits: true })),
    subnetV6: parseHalf(subnetV6, parseIpv6Prefix),
  };
  if (halvesOf(halves).length === 0) throw new Error('a lease lacks its subnet');
  return { key, ...halves, attributes: decodeLeaseValue(key, encoded), expiresAt: null };
}

function parseHalf<Half>(text: unknown, parse: (text: string) => Half | null): Half | null {
  if (text === null) return null;
  const half = typeof text === 'string' ? parse(text) : null;
  if (half === null) throw new Error(`${shown(text)} is no subnet`);
  return half;
}

function object(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error(`${what} is no object`);
  return value as Record<string, unknown>;
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}
