import type { Backend, BackendStatus } from '../backend/backend.js';
import { formatIpv4, formatPrefix, samePrefix } from '../base/ipv4.js';
import type { Logger } from '../base/log.js';
import { Serial } from '../base/serial.js';
import { Standing } from '../base/standing.js';
import type { Lease, PeerChange } from '../subnet/lease.js';
import type { NetworkConfig } from '../subnet/network-config/config.js';
import type { PreviousSubnetEnv } from '../subnet/subnet-env.js';
import type { DaemonOptions } from './options.js';
import type { DaemonParts, HostRules, UnderlayChoice } from './parts.js';

/**
 * Everything on this host that makes the overlay: backend, traffic rules, subnet file.
 *
 * Calls may come at any time. Those for the backend are carried out one after the other, and so are those for rules and
 * file, in a queue of their own: the lock of iptables, held by another program, delays no peer and no stop.
 */
export class Overlay {
  readonly #backendQueue = new Serial();
  readonly #rulesQueue = new Serial();
  readonly #ending = new AbortController();
  readonly #complaints: Standing;
  #backend: Backend | null = null;
  #rules: HostRules | null = null;
  #rulesApplied = false;
  #writtenMtu: number | null = null;
  #pending: PeerChange[] = [];
  /** False until the backend has heard of the peers for the first time; even that there are none tells it something. */
  #peersKnown = false;
  #repairs = 0;

  /** @param onFailed called when forwarding fails for good */
  constructor(
    private readonly options: DaemonOptions,
    private readonly parts: DaemonParts,
    private readonly config: NetworkConfig,
    private readonly past: PreviousSubnetEnv,
    private readonly log: Logger,
    private readonly onFailed: (reason: Error) => void,
  ) {
    this.#complaints = new Standing(log);
  }

  /** Rules are in force and the subnet file is written: what flannel calls ready. */
  get ready(): boolean {
    return this.#backend !== null && this.#rulesApplied && this.#writtenMtu === this.#backend.mtu;
  }

  /** How many things were put back after somebody took them away. */
  get repairs(): number {
    return this.#repairs;
  }

  status(): BackendStatus | null {
    return this.#backend?.status() ?? null;
  }

  /** A backend on that underlay, which forwards nothing yet. @throws TweedError when there is none of this type */
  makeBackend({ underlay, publicIp }: UnderlayChoice): Backend {
    const { type } = this.config.backend;
    const log = this.log.child({ backend: type });
    const { network } = this.past;
    const formerNetworks = network === null || samePrefix(network, this.config.network) ? [] : [network];
    const context = { log, underlay, publicIp, config: this.config, formerNetworks };
    return this.parts.createBackend(type, context, this.options);
  }

  /** Begins to forward. */
  start(backend: Backend, lease: Lease): Promise<void> {
    return this.#backendQueue.run(() => this.#startBackend(backend, lease));
  }

  /** Tries the rules and the subnet file, as far as they are not in place; their failure does not stop the forwarding. */
  setUp(lease: Lease): Promise<void> {
    return this.#rulesQueue.run(() => this.#finishSetUp(lease));
  }

  /** The same subnet and peers by another backend. @param peers all of them, asked for when it is their turn */
  async restart(backend: Backend, lease: Lease, peers: () => readonly Lease[]): Promise<void> {
    await this.#backendQueue.run(async () => {
      const former = this.#backend;
      this.#backend = null;
      await former?.stop({ cleanUp: false });
      await this.#startBackend(backend, lease);
      this.#pending = peers().map((peer) => ({ kind: 'added', lease: peer }));
      await this.#applyPending();
    });
    await this.setUp(lease);
  }

  /**
   * Other hosts that came, changed or went. Whatever has gathered until the backend is free goes to it in one piece,
   * however many calls brought it.
   */
  applyPeers(changes: readonly PeerChange[]): Promise<void> {
    this.#pending.push(...changes);
    return this.#backendQueue.run(() => this.#applyPending());
  }

  /** Puts back what other programs took away, and tries again what failed before. */
  async reconcile(lease: Lease): Promise<void> {
    const backendPart = this.#backendQueue.run(async () => {
      const backend = this.#backend;
      if (backend !== null) await this.#repair('backend', () => backend.reconcile());
    });
    const rulesPart = this.#rulesQueue.run(async () => {
      const rules = this.#rulesApplied ? this.#rules : null;
      if (rules !== null) await this.#repair('traffic rules', () => rules.check());
      await this.#finishSetUp(lease);
    });
    await Promise.all([backendPart, rulesPart]);
  }

  /**
   * Stops forwarding as far as it is this process that forwards. What flannel leaves behind stays, unless the options say
   * otherwise; the subnet file stays in any case, since it tells the next start which subnet to ask for.
   *
   * Work on the rules is broken off. Nothing starts again after it.
   */
  async stop(): Promise<void> {
    const cleanUp = this.options.cleanUpOnExit;
    this.#ending.abort();
    await this.#backendQueue.run(async () => {
      const backend = this.#backend;
      this.#backend = null;
      await this.#complaints.once('stopping the backend', async () => backend?.stop({ cleanUp }));
    });
    if (!cleanUp) return;
    await this.#rulesQueue.run(() =>
      this.#complaints.once('removing the traffic rules', async () => this.#rules?.remove()),
    );
  }

  async #startBackend(backend: Backend, lease: Lease): Promise<void> {
    this.#ending.signal.throwIfAborted();
    await backend.start(lease);
    this.#backend = backend;
    this.#peersKnown = false;
    backend.failed.then((reason) => {
      if (this.#backend === backend) this.onFailed(reason);
    });
  }

  async #finishSetUp(lease: Lease): Promise<void> {
    if (this.#idle) return;
    const { options, parts, config, past } = this;
    const rules = this.#rules ?? parts.createRules(options, config, lease, past, this.#ending.signal);
    this.#rules = rules;
    if (!this.#rulesApplied) {
      this.#rulesApplied = await this.#attempt('setting up traffic rules', async () => {
        for (const change of await rules.apply()) this.log.info(`traffic rules: ${change}`);
      });
    }
    const mtu = this.#backend?.mtu ?? null;
    if (this.#idle || mtu === null || this.#writtenMtu === mtu) return;
    const content = { network: config.network, subnet: lease.subnet, mtu, ipMasq: options.rules.masquerade };
    const written = await this.#complaints.attempt(`writing ${options.subnetFile}`, () =>
      parts.writeSubnetFile(options.subnetFile, content),
    );
    if (written) this.#writtenMtu = mtu;
  }

  async #repair(what: string, check: () => Promise<readonly string[]>): Promise<void> {
    await this.#attempt(`checking the ${what}`, async () => {
      for (const repair of await check()) {
        this.log.warn(`put back: ${repair}`);
        this.#repairs++;
      }
    });
  }

  /** Nothing forwards, or soon nothing will. */
  get #idle(): boolean {
    return this.#backend === null || this.#ending.signal.aborted;
  }

  /** As with `Standing`, but what `stop` breaks off is no failure. */
  #attempt(what: string, work: () => Promise<unknown>): Promise<boolean> {
    return this.#complaints.attempt(what, async () => {
      try {
        await work();
      } catch (error) {
        if (!this.#ending.signal.aborted) throw error;
      }
    });
  }

  async #applyPending(): Promise<void> {
    const changes = this.#pending;
    if (this.#backend === null || (changes.length === 0 && this.#peersKnown)) return;
    this.#pending = [];
    await this.#backend.applyPeers(changes);
    this.#peersKnown = true;
    for (const { kind, lease } of changes) {
      const { subnet, attributes } = lease;
      this.log.debug({ subnet: formatPrefix(subnet), publicIp: formatIpv4(attributes.publicIp) }, `peer ${kind}`);
    }
    if (changes.length > 0) this.log.info({ changes: changes.length }, 'peers updated');
  }
}
