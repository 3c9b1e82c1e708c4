import { Backoff, type Clock } from '../../base/clock.js';
import { messageOf } from '../../base/errors.js';
import { formatIpv4, formatPrefix, overlaps } from '../../base/ipv4.js';
import type { Logger } from '../../base/log.js';
import { Standing } from '../../base/standing.js';
import { ForeignOwnerError, LeaseExistsError, LeaseGoneError, LeaseLostError } from '../errors.js';
import { encodeLeaseValue } from '../keys.js';
import type { LeaseAttributes } from '../lease.js';
import type { Registry, Snapshot, StoredLease, WatchEvent } from '../registry.js';
import { foreignSubnets } from './acquire.js';

export interface OwnLeaseContext {
  readonly registry: Registry;
  readonly attributes: LeaseAttributes;
  readonly ttlSeconds: number;
  readonly renewMarginMs: number;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onLease: (lease: StoredLease, cause: LeaseCause) => void;
  /** Called once; nothing follows after it. */
  readonly onLost: (error: LeaseLostError) => void;
}

/** Why the own lease was written: its time was due, or it had disappeared. */
export type LeaseCause = 'renewed' | 're-acquired';

/** The clocks are compared at least this often, since one of them may stand still or jump. */
const LONGEST_SLEEP_MS = 30_000;

/** How long after a renewal the next one is due, in milliseconds. */
export function renewalDelay(ttlMs: number, marginMs: number): number {
  return Math.max(marginMs < ttlMs ? ttlMs - marginMs : ttlMs / 2, Math.min(1_000, ttlMs / 2));
}

/**
 * This host's lease: renews it in time, takes it again when it was deleted or expired, and finds out when it is lost.
 *
 * All writing is done by `run`, one thing after the other; what the watch sees only tells it what is to be done.
 */
export class OwnLease {
  readonly #context: OwnLeaseContext;
  readonly #problems: Standing;
  #lease: StoredLease;
  #missing = false;
  /** When the next renewal is due, by both clocks; whichever is first. */
  #dueWall = 0;
  #dueMonotonic = 0;
  #isLost = false;
  #wake = () => {};

  /**
   * @param lease As it was just written; or, with `verified` false, as it is remembered from an earlier run: then nothing is
   * done before the first `reconcile`.
   */
  constructor(context: OwnLeaseContext, lease: StoredLease, verified: boolean) {
    this.#context = context;
    this.#lease = lease;
    this.#problems = new Standing(context.log, context.clock);
    if (verified) this.#scheduleAfterWrite();
    else this.#schedule(Number.POSITIVE_INFINITY);
  }

  get lease(): StoredLease {
    return this.#lease;
  }

  /** Milliseconds since the epoch; null for a reservation. */
  get renewAt(): number | null {
    return this.#lease.reservation || !Number.isFinite(this.#dueWall) ? null : this.#dueWall;
  }

  /** Compares with a full list, after a gap in which anything may have happened. */
  reconcile(snapshot: Snapshot): void {
    const stored = snapshot.leases.find((lease) => lease.key === this.#lease.key);
    if (stored !== undefined) {
      this.#see(stored);
      const outdated = encodeLeaseValue(stored.attributes) !== encodeLeaseValue(this.#context.attributes);
      const unsure = !Number.isFinite(this.#dueWall) || (this.#lease.expiresAt ?? 0) <= this.#context.clock.now();
      if (outdated || (unsure && !stored.reservation)) this.#renewNow();
    } else if (snapshot.malformed.some((entry) => entry.key === this.#lease.key)) {
      this.#renewNow();
    } else {
      this.#vanished('it is not in the registry any more');
    }
  }

  /** Looks at one event of the watch; false when it is about another key. */
  handle(event: WatchEvent): boolean {
    const key = event.kind === 'put' ? event.lease.key : event.kind === 'malformed' ? event.entry.key : event.key;
    if (key !== this.#lease.key) return false;
    if (event.kind === 'put') this.#see(event.lease);
    else if (event.kind === 'delete') this.#vanished('its key was deleted or expired');
    return true;
  }

  /** Keeps the lease until the signal is aborted or the lease is lost. */
  async run(signal: AbortSignal): Promise<void> {
    const longestPause = Math.min(60_000, (this.#context.ttlSeconds * 1000) / 10);
    const backoff = new Backoff(Math.min(200, longestPause), longestPause);
    while (!signal.aborted && !this.#isLost) {
      const wait = this.#missing ? 0 : this.#untilRenewal();
      if (wait > 0) {
        await this.#sleep(Math.min(wait, LONGEST_SLEEP_MS), signal);
        continue;
      }
      try {
        if (this.#missing) await this.#takeAgain();
        else await this.#renew();
        backoff.reset();
        this.#problems.solved('the own lease is in order again');
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof LeaseLostError) this.#lose(error);
        else if (error instanceof ForeignOwnerError) this.#lose(this.#lostTo(error.owner));
        else if (error instanceof LeaseGoneError) this.#vanished('it was gone when it should be renewed');
        else {
          this.#problems.problem(messageOf(error), 'cannot renew the own lease; traffic goes on, trying again', {
            key: this.#lease.key,
          });
          await this.#sleep(backoff.next(), signal);
        }
      }
    }
  }

  async #renew(): Promise<void> {
    const { registry, attributes, ttlSeconds, onLease } = this.#context;
    this.#lease = await registry.renew(this.#lease, attributes, ttlSeconds);
    this.#scheduleAfterWrite();
    onLease(this.#lease, 'renewed');
  }

  async #takeAgain(): Promise<void> {
    const { registry, attributes, ttlSeconds, log, onLease } = this.#context;
    const snapshot = await registry.list();
    const stored = snapshot.leases.find((lease) => lease.key === this.#lease.key);
    if (stored !== undefined) {
      if (stored.attributes.publicIp !== attributes.publicIp) throw this.#lostTo(stored.attributes.publicIp);
      this.#missing = false;
      this.#lease = stored;
      this.#renewNow();
      return;
    }
    if (snapshot.malformed.some((entry) => entry.key === this.#lease.key)) {
      this.#missing = false;
      this.#renewNow(); // nobody's name stands in it: ours is written over it
      return;
    }
    const { subnet } = this.#lease;
    const rival = foreignSubnets(snapshot, attributes).find((other) => overlaps(other, subnet));
    if (rival !== undefined)
      throw new LeaseLostError(subnet, `it is gone, and another host holds ${formatPrefix(rival)}`);
    try {
      this.#lease = await registry.create(subnet, attributes, ttlSeconds);
    } catch (error) {
      if (error instanceof LeaseExistsError) return; // the next round sees whose it is
      throw error;
    }
    this.#missing = false;
    this.#scheduleAfterWrite();
    log.info({ key: this.#lease.key }, 'took the own subnet again');
    onLease(this.#lease, 're-acquired');
  }

  #see(stored: StoredLease): void {
    const owner = stored.attributes.publicIp;
    if (owner !== this.#context.attributes.publicIp) {
      this.#lose(this.#lostTo(owner));
      return;
    }
    this.#missing = false;
    // The registry does not say when it expires, but a write by us did; a reservation never does.
    const expiresAt = stored.reservation ? null : this.#lease.expiresAt;
    if (this.#lease.reservation && !stored.reservation) this.#renewNow();
    this.#lease = { ...stored, expiresAt };
  }

  #vanished(how: string): void {
    if (!this.#missing)
      this.#context.log.warn({ key: this.#lease.key, how }, 'the own lease has disappeared; taking it again');
    this.#missing = true;
    this.#wake();
  }

  #lose(error: LeaseLostError): void {
    if (this.#isLost) return;
    this.#isLost = true;
    this.#wake();
    this.#context.onLost(error);
  }

  #lostTo(owner: number): LeaseLostError {
    return new LeaseLostError(this.#lease.subnet, `host ${formatIpv4(owner)} holds it now`);
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

  async #sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
    const alarm = new AbortController();
    const ring = () => alarm.abort();
    this.#wake = ring;
    signal.addEventListener('abort', ring);
    await this.#context.clock.sleep(milliseconds, alarm.signal);
    signal.removeEventListener('abort', ring);
  }
}
