import type { Backend, BackendStatus, StopOptions } from '../backend/backend.js';
import { messageOf, TweedError } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { plural } from '../base/plural.js';
import { Standing } from '../base/standing.js';
import type { Inheritance } from '../linux/inheritance.js';
import { UnderlayError } from '../routes/underlay.js';
import { type LeaseAttributes, type PeerSet, subnetName } from '../subnet/lease.js';
import { type NetworkConfig, networkName, networksOf } from '../subnet/network-config/config.js';
import { formerNetworks, type PreviousSubnetEnv } from '../subnet/subnet-env.js';
import type { Desired } from './desired.js';
import type { ServiceManager } from './notify.js';
import type { DaemonOptions } from './options.js';
import type { DaemonParts, HostRules, UnderlayChoice } from './parts.js';
import { Reconciler } from './reconciler.js';

/** How often the rest of the host's firewall is looked at. */
const FIREWALL_LOOK_MS = 60_000;

/** Forwarding failed for good. */
export class ForwardingFailedError extends TweedError {
  constructor(reason: unknown) {
    super('FORWARDING_FAILED', `forwarding stopped: ${messageOf(reason)}; start again once that is mended`, {
      cause: reason,
    });
  }
}

/** What the overlay does its work with. */
export interface OverlayContext {
  readonly options: DaemonOptions;
  readonly parts: DaemonParts;
  /** What an earlier run of this host left behind. */
  readonly past: PreviousSubnetEnv;
  readonly log: Logger;
  /** What a former process left us; later what one backend leaves the next. */
  readonly inheritance: Inheritance;
  /** Keeps the descriptors on which forwarding depends for the next process. */
  readonly store: Pick<ServiceManager, 'keep' | 'follow'>;
  /** Called when forwarding fails for good. */
  readonly onFailed: (reason: Error) => void;
}

/**
 * Everything on this host that makes the overlay, in two parts that never wait for each other: the backend with device,
 * routes and peers; and traffic rules with the subnet file. The lock of iptables, held by another program, delays no peer
 * and no stop.
 *
 * Each part is told what should be and compares. There is no other way for a first start, a change, a repair, or a move to
 * another interface.
 */
export class Overlay {
  readonly #context: OverlayContext;
  readonly #backendPart: Reconciler<Desired>;
  readonly #rulesPart: Reconciler<Desired>;
  readonly #ending = new AbortController();
  readonly #complaints: Standing;
  readonly #refusals: Standing;
  readonly #obstacles: Standing;
  /** Made for an underlay, but not started yet. */
  #candidate: { readonly choice: UnderlayChoice; readonly backend: Backend } | null = null;
  #running: { readonly choice: UnderlayChoice; readonly backend: Backend } | null = null;
  /** Forwarding has been begun once: from then on nothing that fails here is tried only once. */
  #begun = false;
  #peers: PeerSet | null = null;
  #rules: HostRules | null = null;
  #rulesApplied = false;
  #written: Written | null = null;
  #refused: Desired['refused'] = [];
  #repairs = 0;
  #warnings: readonly string[] = [];
  #lookAgainAt = Number.NEGATIVE_INFINITY;

  constructor(context: OverlayContext) {
    this.#context = context;
    this.#complaints = new Standing(context.log, context.parts.clock);
    this.#refusals = new Standing(context.log, context.parts.clock);
    this.#obstacles = new Standing(context.log, context.parts.clock);
    this.#backendPart = new Reconciler((desired) => this.#followBackend(desired));
    this.#rulesPart = new Reconciler((desired) => this.#followRules(desired));
  }

  /** Rules are in force and the subnet file is written: what flannel calls ready. */
  get ready(): boolean {
    return this.#running !== null && this.#rulesApplied && this.#isWritten(this.#running.backend);
  }

  /** How many things were put back after somebody took them away. */
  get repairs(): number {
    return this.#repairs;
  }

  /**
   * What keeps packets from their way, or a family from being carried, though all that can be is in place; and what fails and is
   * tried again.
   */
  get warnings(): readonly string[] {
    const notCarried = this.#running?.backend.notCarried.values() ?? [];
    return [...this.#complaints.troubles, ...notCarried, ...this.#warnings];
  }

  /** For how many seconds forwarding has not moved though there is work. */
  get stuckFor(): number {
    return this.#running?.backend.stuckFor?.() ?? 0;
  }

  status(): BackendStatus | null {
    const status = this.#running?.backend.status();
    return status === undefined ? null : { ...status, refused: [...this.#refused, ...status.refused] };
  }

  /** What forwarding depends on. */
  get descriptors(): ReadonlyMap<string, number> {
    return this.#running?.backend.descriptors?.() ?? new Map();
  }

  /** With these the next process goes on, and the kernel until then. */
  get #stored(): ReadonlyMap<string, number> {
    return new Map([...this.descriptors, ...(this.#running?.backend.holds?.() ?? [])]);
  }

  /** What it can leave another process when it has stopped. */
  get vessels(): readonly string[] {
    return this.#running?.backend.vessels?.() ?? [];
  }

  /** What this host has to announce on that underlay. @throws TweedError when no backend takes it */
  async attributes(config: NetworkConfig, choice: UnderlayChoice): Promise<LeaseAttributes> {
    this.#candidate = { choice, backend: await this.#make(config, choice) };
    return this.#candidate.backend.attributes();
  }

  /** Device, routes and peers are to be so. @throws TweedError when forwarding cannot begin */
  forward(desired: Desired): Promise<void> {
    return this.#backendPart.want(desired);
  }

  /** Rules and subnet file are to be so. What fails is logged, and tried again with the next call; forwarding goes on. */
  setUp(desired: Desired): Promise<void> {
    return this.#rulesPart.want(desired);
  }

  /**
   * Stops forwarding as far as it is this process that forwards. What flannel leaves behind stays, unless the options say
   * otherwise; the subnet file stays in any case, since it tells the next start which subnet to ask for.
   *
   * Work on the rules is broken off. Nothing starts again after it.
   *
   * @param heir goes on with the same device, so that nothing is cleaned up; null for another process
   * @param pinned what forwards by itself may go on
   * @param vessels of that other process
   */
  async stop(heir?: Inheritance | null, pinned = false, vessels?: Inheritance): Promise<void> {
    const cleanUp = heir === undefined && this.#context.options.cleanUpOnExit;
    this.#ending.abort();
    const rulesAtRest = this.#rulesPart.close();
    await this.#backendPart.close();
    await this.#stopBackend({
      cleanUp,
      pinned: pinned && !cleanUp,
      ...(heir && { heir }),
      ...(vessels && { vessels }),
    });
    if (!cleanUp) return;
    await rulesAtRest;
    await this.#complaints.once('removing the traffic rules', async () => this.#rules?.cleanUp());
  }

  async #followBackend(desired: Desired): Promise<void> {
    const { log } = this.#context;
    this.#refused = desired.refused;
    this.#refusals.update(
      new Map(desired.refused.map(({ subnet, reason }) => [subnet, `peer ignored: ${reason}`])),
      'subnet',
    );
    const running = this.#running;
    const attempt = (what: string, work: () => Promise<unknown>) =>
      this.#complaints.attempt(what, work, this.#ending.signal);
    if (running === null || running.choice !== desired.choice) {
      if (!this.#begun) return this.#startBackend(desired);
      await attempt('starting the backend again', () => this.#startBackend(desired));
      return;
    }
    await attempt('checking the backend', async () => {
      const isNews = this.#peers !== desired.peers;
      const lines = await running.backend.setPeers(desired.peers);
      this.#peers = desired.peers;
      if (!this.#ending.signal.aborted) this.#context.store.follow(this.#stored);
      if (isNews) log.info({ peers: desired.peers.leases.length }, 'peers updated');
      for (const line of lines) {
        if (isNews) log.debug(line);
        else this.#noteRepair(line);
      }
    });
  }

  /** The same lease and peers by another backend, where one runs already. */
  async #startBackend(desired: Desired): Promise<void> {
    const { choice, config, lease, peers } = desired;
    const backend = this.#candidate?.choice === choice ? this.#candidate.backend : await this.#make(config, choice);
    this.#candidate = null;
    const { inheritance, store } = this.#context;
    await this.#stopBackend({ cleanUp: false, heir: inheritance });
    if (this.#ending.signal.aborted) return inheritance.close();
    try {
      await backend.start(lease, peers);
    } catch (error) {
      store.keep(new Map()); // with those by which it cannot forward, it would fail again and again
      throw error;
    } finally {
      inheritance.close();
    }
    this.#begun = true;
    this.#running = { choice, backend };
    this.#peers = peers;
    store.keep(this.#stored);
    backend.failed.then((reason) => {
      if (this.#running?.backend === backend) this.#context.onFailed(new ForwardingFailedError(reason));
    });
  }

  async #stopBackend(options: StopOptions): Promise<void> {
    const running = this.#running;
    if (running === null) return;
    const { descriptors } = this;
    this.#running = null;
    await this.#complaints.once('stopping the backend', () => running.backend.stop(options));
    // a store that holds what has been taken off keeps its memory
    if (!options.pinned && !options.cleanUp) this.#context.store.follow(descriptors);
  }

  /** @throws UnderlayError when the host has no address that the network has a use for, or what the backend objects to */
  async #make(config: NetworkConfig, { underlay, publicIp, publicIpv6 }: UnderlayChoice): Promise<Backend> {
    if (publicIp === 0 && publicIpv6 === null) {
      const advice = 'give it one, or name another interface with --iface';
      throw new UnderlayError(
        `${underlay.name} has no address that the overlay ${networkName(config)} can use; ${advice}`,
      );
    }
    const { options, parts, past, inheritance: inherited } = this.#context;
    const { type } = config.backend;
    const log = this.#context.log.child({ backend: type });
    const former = formerNetworks(past, networksOf(config));
    const context = { log, underlay, publicIp, publicIpv6, config, formerNetworks: former, inherited };
    return parts.createBackend(type, context, options);
  }

  async #followRules(desired: Desired): Promise<void> {
    const { config, lease } = desired;
    const { options, parts, past, log } = this.#context;
    this.#rules ??= parts.createRules(options, config, lease, past, this.#ending.signal);
    const rules = this.#rules;
    const attempt = (what: string, work: () => Promise<unknown>) =>
      this.#complaints.attempt(what, work, this.#ending.signal);
    if (this.#rulesApplied) {
      await attempt('checking the traffic rules', async () => {
        for (const repair of await rules.check()) this.#noteRepair(repair);
      });
    } else {
      this.#rulesApplied = await attempt('setting up traffic rules', async () => {
        for (const change of await rules.apply()) log.info(`traffic rules: ${change}`);
      });
    }
    await attempt('looking at the firewall', () => this.#lookAtFirewall(rules));
    const backend = this.#running?.backend ?? null;
    if (this.#ending.signal.aborted || backend === null || this.#isWritten(backend)) return;
    await attempt(`writing ${options.subnetFile}`, () => this.#writeSubnetFile(desired, backend));
  }

  /** Is in the subnet file what it is to say while this backend runs? All else in it stays for as long as the lease does. */
  #isWritten(backend: Backend): boolean {
    const { mtu, hasIpv6 } = writtenOf(backend);
    return this.#written?.mtu === mtu && this.#written.hasIpv6 === hasIpv6;
  }

  /**
   * IPv6 is told to containers only where this host carries it: their addresses would lead nowhere, and a device that is too
   * small for IPv6, or a kernel without it, takes none. IPv4 is told in any case, since Docker's bridge has that family
   * anyway, and without a subnet of ours it would take another one.
   */
  async #writeSubnetFile({ config, lease }: Desired, backend: Backend): Promise<void> {
    const { options, parts, log } = this.#context;
    const { subnet, subnetV6 } = lease;
    const written = writtenOf(backend);
    const file = options.subnetFile;
    const ipv6 = config.ipv6 && subnetV6 && { network: config.ipv6.network, subnet: subnetV6 };
    await parts.writeSubnetFile(file, {
      ipv4: config.ipv4 && subnet && { network: config.ipv4.network, subnet },
      ipv6: written.hasIpv6 ? ipv6 : null,
      keptV6: written.hasIpv6 ? null : ipv6,
      mtu: written.mtu,
      ipMasq: options.rules.masquerade,
    });
    const before = this.#written;
    this.#written = written;
    if (ipv6 === null || (before?.hasIpv6 ?? true) === written.hasIpv6) return;
    if (written.hasIpv6)
      log.info(`${file} has the IPv6 subnet again; containers that were made meanwhile have none of it`);
    else log.warn(`${file} is without the IPv6 subnet, since IPv6 is not carried`);
  }

  /** Costs two processes, so not every time. */
  async #lookAtFirewall(rules: HostRules): Promise<void> {
    const now = this.#context.parts.clock.monotonic();
    if (now < this.#lookAgainAt) return;
    this.#lookAgainAt = now + FIREWALL_LOOK_MS;
    this.#warnings = await rules.obstacles();
    this.#obstacles.update(new Map(this.#warnings.map((text) => [text, text])), 'obstacle');
  }

  #noteRepair(text: string): void {
    this.#context.log.warn(`put back: ${text}`);
    this.#repairs++;
  }
}

/** What of the subnet file depends on the backend. */
interface Written {
  readonly mtu: number;
  readonly hasIpv6: boolean;
}

function writtenOf({ mtu, notCarried }: Backend): Written {
  return { mtu, hasIpv6: !notCarried.has(6) };
}

/** One line about what the host has, for the service manager. */
export function summaryOf({ config, lease, peers }: Desired): string {
  const peerCount = plural(peers.leases.length, 'peer');
  return `${subnetName(lease)} of ${networkName(config)}, ${peerCount}`;
}
