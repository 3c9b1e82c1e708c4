/**
 * This host's lease: what stands in the registry under its key is to be what this host announces.
 *
 * Theory of operation. `run` does all the writing, one thing after the other. It writes when the lease has to be renewed
 * and when there is a doubt: the watch or a list shows under our key what we did not write (another value, none, another
 * host's), or what is announced has changed. A doubt is settled by one look at the whole list, whatever raised it: our
 * value is written again where it is damaged, the key is made again where it is gone and nobody took the subnet, and
 * the lease is lost where another host has it. A new public address is one comparing write of the same key, so there is
 * no moment at which another host could take the subnet.
 */
import { Backoff, type Clock } from '../../base/clock.js';
import { messageOf } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import { Standing } from '../../base/standing.js';
import { ForeignOwnerError, LeaseExistsError, LeaseGoneError, LeaseLostError } from '../errors.js';
import { encodeLeaseValue } from '../keys.js';
import {
  type HostAddresses,
  type LeaseAttributes,
  publicName,
  sameHost,
  subnetName,
  subnetsOverlap,
} from '../lease.js';
import type { Registry, Snapshot, StoredLease, WatchEvent } from '../registry.js';
import { foreignSubnets } from './acquire.js';

export interface OwnLeaseContext {
  readonly registry: Registry;
  readonly ttlSeconds: number;
  readonly renewMarginMs: number;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onLease: (lease: StoredLease, cause: LeaseCause) => void;
  /** Called once; nothing follows after it. */
  readonly onLost: (error: LeaseLostError) => void;
}

/** Why the own lease was written: its time was due, it had disappeared or changed, or it announces something else now. */
export type LeaseCause = 'renewed' | 're-acquired' | 'restored' | 'announced';

/** The clocks are compared at least this often, since one of them may stand still or jump. */
const LONGEST_SLEEP_MS = 30_000;

/** Where somebody writes over our lease again and again, ours is written again at most so often, at first and at last. */
const FIRST_RESTORE_PAUSE_MS = 500;
const LAST_RESTORE_PAUSE_MS = 60_000;

/** What the log and the status say of two hosts that share one lease. */
export const TWIN_WARNING =
  'somebody else writes this host’s lease: another host has the same public address; give each its own with -public-ip';

/** So many renewals without another's write between them, and we are alone again. */
const RENEWALS_ALONE = 2;

/** A write of ours may be heard of only after the next one. */
const KEPT_VERSIONS = 4;

/** How long after a renewal the next one is due, in milliseconds. */
export function renewalDelay(ttlMs: number, marginMs: number): number {
  return Math.max(marginMs < ttlMs ? ttlMs - marginMs : ttlMs / 2, Math.min(1_000, ttlMs / 2));
}

export class OwnLease {
  readonly #context: OwnLeaseContext;
  readonly #problems: Standing;
  readonly #restores = new Backoff(FIRST_RESTORE_PAUSE_MS, LAST_RESTORE_PAUSE_MS);
  #wanted: LeaseAttributes;
  #lease: StoredLease;
  /** What stands in the registry may be something else than what is wanted. */
  #doubt = false;
  #writing = false;
  /** Versions of our key that we wrote, the latest last. */
  readonly #written: string[] = [];
  /** A version of our key with our value whose writer is not known yet; it came during a write of our own. */
  #unexplained = '';
  #hasTwin = false;
  #renewalsAlone = 0;
  #absenceNoted = false;
  #restoredAt = Number.NEGATIVE_INFINITY;
  #restorePause = 0;
  /** When the next renewal is due, by both clocks; whichever is first. */
  #dueWall = 0;
  #dueMonotonic = 0;
  #isLost = false;
  #wake = () => {};

  /**
   * @param lease As it was just written; or, with `verified` false, as it is remembered from an earlier run: then nothing is
   * done before the first `compare`.
   */
  constructor(context: OwnLeaseContext, lease: StoredLease, wanted: LeaseAttributes, verified: boolean) {
    this.#context = context;
    this.#lease = lease;
    this.#wanted = wanted;
    this.#problems = new Standing(context.log, context.clock);
    if (verified) this.#wrote(lease);
    else this.#schedule(Number.POSITIVE_INFINITY);
  }

  get lease(): StoredLease {
    return this.#lease;
  }

  /** Milliseconds since the epoch; null for a reservation. */
  get renewAt(): number | null {
    return this.#lease.reservation || !Number.isFinite(this.#dueWall) ? null : this.#dueWall;
  }

  /** Somebody else writes the same value under our key. */
  get hasTwin(): boolean {
    return this.#hasTwin;
  }

  /** From now on this is what the lease is to say. */
  announce(attributes: LeaseAttributes): void {
    if (encodeLeaseValue(attributes) === encodeLeaseValue(this.#wanted)) return;
    this.#wanted = attributes;
    this.#raiseDoubt();
  }

  /** Compares with a full list, after a gap in which anything may have happened. */
  compare(snapshot: Snapshot): void {
    const stored = snapshot.leases.find((lease) => lease.key === this.#lease.key);
    if (stored === undefined || !this.#says(stored)) this.#raiseDoubt();
    else {
      const unsure = !Number.isFinite(this.#dueWall) || (this.#lease.expiresAt ?? 0) <= this.#context.clock.now();
      this.#agree(stored);
      if (unsure && !stored.reservation) this.#renewNow();
    }
  }

  /** Looks at one event of the watch; false when it is about another key. */
  handle(event: WatchEvent): boolean {
    const key = event.kind === 'put' ? event.lease.key : event.kind === 'malformed' ? event.entry.key : event.key;
    if (key !== this.#lease.key) return false;
    if (event.kind !== 'put' || !this.#says(event.lease)) this.#raiseDoubt();
    else this.#agree(event.lease);
    return true;
  }

  /** Keeps the lease until the signal is aborted or the lease is lost. */
  async run(signal: AbortSignal): Promise<void> {
    const longestPause = Math.min(60_000, (this.#context.ttlSeconds * 1000) / 10);
    const backoff = new Backoff(Math.min(200, longestPause), longestPause);
    while (!signal.aborted && !this.#isLost) {
      const wait = this.#doubt ? this.#untilRestore() : this.#untilRenewal();
      if (wait > 0) {
        await this.#sleep(Math.min(wait, LONGEST_SLEEP_MS), signal);
        continue;
      }
      try {
        this.#writing = true;
        if (this.#doubt) await this.#settle();
        else await this.#renew('renewed');
        backoff.reset();
        this.#problems.solved('the own lease is in order again');
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof LeaseLostError) this.#lose(error);
        else if (error instanceof ForeignOwnerError) this.#lose(this.#lostTo(error.owner));
        else if (error instanceof LeaseGoneError || error instanceof LeaseExistsError) this.#raiseDoubt();
        else {
          this.#problems.problem(messageOf(error), 'cannot renew the own lease; traffic goes on, trying again', {
            key: this.#lease.key,
          });
          await this.#sleep(backoff.next(), signal);
        }
      } finally {
        this.#writing = false;
        this.#lookForTwin(this.#unexplained);
      }
    }
  }

  async #renew(cause: LeaseCause): Promise<void> {
    const { registry, ttlSeconds, onLease, log } = this.#context;
    if (this.#hasTwin && this.#renewalsAlone++ === RENEWALS_ALONE) {
      this.#hasTwin = false;
      log.info({ key: this.#lease.key }, 'nobody else writes this host’s lease any more');
    }
    this.#wrote(await registry.renew(this.#lease, this.#wanted, ttlSeconds));
    onLease(this.#lease, cause);
  }

  /** Looks at what stands in the registry, and makes it what it should be. */
  async #settle(): Promise<void> {
    const { registry, ttlSeconds, log, onLease } = this.#context;
    const { key } = this.#lease;
    this.#doubt = false; // whatever raises one from here on is newer than the list
    try {
      const snapshot = await registry.list();
      const stored = snapshot.leases.find((lease) => lease.key === key);
      if (stored !== undefined) {
        if (!this.#isOurs(stored)) throw this.#lostTo(stored.attributes);
        if (this.#says(stored)) return this.#agree(stored);
        const announced = encodeLeaseValue(stored.attributes) === encodeLeaseValue(this.#lease.attributes);
        if (!announced) this.#noteRestore();
        return await this.#renew(announced ? 'announced' : 'restored');
      }
      if (snapshot.malformed.some((entry) => entry.key === key)) {
        this.#noteRestore();
        return await this.#renew('restored'); // nobody's name stands in it: ours is written over it
      }
      const rival = foreignSubnets(snapshot, this.#wanted).find((other) => subnetsOverlap(other, this.#lease));
      if (rival !== undefined) {
        throw new LeaseLostError(this.#lease, `it is gone, and another host holds ${subnetName(rival)}`);
      }
      if (!this.#absenceNoted) log.warn({ key }, 'the own lease has disappeared; taking it again');
      this.#absenceNoted = true;
      this.#wrote(await registry.create(this.#lease, this.#wanted, ttlSeconds));
      this.#absenceNoted = false;
      log.info({ key }, 'took the own subnet again');
      onLease(this.#lease, 're-acquired');
    } catch (error) {
      this.#doubt = true; // the next round sees whose it is
      throw error;
    }
  }

  /** Another host that had our address before us, or has it as well, may have written it: then it is no longer ours alone. */
  #isOurs({ attributes }: StoredLease): boolean {
    return sameHost(attributes, this.#wanted) || sameHost(attributes, this.#lease.attributes);
  }

  #says(stored: StoredLease): boolean {
    return encodeLeaseValue(stored.attributes) === encodeLeaseValue(this.#wanted);
  }

  #agree(stored: StoredLease): void {
    // The registry does not say when it expires, but a write by us did; a reservation never does.
    const expiresAt = stored.reservation ? null : this.#lease.expiresAt;
    if (this.#lease.reservation && !stored.reservation) this.#renewNow();
    this.#lease = { ...stored, expiresAt };
    this.#lookForTwin(stored.version);
  }

  #wrote(lease: StoredLease): void {
    this.#lease = lease;
    this.#written.push(lease.version);
    if (this.#written.length > KEPT_VERSIONS) this.#written.shift();
    this.#scheduleAfterWrite();
  }

  /** Our value stands under our key, but we did not write it: another host announces our public address. */
  #lookForTwin(version: string): void {
    this.#unexplained = this.#writing ? version : '';
    if (this.#writing || version === '' || this.#written.length === 0 || this.#written.includes(version)) return;
    this.#renewalsAlone = 0;
    if (this.#hasTwin) return;
    this.#hasTwin = true;
    const { key, attributes } = this.#lease;
    this.#context.log.warn({ key, publicIp: publicName(attributes) }, TWIN_WARNING);
    this.#renewNow(); // so that the other one hears of us
  }

  #noteRestore(): void {
    const { clock, log } = this.#context;
    if (clock.monotonic() - this.#restoredAt > 10 * LAST_RESTORE_PAUSE_MS) this.#restores.reset();
    this.#restorePause = this.#restores.next();
    this.#restoredAt = clock.monotonic();
    log.warn({ key: this.#lease.key }, 'somebody has written over the own lease; writing it again');
  }

  #raiseDoubt(): void {
    this.#doubt = true;
    this.#wake();
  }

  #lose(error: LeaseLostError): void {
    if (this.#isLost) return;
    this.#isLost = true;
    this.#wake();
    this.#context.onLost(error);
  }

  #lostTo(owner: HostAddresses): LeaseLostError {
    return new LeaseLostError(this.#lease, `host ${publicName(owner)} holds it now`);
  }

  #renewNow(): void {
    this.#schedule(0);
    this.#wake();
  }

  #scheduleAfterWrite(): void {
    const { expiresAt } = this.#lease;
    const ttlMs = expiresAt === null ? Number.POSITIVE_INFINITY : expiresAt - this.#context.clock.now();
    this.#schedule(renewalDelay(ttlMs, this.#context.renewMarginMs));
  }

  #schedule(delay: number): void {
    this.#dueWall = this.#context.clock.now() + delay;
    this.#dueMonotonic = this.#context.clock.monotonic() + delay;
  }

  #untilRenewal(): number {
    const { clock } = this.#context;
    return Math.min(this.#dueWall - clock.now(), this.#dueMonotonic - clock.monotonic());
  }

  #untilRestore(): number {
    return this.#restoredAt + this.#restorePause - this.#context.clock.monotonic();
  }

  async #sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
    const alarm = new AbortController();
    const ring = () => alarm.abort();
    this.#wake = ring;
    signal.addEventListener('abort', ring);
    await this.#context.clock.sleep(milliseconds, alarm.signal);
    signal.removeEventListener('abort', ring);
  }
}
