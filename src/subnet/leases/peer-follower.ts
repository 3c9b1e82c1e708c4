import { Backoff, type Clock } from '../../base/clock.js';
import { messageOf } from '../../base/errors.js';
import { formatIpv4, overlaps, samePrefix } from '../../base/ipv4.js';
import type { Logger } from '../../base/log.js';
import { Standing } from '../../base/standing.js';
import { CompactedError, RegistryError } from '../errors.js';
import type { PeerChange } from '../lease.js';
import type { MalformedEntry, Registry, Snapshot, StoredLease, WatchEvent } from '../registry.js';
import { type KeyedLease, PeerTable } from './claims.js';
import type { OwnLease } from './own-lease.js';

export interface PeerFollowerContext {
  readonly registry: Registry;
  readonly own: OwnLease;
  readonly clock: Clock;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** The first full list in any case, even an empty one; after that only differences, never none. */
  readonly onPeers: (changes: readonly PeerChange[]) => void;
  /** The stored config, as found at the start of every session and on every change. May throw at the start. */
  readonly onConfig: (json: string | null) => void;
  /** Just before a full list is applied. */
  readonly onListed: () => void;
  readonly onUp: () => void;
  readonly onDown: (reason: string) => void;
}

/** Changes that arrive within this time are announced together. */
const GATHER_MS = 20;
/** A session that lasted this long was a good one: the next failure starts with a short pause again. */
const GOOD_SESSION_MS = 5_000;

/**
 * Follows the leases of the other hosts: lists them, watches what changes, and lists again after every gap. What is known
 * stays in force during a gap, and after it only the differences are announced.
 */
export class PeerFollower {
  readonly #context: PeerFollowerContext;
  readonly #table = new PeerTable();
  /** What was logged about each unreadable key. */
  readonly #malformed = new Map<string, string>();
  /** Keys of other hosts' leases that claim a part of our subnet, each logged once. */
  readonly #rivals = new Set<string>();
  readonly #waits: Standing;
  #gathering = false;
  #listed = false;

  constructor(context: PeerFollowerContext) {
    this.#context = context;
    this.#waits = new Standing(context.log, context.clock);
  }

  get peers(): KeyedLease[] {
    return this.#table.current;
  }

  get malformed(): { key: string; problem: string }[] {
    return [...this.#malformed].map(([key, problem]) => ({ key, problem }));
  }

  /** Takes over what was known in an earlier run. */
  restore(peers: readonly KeyedLease[]): void {
    this.#table.replaceAll(peers);
    this.#announce();
  }

  /** Follows until the signal is aborted. Rejects with whatever `onConfig` throws. */
  async run(): Promise<void> {
    const { signal, clock, log, onUp, onDown } = this.#context;
    const backoff = new Backoff();
    while (!signal.aborted) {
      let established = Number.POSITIVE_INFINITY;
      try {
        await this.#session(() => {
          established = clock.monotonic();
          this.#waits.solved('the registry is back');
          onUp();
        });
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof RegistryError)) throw error;
        if (error instanceof CompactedError) {
          log.info('the registry has compacted its history; listing the leases again');
        } else {
          onDown(error.message);
          this.#waits.problem(messageOf(error), 'lost the registry; traffic goes on with what is known, trying again');
        }
      }
      if (clock.monotonic() - established >= GOOD_SESSION_MS) backoff.reset();
      await clock.sleep(backoff.next(), signal);
    }
  }

  /** Lists everything, then follows the changes until that fails. */
  async #session(onEstablished: () => void): Promise<void> {
    const { registry, own, signal, onConfig, onListed } = this.#context;
    const config = await registry.getConfig();
    onConfig(config.json);
    const snapshot = await registry.list();
    onListed();
    own.reconcile(snapshot);
    this.#applySnapshot(snapshot);
    const both = new AbortController();
    const end = () => both.abort();
    signal.addEventListener('abort', end);
    if (signal.aborted) end();
    const watches = [
      registry.watch({
        after: snapshot.revision,
        signal: both.signal,
        onEstablished,
        onEvents: (events) => this.#applyEvents(events),
      }),
      registry.watchConfig({
        after: config.revision,
        signal: both.signal,
        onEvents: (texts) => onConfig(texts.at(-1) ?? null),
      }),
    ];
    try {
      await Promise.race(watches);
    } finally {
      end();
      await Promise.allSettled(watches);
      signal.removeEventListener('abort', end);
    }
  }

  #applySnapshot(snapshot: Snapshot): void {
    const unreadable = new Set(snapshot.malformed.map((entry) => entry.key));
    for (const key of this.#malformed.keys()) if (!unreadable.has(key)) this.#malformed.delete(key);
    for (const entry of snapshot.malformed) this.#noteMalformed(entry);
    const peers = snapshot.leases.filter((lease) => this.#isPeer(lease));
    this.#table.replaceAll(peers, [...unreadable]);
    this.#announce();
  }

  #applyEvents(events: readonly WatchEvent[]): void {
    const { own } = this.#context;
    for (const event of events) {
      const isOwn = own.handle(event);
      if (event.kind === 'malformed') {
        this.#noteMalformed(event.entry);
        continue;
      }
      const key = event.kind === 'put' ? event.lease.key : event.key;
      this.#malformed.delete(key);
      if (!isOwn && event.kind === 'put' && this.#isPeer(event.lease)) this.#table.set(event.lease);
      else this.#table.delete(key);
    }
    this.#announceSoon();
  }

  /** Not ours under any key, with an address that packets can be sent to, and not the very subnet that is ours. */
  #isPeer(lease: StoredLease): boolean {
    const own = this.#context.own.lease;
    const { publicIp } = lease.attributes;
    if (lease.key === own.key || publicIp === own.attributes.publicIp || publicIp === 0) return false;
    if (overlaps(lease.subnet, own.subnet)) this.#noteRival(lease);
    return !samePrefix(lease.subnet, own.subnet);
  }

  #noteRival({ key, attributes }: StoredLease): void {
    if (this.#rivals.has(key)) return;
    this.#rivals.add(key);
    const owner = formatIpv4(attributes.publicIp);
    this.#context.log.warn(
      { key, owner },
      'another host has leased a subnet that overlaps ours; delete one of the two',
    );
  }

  #announceSoon(): void {
    if (this.#gathering) return;
    this.#gathering = true;
    const { clock, signal } = this.#context;
    void clock.sleep(GATHER_MS, signal).then(() => {
      this.#gathering = false;
      if (!signal.aborted) this.#announce();
    });
  }

  #announce(): void {
    const changes = this.#table.takeChanges();
    if (changes.length === 0 && this.#listed) return;
    this.#listed = true;
    this.#context.onPeers(changes);
  }

  #noteMalformed({ key, error }: MalformedEntry): void {
    if (this.#malformed.get(key) === error.problem) return;
    this.#malformed.set(key, error.problem);
    this.#context.log.warn({ key, reason: error.message }, 'ignoring a lease that cannot be read');
  }
}
