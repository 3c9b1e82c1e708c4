import type { Backend, BackendStatus } from '../backend/backend.js';
import { formatIpv4, formatPrefix, samePrefix } from '../base/ipv4.js';
import type { Logger } from '../base/log.js';
import type { NetworkConfig } from '../subnet/config.js';
import type { Lease, PeerChange } from '../subnet/lease.js';
import type { PreviousSubnetEnv } from '../subnet/subnet-env.js';
import { Complaints } from './complaints.js';
import type { DaemonOptions } from './options.js';
import type { DaemonParts, HostRules, UnderlayChoice } from './parts.js';
import { Serial } from './serial.js';

/**
 * Everything on this host that makes the overlay: backend, traffic rules, subnet file.
 *
 * Calls may come at any time; they are carried out one after the other.
 */
export class Overlay {
  readonly #serial = new Serial();
  readonly #complaints: Complaints;
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
    this.#complaints = new Complaints(log);
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

  /** Begins to forward, then tries the rules and the subnet file, whose failure does not stop it. */
  start(backend: Backend, lease: Lease): Promise<void> {
    return this.#serial.run(async () => {
      await this.#startBackend(backend, lease);
      await this.#finishSetUp(lease);
    });
  }

  /** The same subnet and peers by another backend. @param peers all of them, asked for when it is their turn */
  restart(backend: Backend, lease: Lease, peers: () => readonly Lease[]): Promise<void> {
    return this.#serial.run(async () => {
      const former = this.#backend;
      this.#backend = null;
      await former?.stop({ cleanUp: false });
      await this.#startBackend(backend, lease);
      this.#pending = peers().map((peer) => ({ kind: 'added', lease: peer }));
      await this.#applyPending();
      await this.#finishSetUp(lease);
    });
  }

  /**
   * Other hosts that came, changed or went. Whatever has gathered until the backend is free goes to it in one piece,
   * however many calls brought it.
   */
  applyPeers(changes: readonly PeerChange[]): Promise<void> {
    this.#pending.push(...changes);
    return this.#serial.run(() => this.#applyPending());
  }

  /** Puts back what other programs took away, and tries again what failed before. */
  reconcile(lease: Lease): Promise<void> {
    return this.#serial.run(async () => {
      const backend = this.#backend;
      const rules = this.#rulesApplied ? this.#rules : null;
      if (backend !== null) await this.#repair('backend', () => backend.reconcile());
      if (rules !== null) await this.#repair('traffic rules', () => rules.check());
      await this.#finishSetUp(lease);
    });
  }

  /**
   * Stops forwarding as far as it is this process that forwards. What flannel leaves behind stays, unless the options say
   * otherwise; the subnet file stays in any case, since it tells the next start which subnet to ask for.
   */
  stop(): Promise<void> {
    const cleanUp = this.options.cleanUpOnExit;
    return this.#serial.run(async () => {
      const backend = this.#backend;
      this.#backend = null;
      await backend?.stop({ cleanUp });
      if (cleanUp) await this.#complaints.attempt('removing the traffic rules', async () => this.#rules?.remove());
    });
  }

  async #startBackend(backend: Backend, lease: Lease): Promise<void> {
    await backend.start(lease);
    this.#backend = backend;
    this.#peersKnown = false;
    backend.failed.then((reason) => {
      if (this.#backend === backend) this.onFailed(reason);
    });
  }

  async #finishSetUp(lease: Lease): Promise<void> {
    if (this.#backend === null) return;
    const { options, parts, config, past } = this;
    const rules = this.#rules ?? parts.createRules(options, config, lease, past);
    this.#rules = rules;
    if (!this.#rulesApplied) {
      this.#rulesApplied = await this.#complaints.attempt('setting up traffic rules', async () => {
        for (const change of await rules.apply()) this.log.info(`traffic rules: ${change}`);
      });
    }
    const { mtu } = this.#backend;
    if (this.#writtenMtu === mtu) return;
    const content = { network: config.network, subnet: lease.subnet, mtu, ipMasq: options.rules.masquerade };
    const written = await this.#complaints.attempt(`writing ${options.subnetFile}`, () =>
      parts.writeSubnetFile(options.subnetFile, content),
    );
    if (written) this.#writtenMtu = mtu;
  }

  async #repair(what: string, check: () => Promise<readonly string[]>): Promise<void> {
    await this.#complaints.attempt(`checking the ${what}`, async () => {
      for (const repair of await check()) {
        this.log.warn(`put back: ${repair}`);
        this.#repairs++;
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
