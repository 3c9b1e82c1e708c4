import type { Clock } from '../../src/base/clock.js';
import {
  CompactedError,
  ConfigChangedError,
  ForeignOwnerError,
  LeaseExistsError,
  LeaseGoneError,
  RegistryError,
} from '../../src/subnet/errors.js';
import { encodeLeaseValue, formatSubnetKey } from '../../src/subnet/keys.js';
import { type HostAddresses, type LeaseAttributes, type Subnets, sameHost } from '../../src/subnet/lease.js';
import {
  interpret,
  type Registry,
  type Snapshot,
  type StoredConfig,
  type StoredLease,
  type WatchEvent,
  type WatchOptions,
} from '../../src/subnet/registry.js';

interface Entry {
  readonly value: string;
  readonly revision: number;
  /** Milliseconds since the epoch; null for a reservation. */
  readonly expiresAt: number | null;
}

interface Watcher {
  readonly onEvents: (events: WatchEvent[]) => void;
  readonly end: (error: RegistryError | null) => void;
}

/** A store in memory with the faults of a real one on demand: unreachable, compacted, wiped. */
export class MemoryStore {
  revision = 1;
  oldest = 0;
  config: { json: string; revision: number } | null = null;
  /** While it is not empty every request fails with this reason. */
  downBecause = '';
  readonly calls: string[] = [];
  readonly entries = new Map<string, Entry>();
  readonly history: { revision: number; event: WatchEvent }[] = [];
  readonly #watchers = new Set<Watcher>();
  readonly #configWatchers = new Set<Watcher & { readonly onConfig: (json: string | null) => void }>();

  constructor(readonly clock: Clock) {}

  get watching(): number {
    return this.#watchers.size;
  }

  put(key: string, value: string, ttlSeconds: number | null = null): number {
    const revision = ++this.revision;
    const expiresAt = ttlSeconds === null ? null : this.clock.now() + ttlSeconds * 1000;
    this.entries.set(key, { value, revision, expiresAt });
    if (ttlSeconds !== null) {
      void this.clock.sleep(ttlSeconds * 1000, new AbortController().signal).then(() => {
        if (this.entries.get(key)?.revision === revision) this.delete(key);
      });
    }
    const event = this.read(key);
    if (event !== null) this.#tell(event);
    return revision;
  }

  delete(key: string): void {
    if (!this.entries.delete(key)) return;
    this.revision++;
    this.#tell({ kind: 'delete', key });
  }

  setConfig(json: string | null): void {
    this.revision++;
    this.config = json === null ? null : { json, revision: this.revision };
    for (const watcher of this.#configWatchers) watcher.onConfig(json);
  }

  read(key: string): WatchEvent | null {
    const entry = this.entries.get(key);
    const meaning = entry === undefined ? null : interpret(key, entry.value);
    if (entry === undefined || meaning === null) return null;
    if (meaning.kind === 'malformed') return { kind: 'malformed', entry: meaning.entry };
    const { subnet, subnetV6, attributes } = meaning;
    const reservation = entry.expiresAt === null;
    return {
      kind: 'put',
      lease: { key, subnet, subnetV6, attributes, reservation, version: String(entry.revision), expiresAt: null },
    };
  }

  /** From now on every request fails, and the watches end. */
  goDown(reason: string): void {
    this.downBecause = reason;
    this.disconnect(reason);
  }

  comeBack(): void {
    this.downBecause = '';
  }

  disconnect(reason: string): void {
    for (const watcher of [...this.#watchers, ...this.#configWatchers]) watcher.end(new RegistryError(reason));
  }

  /** Forgets the history, and ends the watches as a server does that cannot serve them any more. */
  compact(): void {
    this.oldest = this.revision;
    for (const watcher of [...this.#watchers]) watcher.end(new CompactedError(String(this.revision)));
  }

  /** As after a lost disk: nothing is there, and revisions start anew. */
  wipe(): void {
    this.entries.clear();
    this.history.length = 0;
    this.config = null;
    this.revision = 1;
    this.disconnect('wiped');
  }

  watch(options: WatchOptions<WatchEvent>): Promise<void> {
    const after = Number(options.after);
    if (after < this.oldest) return Promise.reject(new CompactedError(options.after));
    return this.#attach(
      this.#watchers,
      options.signal,
      (watcher) => {
        options.onEstablished?.();
        const missed = this.history.filter((change) => change.revision > after).map((change) => change.event);
        if (missed.length > 0) watcher.onEvents(missed);
        return watcher;
      },
      (events) => options.onEvents(events),
    );
  }

  watchConfig(options: WatchOptions<string | null>): Promise<void> {
    return this.#attach(
      this.#configWatchers,
      options.signal,
      (watcher) => {
        options.onEstablished?.();
        return { ...watcher, onConfig: (json) => options.onEvents([json]) };
      },
      () => {},
    );
  }

  #attach<W extends Watcher>(
    watchers: Set<W>,
    signal: AbortSignal,
    start: (watcher: Watcher) => W,
    onEvents: (events: WatchEvent[]) => void,
  ): Promise<void> {
    if (signal.aborted) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const end = (error: RegistryError | null) => {
        watchers.delete(watcher);
        if (error === null) resolve();
        else reject(error);
      };
      const watcher = start({ onEvents, end });
      watchers.add(watcher);
      signal.addEventListener('abort', () => end(null));
    });
  }

  #tell(event: WatchEvent): void {
    this.history.push({ revision: this.revision, event });
    for (const watcher of this.#watchers) watcher.onEvents([event]);
  }
}

/** One client of a MemoryStore. */
export class MemoryRegistry implements Registry {
  readonly description = 'memory';

  constructor(readonly store: MemoryStore) {}

  async getConfig(): Promise<StoredConfig> {
    this.#enter('getConfig');
    const { config, revision } = this.store;
    return { json: config?.json ?? null, version: String(config?.revision ?? 0), revision: String(revision) };
  }

  async setConfig(json: string, expected: string | null): Promise<void> {
    this.#enter('setConfig');
    if (expected !== null && expected !== String(this.store.config?.revision ?? 0)) throw new ConfigChangedError();
    this.store.setConfig(json);
  }

  async watchConfig(options: WatchOptions<string | null>): Promise<void> {
    this.#enter('watchConfig');
    return this.store.watchConfig(options);
  }

  async list(): Promise<Snapshot> {
    this.#enter('list');
    const events = [...this.store.entries.keys()].map((key) => this.store.read(key));
    const withExpiry = (lease: StoredLease): StoredLease => ({
      ...lease,
      expiresAt: this.store.entries.get(lease.key)?.expiresAt ?? null,
    });
    return {
      leases: events.flatMap((event) => (event?.kind === 'put' ? [withExpiry(event.lease)] : [])),
      malformed: events.flatMap((event) => (event?.kind === 'malformed' ? [event.entry] : [])),
      revision: String(this.store.revision),
    };
  }

  async create(subnets: Subnets, attributes: LeaseAttributes, ttlSeconds: number): Promise<StoredLease> {
    const key = formatSubnetKey(subnets);
    this.#enter(`create ${key}`);
    if (this.store.entries.has(key)) throw new LeaseExistsError(key);
    return this.#write(key, subnets, attributes, ttlSeconds);
  }

  async renew(lease: StoredLease, attributes: LeaseAttributes, ttlSeconds: number): Promise<StoredLease> {
    this.#enter(`renew ${lease.key}`);
    const entry = this.#own(lease.key, [lease.attributes, attributes]);
    if (entry === undefined) throw new LeaseGoneError(lease.key);
    if (entry.expiresAt !== null) return this.#write(lease.key, lease, attributes, ttlSeconds);
    if (entry.value !== encodeLeaseValue(attributes)) this.store.put(lease.key, encodeLeaseValue(attributes));
    return { ...lease, attributes, reservation: true, expiresAt: null };
  }

  async remove(lease: StoredLease): Promise<void> {
    this.#enter(`remove ${lease.key}`);
    if (this.#own(lease.key, [lease.attributes]) !== undefined) this.store.delete(lease.key);
  }

  async watch(options: WatchOptions<WatchEvent>): Promise<void> {
    this.#enter('watch');
    return this.store.watch(options);
  }

  async close(): Promise<void> {}

  #enter(call: string): void {
    this.store.calls.push(call);
    if (this.store.downBecause !== '') throw new RegistryError(this.store.downBecause);
  }

  #own(key: string, owners: readonly HostAddresses[]): Entry | undefined {
    const event = this.store.read(key);
    if (event?.kind === 'put' && !owners.some((owner) => sameHost(owner, event.lease.attributes))) {
      throw new ForeignOwnerError(key, event.lease.attributes);
    }
    return this.store.entries.get(key);
  }

  #write(key: string, { subnet, subnetV6 }: Subnets, attributes: LeaseAttributes, ttlSeconds: number): StoredLease {
    const version = String(this.store.put(key, encodeLeaseValue(attributes), ttlSeconds));
    const expiresAt = this.store.clock.now() + ttlSeconds * 1000;
    return { key, subnet, subnetV6, attributes, reservation: false, version, expiresAt };
  }
}
