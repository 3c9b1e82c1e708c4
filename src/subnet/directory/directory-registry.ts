import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDirectory } from '../../base/atomic-file.js';
import { messageOf, TweedError } from '../../base/errors.js';
import { parseJson } from '../../base/json.js';
import type { Logger } from '../../base/log.js';
import {
  CompactedError,
  ConfigChangedError,
  ForeignOwnerError,
  LeaseExistsError,
  LeaseGoneError,
  MalformedLeaseError,
  RegistryError,
} from '../errors.js';
import { encodeLeaseValue, formatSubnetKey } from '../keys.js';
import { type HostAddresses, type LeaseAttributes, type Subnets, sameHost } from '../lease.js';
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
import { watchDirectory } from './directory-watch.js';
import { type Generation, readGeneration, readGenerations, writeGeneration } from './generations.js';

export interface DirectoryRegistryOptions {
  readonly directory: string;
  /** The directory is read anew this often even if no change was notified. */
  readonly rescanMs?: number;
}

/** One key as last seen: what a later look is compared with. */
interface Seen {
  readonly version: string;
  readonly event: WatchEvent;
}

/** The name of the value with the network's configuration. */
const CONFIG = 'config';
/** From so many of the latest snapshots a watch can go on. */
const KEPT_SNAPSHOTS = 8;

/**
 * A registry without a server, for the hosts (network namespaces) of one machine: a directory with the value `config` and,
 * in `subnets/`, one for each lease. The files hold flannel's value with one more member, `ExpiresAt`; a file without it is
 * a reservation. Every change is atomic across processes (see generations.ts).
 */
export class DirectoryRegistry implements Registry {
  readonly description: string;
  readonly #directory: string;
  readonly #subnets: string;
  readonly #rescanMs: number;
  readonly #log: Logger;
  /** Versions by key of the latest snapshots, by revision. */
  readonly #snapshots = new Map<string, ReadonlyMap<string, Seen>>();
  #revision = 0;

  constructor(options: DirectoryRegistryOptions, log: Logger) {
    this.#directory = options.directory;
    this.#subnets = join(options.directory, 'subnets');
    this.#rescanMs = options.rescanMs ?? 5_000;
    this.#log = log;
    this.description = `directory ${options.directory}`;
  }

  getConfig(): Promise<StoredConfig> {
    return this.#guard(async () => {
      await this.#prepare();
      const json = await this.#readConfig();
      const version = digest(json);
      return { json, version, revision: version };
    });
  }

  setConfig(json: string, expected: string | null): Promise<void> {
    return this.#guard(async () => {
      await makeDirectory(this.#subnets);
      for (;;) {
        const present = await readGeneration(this.#directory, CONFIG);
        if (expected !== null && digest(present?.text ?? null) !== expected) throw new ConfigChangedError();
        if ((await writeGeneration(this.#directory, CONFIG, present, json)) !== null) return;
      }
    });
  }

  watchConfig(options: WatchOptions<string | null>): Promise<void> {
    let version = options.after;
    return this.#follow(this.#directory, options, async () => {
      const json = await this.#readConfig();
      if (digest(json) !== version) {
        version = digest(json);
        options.onEvents([json]);
      }
      return null;
    });
  }

  list(): Promise<Snapshot> {
    return this.#guard(async () => {
      await this.#prepare();
      const seen = await this.#scan();
      const revision = String(++this.#revision);
      this.#snapshots.set(revision, seen);
      this.#snapshots.delete(String(this.#revision - KEPT_SNAPSHOTS));
      const leases: StoredLease[] = [];
      const malformed: MalformedEntry[] = [];
      for (const { event } of seen.values()) {
        if (event.kind === 'put') leases.push(event.lease);
        else if (event.kind === 'malformed') malformed.push(event.entry);
      }
      return { leases, malformed, revision };
    });
  }

  create(subnets: Subnets, attributes: LeaseAttributes, ttlSeconds: number): Promise<StoredLease> {
    return this.#guard(async () => {
      await this.#prepare();
      const key = formatSubnetKey(subnets);
      const present = (await readGenerations(this.#subnets)).get(key) ?? null;
      if (present !== null && this.#read(present) !== null) throw new LeaseExistsError(key);
      const written = await this.#write(key, present, attributes, Date.now() + ttlSeconds * 1000);
      if (written === null) throw new LeaseExistsError(key);
      return written;
    });
  }

  renew(lease: StoredLease, attributes: LeaseAttributes, ttlSeconds: number): Promise<StoredLease> {
    return this.#guard(async () => {
      for (;;) {
        const present = await this.#readOwn(lease.key, [lease.attributes, attributes]);
        if (present === null) throw new LeaseGoneError(lease.key);
        const { generation, reservation } = present;
        if (reservation && generation.text === fileText(attributes, null))
          return { ...lease, reservation, expiresAt: null };
        const expiresAt = reservation ? null : Date.now() + ttlSeconds * 1000;
        const written = await this.#write(lease.key, generation, attributes, expiresAt);
        if (written !== null) return written;
      }
    });
  }

  remove(lease: StoredLease): Promise<void> {
    return this.#guard(async () => {
      for (;;) {
        const present = await this.#readOwn(lease.key, [lease.attributes]);
        if (present === null) return;
        if ((await writeGeneration(this.#subnets, lease.key, present.generation, null)) !== null) return;
      }
    });
  }

  async watch(options: WatchOptions<WatchEvent>): Promise<void> {
    const snapshot = this.#snapshots.get(options.after);
    if (snapshot === undefined) throw new CompactedError(options.after);
    let before = snapshot;
    return this.#follow(this.#subnets, options, async () => {
      const seen = await this.#scan();
      const events: WatchEvent[] = [];
      for (const [key, { version, event }] of seen) if (before.get(key)?.version !== version) events.push(event);
      for (const key of before.keys()) if (!seen.has(key)) events.push({ kind: 'delete', key });
      before = seen;
      if (events.length > 0) options.onEvents(events);
      return nextExpiry(seen);
    });
  }

  async close(): Promise<void> {
    this.#snapshots.clear();
  }

  #follow(directory: string, options: WatchOptions<never>, look: () => Promise<number | null>): Promise<void> {
    return this.#guard(async () => {
      await this.#prepare();
      await watchDirectory({
        directory,
        rescanMs: this.#rescanMs,
        signal: options.signal,
        onEstablished: () => options.onEstablished?.(),
        look,
        log: this.#log,
      });
    });
  }

  /** The directory itself must exist: where it does not, something is not mounted, and nobody's leases are gone. */
  async #prepare(): Promise<void> {
    await stat(this.#directory);
    await makeDirectory(this.#subnets);
  }

  async #scan(): Promise<Map<string, Seen>> {
    const seen = new Map<string, Seen>();
    for (const generation of (await readGenerations(this.#subnets)).values()) {
      const event = this.#read(generation);
      if (event !== null) seen.set(generation.name, { version: versionOf(generation), event });
    }
    return seen;
  }

  /** Null for what is deleted or expired. */
  #read(generation: Generation): WatchEvent | null {
    const { name: key, text, fault } = generation;
    if (text === null) return null;
    const expiresAt = expiryOf(text);
    if (expiresAt !== null && expiresAt <= Date.now()) return null;
    const meaning = interpret(key, text);
    if (meaning.kind === 'malformed') {
      const { entry } = meaning;
      const error = fault === undefined ? entry.error : new MalformedLeaseError(key, fault);
      return { kind: 'malformed', entry: { ...entry, error } };
    }
    const { subnet, subnetV6, attributes } = meaning;
    return {
      kind: 'put',
      lease: {
        key,
        subnet,
        subnetV6,
        attributes,
        reservation: expiresAt === null,
        version: versionOf(generation),
        expiresAt,
      },
    };
  }

  /**
   * What stands under our key now. A file that cannot be read has no owner and counts as ours.
   * @throws ForeignOwnerError
   */
  async #readOwn(
    key: string,
    owners: readonly HostAddresses[],
  ): Promise<{ generation: Generation; reservation: boolean } | null> {
    const generation = (await readGenerations(this.#subnets)).get(key);
    const event = generation === undefined ? null : this.#read(generation);
    if (generation === undefined || event === null) return null;
    if (event.kind !== 'put') return { generation, reservation: false };
    const { attributes } = event.lease;
    if (!owners.some((owner) => sameHost(owner, attributes))) throw new ForeignOwnerError(key, attributes);
    return { generation, reservation: event.lease.reservation };
  }

  async #write(
    key: string,
    present: Generation | null,
    attributes: LeaseAttributes,
    expiresAt: number | null,
  ): Promise<StoredLease | null> {
    const written = await writeGeneration(this.#subnets, key, present, fileText(attributes, expiresAt));
    const event = written === null ? null : this.#read(written);
    if (event === null) return null;
    if (event.kind !== 'put')
      throw new TweedError('LEASE_UNREADABLE', `cannot read back the lease ${key}; report this`);
    return event.lease;
  }

  async #readConfig(): Promise<string | null> {
    const { text = null, fault } = (await readGeneration(this.#directory, CONFIG)) ?? {};
    if (fault !== undefined) throw new RegistryError(`${this.description}: ${fault}; delete it`);
    return text;
  }

  /** Turns what the file system throws into the error that callers expect. */
  async #guard<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof TweedError) throw error;
      throw new RegistryError(`${this.description}: ${messageOf(error)}; check that it exists and may be written`, {
        cause: error,
      });
    }
  }
}

function fileText(attributes: LeaseAttributes, expiresAt: number | null): string {
  const value = encodeLeaseValue(attributes);
  if (expiresAt === null) return value;
  return `${value.slice(0, -1)},"ExpiresAt":${JSON.stringify(new Date(expiresAt).toISOString())}}`;
}

/** Null for a reservation, and for what cannot be read: a broken file does not go away by itself. */
function expiryOf(text: string): number | null {
  try {
    const value = parseJson(text);
    const stamp =
      typeof value === 'object' && value !== null ? (value as Record<string, unknown>).ExpiresAt : undefined;
    const time = typeof stamp === 'string' ? Date.parse(stamp) : Number.NaN;
    return Number.isNaN(time) ? null : time;
  } catch {
    return null;
  }
}

function versionOf(generation: Generation): string {
  return `${generation.number}:${generation.text}`;
}

function nextExpiry(seen: ReadonlyMap<string, Seen>): number | null {
  let next: number | null = null;
  for (const { event } of seen.values()) {
    const expiresAt = event.kind === 'put' ? event.lease.expiresAt : null;
    if (expiresAt !== null && (next === null || expiresAt < next)) next = expiresAt;
  }
  return next;
}

function digest(json: string | null): string {
  return json === null ? 'absent' : createHash('sha256').update(json).digest('hex');
}
