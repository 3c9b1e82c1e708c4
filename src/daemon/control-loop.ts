/**
 * The loop that makes a host what it should be.
 *
 * Theory of operation. Three things say what this host should have: the registry (configuration, lease, other hosts'
 * leases), the underlay (which interface and address it is reached by), and the options. Whenever one of them changes, and
 * every few seconds besides, all of it is put together anew into one `Desired` and given to the overlay, whose parts
 * compare it with what is there and mend the difference. Nothing is carried but the latest state: no list of changes, and
 * nothing that has to be told apart into a first time and later ones.
 *
 * The lease is such a part, too: another public address, or another MAC address of a device, is announced, and the lease
 * manager writes it into the same key as soon as the registry answers.
 */
import { abortable } from '../base/abortable.js';
import { TweedError } from '../base/errors.js';
import { Standing } from '../base/standing.js';
import { unforeseen } from '../base/unforeseen.js';
import type { FileLock } from '../linux/file-lock.js';
import type { Inheritance } from '../linux/inheritance.js';
import { type Lease, type LeaseAttributes, publicNames, subnetName } from '../subnet/lease.js';
import { type NetworkConfig, networkName, networksOf } from '../subnet/network-config/config.js';
import { coverageWarnings } from './coverage.js';
import { DesiredState } from './desired.js';
import { type HandOver, TakenOverError } from './hand-over.js';
import { AlreadyRunningError } from './instance-lock.js';
import { Overlay, type OverlayContext, summaryOf } from './overlay.js';
import type { Leases, UnderlayChoice } from './parts.js';
import { withoutIpv6 } from './underlay-watch.js';

/** How often a configuration that the backend refused is looked at again. */
const CONFIG_RETRY_MS = 1000;

/** What the loop works with, and whom it tells. */
export interface ControlLoopContext extends Omit<OverlayContext, 'onFailed'> {
  readonly leases: Leases;
  /** What it waits for or does now, in words. */
  onProgress(detail: string): void;
  /** Packets are carried, and by no other daemon any more. */
  onForwarding(): void;
  /** The overlay is up for the first time. */
  onUp(): void;
}

export class ControlLoop {
  readonly overlay: Overlay;
  readonly #context: ControlLoopContext;
  readonly #complaints: Standing;
  readonly #desired = new DesiredState();
  readonly #end = new AbortController();
  readonly #locks: FileLock[] = [];
  /** What is locked. */
  #names: readonly string[] = [];
  #choice: UnderlayChoice;
  /** Aborted when somebody wants the daemon to end. */
  #wish: AbortSignal | null = null;
  #vessels: Inheritance | undefined;
  #coverage: readonly string[] = [];

  constructor(context: ControlLoopContext, choice: UnderlayChoice) {
    this.#context = context;
    this.#choice = choice;
    this.#complaints = new Standing(context.log, context.parts.clock);
    this.overlay = new Overlay({ ...context, onFailed: (reason) => this.#end.abort(reason) });
  }

  /** What no other daemon on this host may serve, in words. */
  get serving(): string {
    return this.#names.join(', ');
  }

  get choice(): UnderlayChoice {
    return this.#choice;
  }

  /** What is amiss though the overlay is up. */
  get warnings(): readonly string[] {
    return [...this.#coverage, ...this.#complaints.troubles, ...this.overlay.warnings];
  }

  /**
   * Runs until something ends it.
   *
   * @throws the signal's reason when it is aborted; TweedError when this host has to leave the overlay
   */
  async run(signal: AbortSignal): Promise<never> {
    this.#wish = signal;
    const onAbort = () => this.#end.abort(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      return await abortable(this.#live(this.#end.signal), this.#end.signal);
    } catch (error) {
      throw this.#end.signal.aborted ? this.#end.signal.reason : error;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Another daemon forwards in place of this one. @param vessels for what it can go on with, taken over */
  leave(vessels: Inheritance): void {
    if (this.#end.signal.aborted) return vessels.close();
    this.#vessels = vessels;
    this.#end.abort(new TakenOverError());
  }

  /**
   * Stops forwarding. Call it after `run`, however that ended.
   *
   * @param heir of the loop that follows this one
   */
  async stop(heir?: Inheritance): Promise<void> {
    const isLeft = this.#end.signal.reason instanceof TakenOverError;
    const pinned = heir === undefined && this.#mayGoOn;
    this.#end.abort();
    await this.overlay.stop(isLeft ? null : heir, pinned, this.#vessels);
    this.#vessels?.close();
    for (const lock of this.#locks.splice(0)) lock.release();
  }

  /** May what the kernel does by itself go on after this? Not where the host leaves the overlay, because it wants or has to. */
  get #mayGoOn(): boolean {
    const { cleanUpOnExit, lease } = this.#context.options;
    const wished = this.#wish?.aborted === true && this.#end.signal.reason === this.#wish.reason;
    return wished && !cleanUpOnExit && !lease.releaseOnExit;
  }

  async #live(signal: AbortSignal): Promise<never> {
    const { leases, options, parts, onProgress, onUp } = this.#context;
    leases.on('lost', (error) => this.#end.abort(error));
    onProgress('waiting for the network configuration');
    const { config, attributes } = await this.#agreeOnConfig(signal);
    const rival = await this.#lock(config, options.takeOver);
    this.#lookAtCoverage(config);
    onProgress('waiting for a lease');
    const lease = await abortable(leases.acquire(config, attributes), signal);
    onProgress(`bringing up ${subnetName(lease)}`);
    const desired = () => this.#desired.compose(config, this.#choice, lease, leases.peers);
    const handOver =
      rival && (await parts.takeOver(options.runDirectory, rival.holder, this.serving, this.#context.inheritance));
    await this.overlay.forward(desired());
    if (handOver !== null) await this.#complete(handOver, config);
    this.#context.onForwarding();
    leases.on('peers', () => {
      void this.#pass(async () => {
        await this.overlay.forward(desired());
        onProgress(summaryOf(desired()));
      });
    });
    leases.follow();
    await Promise.all([this.overlay.forward(desired()), this.overlay.setUp(desired())]);
    signal.throwIfAborted();
    onProgress(summaryOf(desired()));
    onUp();
    for (;;) {
      await this.#pause(options.rules.resyncSeconds * 1000, signal);
      await this.#pass(async () => {
        const before = this.#choice;
        await this.#complaints.attempt('following the underlay', () => this.#followUnderlay(config, lease));
        signal.throwIfAborted();
        void this.#pass(() => this.overlay.setUp(desired())); // may hang for minutes behind the lock of iptables
        await this.overlay.forward(desired());
        // The subnet file has the backend's MTU, and that was in between two backends when it was looked at.
        if (this.#choice !== before) void this.#pass(() => this.overlay.setUp(desired()));
      });
      signal.throwIfAborted();
    }
  }

  /** One time round. What is thrown ends the daemon if it was meant to; what nobody foresaw costs this pass. */
  async #pass(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (this.#end.signal.aborted) return;
      if (error instanceof TweedError) this.#end.abort(error);
      else unforeseen.note('bringing the host to what it should be', error);
    }
  }

  /**
   * The configuration, and what a backend that takes its part of it announces. One that finds fault there waits for another
   * configuration, as a fault in the rest does; a backend that we do not have is an error at once.
   */
  async #agreeOnConfig(signal: AbortSignal): Promise<{ config: NetworkConfig; attributes: LeaseAttributes }> {
    for (;;) {
      const config = await abortable(this.#context.leases.waitForConfig(), signal);
      try {
        if (config.ipv6 === null) this.#choice = withoutIpv6(this.#choice);
        const attributes = await this.overlay.attributes(config, this.#choice);
        this.#complaints.solved('the network config is good now');
        return { config, attributes };
      } catch (error) {
        if (!(error instanceof TweedError) || error.code !== 'CONFIG_INVALID') throw error;
        this.#complaints.problem(error.message, 'waiting for a good network config');
      }
      await this.#pause(CONFIG_RETRY_MS, signal);
    }
  }

  async #pause(milliseconds: number, signal: AbortSignal): Promise<void> {
    await this.#context.parts.clock.sleep(milliseconds, signal);
    signal.throwIfAborted();
  }

  /**
   * One daemon at most serves a network, or a device, of this host.
   *
   * @param tolerate that another one does, whose place we may take; what tells of it is returned then
   */
  async #lock(config: NetworkConfig, tolerate: boolean): Promise<AlreadyRunningError | null> {
    const { parts, options } = this.#context;
    const device = parts.deviceOf(config, options);
    this.#names = [`network ${networkName(config)}`, ...(device === null ? [] : [`device ${device}`])];
    try {
      for (const name of this.#names) this.#locks.push(await parts.lock(name));
      return null;
    } catch (error) {
      for (const lock of this.#locks.splice(0)) lock.release();
      if (tolerate && error instanceof AlreadyRunningError) return error;
      throw error;
    }
  }

  /** We forward; the other daemon is to stop. */
  async #complete(handOver: Pick<HandOver, 'complete'>, config: NetworkConfig): Promise<void> {
    const { log } = this.#context;
    const ended = await handOver.complete();
    if (ended && (await this.#lock(config, true)) === null) log.info('took over from the daemon that ran before');
    else log.error('the daemon that ran before has not ended, though told to; end its process');
  }

  /** Once the overlay has its routes it may be too late to hear of it from the registry. */
  #lookAtCoverage(config: NetworkConfig): void {
    const { options, log } = this.#context;
    this.#coverage = networksOf(config).flatMap((network) =>
      coverageWarnings(network, this.#choice.underlay, options.registry.endpoints),
    );
    for (const warning of this.#coverage) log.warn(warning);
  }

  /**
   * Another interface, address or MTU; and if the public address is another one, another announcement. Until a backend
   * takes the new underlay, the one in use stays.
   */
  async #followUnderlay(config: NetworkConfig, lease: Lease): Promise<void> {
    const { parts, options, leases, log } = this.#context;
    const choice = await parts.recheckUnderlay(this.#choice, options.underlay, config.ipv6 !== null);
    if (choice === null) return;
    const attributes = await this.overlay.attributes(config, choice);
    const { underlay, reason } = choice;
    log.info({ interface: underlay.name, mtu: underlay.mtu, reason }, 'the underlay has changed');
    const [from, to] = [this.#choice, choice].map(publicNames);
    if (from !== to) log.warn({ from, to }, `the public address has changed; ${subnetName(lease)} stays`);
    this.#choice = choice;
    this.#lookAtCoverage(config);
    leases.announce(attributes);
  }
}
