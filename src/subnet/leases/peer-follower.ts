import { Backoff, type Clock } from '../../base/clock.js';
import { messageOf } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import { Standing } from '../../base/standing.js';
import { unforeseen } from '../../base/unforeseen.js';
import { CompactedError, LeaseLostError, RegistryError } from '../errors.js';
import type { PeerSet } from '../lease.js';
import type { Registry, Snapshot, WatchEvent } from '../registry.js';
import { Claims, type KeyedLease } from './claims.js';
import type { OwnLease } from './own-lease.js';

export interface PeerFollowerContext {
  readonly registry: Registry;
  readonly own: OwnLease;
  readonly clock: Clock;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** `peers` is another one than before. Must not throw. */
  readonly onPeers: () => void;
  /** The stored config, as found at the start of every session and on every change. Must not throw. */
  readonly onConfig: (json: string | null) => void;
  /** Just before a full list is applied. May throw a LeaseLostError. */
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
 * stays in force during a gap.
 */
export class PeerFollower {
  readonly #context: PeerFollowerContext;
  readonly #claims = new Claims();
  /** What is wrong with each key that cannot be read. */
  readonly #malformed = new Map<string, string>();
  readonly #unreadable: Standing;
  readonly #waits: Standing;
  #peers: PeerSet = { leases: [], complete: false };
  #changed = false;
  #gathering = false;

  constructor(context: PeerFollowerContext) {
    this.#context = context;
    this.#unreadable = new Standing(context.log, context.clock);
    this.#waits = new Standing(context.log, context.clock);
  }

  /** Another object after every change, the same one as long as there is none. */
  get peers(): PeerSet {
    return this.#peers;
  }

  /** The leases in force with their keys. */
  get keyed(): readonly KeyedLease[] {
    return this.#claims.inForce;
  }

  get malformed(): { key: string; problem: string }[] {
    return [...this.#malformed].map(([key, problem]) => ({ key, problem }));
  }

  /** Begins with what is known already, before `run`. @param complete whether the registry said so just now */
  seed(leases: readonly KeyedLease[], complete: boolean): void {
    this.#claims.replaceAll(leases.filter(({ key }) => key !== this.#context.own.lease.key));
    this.#peers = { leases: this.#claims.inForce, complete };
  }

  /** Follows until the signal is aborted. @throws LeaseLostError from `onListed` */
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
        if (error instanceof LeaseLostError) throw error;
        if (!(error instanceof RegistryError)) unforeseen.note('following the registry', error);
        if (error instanceof CompactedError) {
          log.info('the registry has compacted its history; listing the leases again');
        } else {
          onDown(messageOf(error));
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
    unforeseen.guard('comparing the own lease', () => own.compare(snapshot));
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
    this.#malformed.clear();
    for (const { key, error } of snapshot.malformed) this.#malformed.set(key, error.problem);
    this.#tellUnreadable();
    const others = snapshot.leases.filter(({ key }) => key !== this.#context.own.lease.key);
    const changed = this.#claims.replaceAll(others, [...this.#malformed.keys()]);
    this.#changed ||= changed || !this.#peers.complete;
    this.#announce();
  }

  #applyEvents(events: readonly WatchEvent[]): void {
    for (const event of events) unforeseen.guard('applying a change of the registry', () => this.#applyEvent(event));
    this.#tellUnreadable();
    this.#announceSoon();
  }

  #applyEvent(event: WatchEvent): void {
    const { own } = this.#context;
    if (event.kind === 'malformed') {
      own.handle(event);
      this.#malformed.set(event.entry.key, event.entry.error.problem);
      return;
    }
    const key = event.kind === 'put' ? event.lease.key : event.key;
    this.#malformed.delete(key);
    const isOwn = own.handle(event);
    const changed = !isOwn && event.kind === 'put' ? this.#claims.set(event.lease) : this.#claims.delete(key);
    this.#changed ||= changed;
  }

  #announceSoon(): void {
    if (this.#gathering || !this.#changed) return;
    this.#gathering = true;
    const { clock, signal } = this.#context;
    void clock.sleep(GATHER_MS, signal).then(() => {
      this.#gathering = false;
      if (!signal.aborted) this.#announce();
    });
  }

  #announce(): void {
    if (!this.#changed) return;
    this.#changed = false;
    this.#peers = { leases: this.#claims.inForce, complete: true };
    this.#context.onPeers();
  }

  #tellUnreadable(): void {
    const troubles = [...this.#malformed].map(([key, problem]) => [
      key,
      `ignoring a lease that cannot be read: ${problem}`,
    ]);
    this.#unreadable.update(new Map(troubles as [string, string][]), 'key');
  }
}
