import { setTimeout as sleep } from 'node:timers/promises';
import type { Backend } from '../backend/backend.js';
import { abortable } from '../base/abortable.js';
import { messageOf, TweedError } from '../base/errors.js';
import { formatPrefix } from '../base/ipv4.js';
import type { Logger } from '../base/log.js';
import { Standing } from '../base/standing.js';
import type { Lease } from '../subnet/lease.js';
import type { PreviousSubnetEnv } from '../subnet/subnet-env.js';
import type { DaemonOptions } from './options.js';
import { Overlay } from './overlay.js';
import type { DaemonParts, Leases, UnderlayChoice } from './parts.js';

/** Forwarding failed for good. */
export class ForwardingFailedError extends TweedError {
  constructor(reason: unknown) {
    super('FORWARDING_FAILED', `forwarding stopped: ${messageOf(reason)}; start again once that is mended`, {
      cause: reason,
    });
  }
}

/** How often a configuration that the backend refused is looked at again. */
const CONFIG_RETRY_MS = 1000;

/** What a membership tells of its progress. */
export interface MembershipEvents {
  /** What it waits for or does now, in words. */
  onProgress(detail: string): void;
  /** It forwards. */
  onUp(): void;
}

/**
 * A host's membership in the overlay under one public address: from waiting for the network's configuration to the
 * end of forwarding.
 */
export class Membership {
  readonly #complaints: Standing;
  readonly #end = new AbortController();
  #overlay: Overlay | null = null;

  constructor(
    private readonly options: DaemonOptions,
    private readonly parts: DaemonParts,
    readonly leases: Leases,
    private readonly past: PreviousSubnetEnv,
    private choice: UnderlayChoice,
    private readonly log: Logger,
    private readonly events: MembershipEvents,
  ) {
    this.#complaints = new Standing(log);
  }

  get overlay(): Overlay | null {
    return this.#overlay;
  }

  get underlay(): UnderlayChoice {
    return this.choice;
  }

  /**
   * Lives until something ends it, at once when that is the signal. `stop` ends what it began.
   *
   * @param former leases under an address that this host no longer has; they are given back once the registry answers
   * @returns the underlay to go on with, when the host's public address is another one now
   * @throws the signal's reason when it is aborted; TweedError when this host has to leave the overlay
   */
  async live(signal: AbortSignal, former: Leases | null): Promise<UnderlayChoice> {
    const onAbort = () => this.#end.abort(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      const end = this.#end.signal;
      await abortable(this.#comeUp(end, former), end);
      return await abortable(this.#stayUp(end), end);
    } catch (error) {
      throw this.#end.signal.aborted ? this.#end.signal.reason : error;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Stops forwarding. Call it after `live`, however that ended. */
  async stop(): Promise<void> {
    this.#end.abort();
    await this.#overlay?.stop();
  }

  #fail(error: unknown): void {
    this.#end.abort(error);
  }

  async #comeUp(signal: AbortSignal, former: Leases | null): Promise<void> {
    const { leases, events } = this;
    events.onProgress('waiting for the network configuration');
    const { config, overlay, backend } = await this.#backendForConfig(signal);
    const attributes = await backend.attributes();
    signal.throwIfAborted();
    if (former !== null) await former.release();
    events.onProgress('waiting for a lease');
    const lease = await abortable(leases.acquire(attributes), signal);
    this.#overlay = overlay;
    events.onProgress(`bringing up ${formatPrefix(lease.subnet)}`);
    await overlay.start(backend, lease);
    signal.throwIfAborted();
    const summary = () =>
      events.onProgress(
        `${formatPrefix(lease.subnet)} of ${formatPrefix(config.network)}, ${leases.status().peers.length} peers`,
      );
    leases.on('lost', (error) => this.#fail(error));
    leases.on('failed', (error) => this.#fail(error));
    leases.on('peers', (changes) => {
      overlay.applyPeers(changes).then(summary, (error: unknown) => this.#fail(error));
    });
    leases.follow();
    await overlay.setUp(lease);
    signal.throwIfAborted();
    summary();
    events.onUp();
  }

  /**
   * The configuration, and a backend that takes its part of it. One that finds fault there waits for another
   * configuration, as a fault in the rest does; a backend that we do not have is an error at once.
   */
  async #backendForConfig(signal: AbortSignal) {
    const onFailed = (reason: Error) => this.#fail(new ForwardingFailedError(reason));
    for (;;) {
      const config = await abortable(this.leases.waitForConfig(), signal);
      const overlay = new Overlay(this.options, this.parts, config, this.past, this.log, onFailed);
      let backend: Backend | null = null;
      try {
        backend = overlay.makeBackend(this.choice);
      } catch (error) {
        if (!(error instanceof TweedError) || error.code !== 'CONFIG_INVALID') throw error;
        await this.#complaints.attempt('waiting for a good network config', () => Promise.reject(error));
      }
      if (backend !== null) return { config, overlay, backend };
      await sleep(CONFIG_RETRY_MS, undefined, { signal });
    }
  }

  /** Checks and mends, round after round, until the public address changes. */
  async #stayUp(signal: AbortSignal): Promise<UnderlayChoice> {
    const overlay = this.#overlay as Overlay;
    const lease = this.leases.status().lease as Lease;
    for (;;) {
      await sleep(this.options.rules.resyncSeconds * 1000, undefined, { signal });
      const moved = await this.#moved();
      signal.throwIfAborted();
      if (moved !== null && moved.publicIp !== this.choice.publicIp) return moved;
      if (moved !== null) await this.#moveTo(moved, overlay, lease);
      signal.throwIfAborted();
      await overlay.reconcile(lease);
    }
  }

  async #moved(): Promise<UnderlayChoice | null> {
    let moved: UnderlayChoice | null = null;
    await this.#complaints.attempt('looking at the underlay', async () => {
      moved = await this.parts.recheckUnderlay(this.choice, this.options.underlay);
    });
    return moved;
  }

  /** Peers need not hear of it: another interface, address or MTU behind the same public address. */
  async #moveTo(choice: UnderlayChoice, overlay: Overlay, lease: Lease): Promise<void> {
    this.choice = choice;
    const { underlay, reason } = choice;
    this.log.info({ interface: underlay.name, mtu: underlay.mtu, reason }, 'the underlay has moved');
    try {
      await overlay.restart(overlay.makeBackend(choice), lease, () => this.leases.status().peers);
    } catch (error) {
      throw new ForwardingFailedError(error);
    }
  }
}
