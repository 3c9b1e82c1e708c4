/**
 * The `wireguard` backend: flannel's, so that hosts of both kinds share an overlay. What the lease says, which devices there
 * are, who the peers of each are, and which engine carries their packets; the rest is the engine's.
 */
import type { Family } from '../../base/address.js';
import type { Lease, LeaseAttributes, PeerSet } from '../../subnet/lease.js';
import { formatKey, PrivateKey } from '../../wireguard/keys.js';
import {
  type Backend,
  type BackendContext,
  type BackendStatus,
  type FeatureStatus,
  peerNames,
  type RefusedPeer,
  type StopOptions,
} from '../backend.js';
import { ownershipOf, removeFormerDevices, removeFormerRoutes } from '../kernel/former-life.js';
import { hostKernel } from '../kernel/kernel.js';
import { DeviceSharedError } from '../udp/descriptors.js';
import type { UdpBackendOptions } from '../udp/options.js';
import { announcementOf } from './announcement.js';
import { carriedOf, type DevicePlan, planDevices } from './devices.js';
import type { Engine, EngineContext, EngineRefusals } from './engine.js';
import { KernelEngine, NoKernelWireguardError } from './kernel-engine.js';
import { loadPrivateKey } from './key-file.js';
import { mergeStatus } from './merged-status.js';
import {
  readWireguardOptions,
  WIREGUARD_OVERHEAD,
  type WireguardDaemonOptions,
  type WireguardOptions,
} from './options.js';
import { wireguardPeers } from './peers.js';
import { UserEngine } from './user-engine.js';

/** A device that forwards. */
interface Running {
  readonly plan: DevicePlan;
  readonly engine: Engine;
}

export class WireguardBackend implements Backend {
  readonly type = 'wireguard';
  readonly mtu: number;
  readonly notCarried: ReadonlyMap<Family, string>;
  readonly failed: Promise<Error>;
  readonly #context: BackendContext;
  readonly #options: WireguardOptions;
  /** IPv4's first, where each family has its own. */
  readonly #plans: readonly DevicePlan[];
  readonly #daemon: WireguardDaemonOptions;
  readonly #udp: UdpBackendOptions;
  #fail: (error: Error) => void = () => {};
  #key: PrivateKey | null = null;
  #keyIsNew = false;
  /** This host's public key in base64. */
  #name = '';
  #running: readonly Running[] = [];
  /** Why it is not the kernel; empty when it is, or was not asked. */
  #engineReason = '';
  #refused: readonly RefusedPeer[] = [];

  /**
   * @throws ConfigError when an option of the network configuration is wrong
   * @throws NoHalfError when the host has no address by which anything could be carried
   */
  constructor(context: BackendContext, daemon: WireguardDaemonOptions, udp: UdpBackendOptions) {
    const { underlay, config, log } = context;
    const { options, unknown } = readWireguardOptions(config.backend.options);
    for (const name of unknown) log.warn(`wireguard knows no option "${name}"; ignored`);
    let underlayMtu = options.underlayMtu ?? underlay.mtu;
    if (underlayMtu > underlay.mtu) {
      log.warn(`Backend.MTU ${underlayMtu} is more than ${underlay.name} carries; using its ${underlay.mtu}`);
      underlayMtu = underlay.mtu;
    }
    this.#context = context;
    this.#options = options;
    this.#daemon = daemon;
    this.#udp = udp;
    this.mtu = underlayMtu - WIREGUARD_OVERHEAD;
    const { plans, notCarried } = planDevices(context, options, this.mtu);
    this.#plans = plans;
    this.notCarried = notCarried;
    this.failed = new Promise((resolve) => {
      this.#fail = resolve;
    });
  }

  async attributes(): Promise<LeaseAttributes> {
    const { publicKey } = await this.#loadKey();
    const { config, publicIp, publicIpv6 } = this.#context;
    const [ofV4, ofV6] = (['ipv4', 'ipv6'] as const).map((family) =>
      this.#plans.find(({ networks }) => networks[family] !== null),
    );
    // as flannel: what is no way of ours in this mode is told all the same, and says whose lease it is
    const addresses =
      this.#options.mode === 'separate'
        ? { publicIp: ofV4 ? publicIp : 0, publicIpv6: ofV6 ? publicIpv6 : null }
        : { publicIp, publicIpv6: config.ipv6 && publicIpv6 };
    return {
      ...addresses,
      backendType: this.type,
      ...(ofV4 && { backendData: announcementOf(publicKey, ofV4.port) }),
      ...(ofV6 && { backendV6Data: announcementOf(publicKey, ofV6.port) }),
    };
  }

  async #loadKey(): Promise<PrivateKey> {
    if (this.#key === null) {
      const { key, isNew } = await loadPrivateKey(this.#daemon.keyFile);
      this.#key = key;
      this.#keyIsNew = isNew;
    }
    this.#name = formatKey(this.#key.publicKey);
    return this.#key;
  }

  async start(lease: Lease, peers: PeerSet): Promise<void> {
    const key = await this.#loadKey();
    await this.#removeFormerLife();
    const { engine: wanted } = this.#daemon;
    const { inherited } = this.#context;
    if (wanted === 'auto' && inherited?.empty === false) {
      // to ask the kernel would take the device away that is to be gone on with
      this.#engineReason = 'the device of the daemon that ran before is gone on with';
    } else if (wanted !== 'user') {
      if (inherited?.shared) throw new DeviceSharedError(this.#deviceNames, 'it is to be the kernel’s');
      try {
        return await this.#startAll(lease, peers, (context) => this.#kernelEngine(context, key));
      } catch (error) {
        if (wanted === 'kernel' || !(error instanceof NoKernelWireguardError)) throw error;
        this.#engineReason = error.reason;
        this.#context.log.info(`encrypting in this process: ${error.reason}`);
      }
    }
    await this.#startAll(lease, peers, (context, plan) => this.#userEngine(context, plan, key));
  }

  /** All devices or none. */
  async #startAll(
    lease: Lease,
    peers: PeerSet,
    make: (context: EngineContext, plan: DevicePlan) => Engine,
  ): Promise<void> {
    const { presharedKey, keepalive } = this.#options;
    const running: Running[] = [];
    const refusals: EngineRefusals[] = [];
    try {
      for (const planned of this.#plans) {
        const { subnet: ipv4, subnetV6: ipv6 } = carriedOf(planned, lease);
        if (ipv4 === null && ipv6 === null) continue;
        const networks = { ipv4: ipv4 && planned.networks.ipv4, ipv6: ipv6 && planned.networks.ipv6 };
        const plan = { ...planned, networks };
        const { name: device, port } = plan;
        const engine = make({ device, networks, mtu: this.mtu, port, presharedKey, keepalive }, plan);
        const { refused, peers: sorted } = wireguardPeers(peers.leases, this.#name, plan);
        refusals.push(refused, await engine.start({ ipv4, ipv6 }, { peers: sorted, complete: peers.complete }));
        running.push({ plan, engine });
      }
    } catch (error) {
      for (const { engine } of running) await engine.stop();
      throw error;
    }
    this.#running = running;
    this.#note(peers, refusals);
    for (const { engine } of running) engine.failed.then(this.#fail);
  }

  #kernelEngine(context: EngineContext, privateKey: PrivateKey): Engine {
    return new KernelEngine({ context, privateKey, txQueueLength: this.#udp.txQueueLength });
  }

  #userEngine(context: EngineContext, { local }: DevicePlan, privateKey: PrivateKey): Engine {
    return new UserEngine({
      backend: this.#context,
      context,
      local,
      // each device's own: it is zeroed when that ends
      privateKey: new PrivateKey(privateKey.secret.bytes.slice()),
      udp: this.#udp,
      socketDirectory: this.#daemon.socketDirectory,
      hasPast: !this.#keyIsNew,
      clock: this.#daemon.clock,
    });
  }

  /** A route to a peer that another backend left behind would win over ours, and its packets would travel in the clear. */
  async #removeFormerLife(): Promise<void> {
    const { log } = this.#context;
    for (const { name, networks } of this.#plans) {
      for (const family of [4, 6] as const) {
        if (networks[family === 4 ? 'ipv4' : 'ipv6'] === null) continue;
        const { former } = ownershipOf(this.#context, name, family);
        for (const line of await removeFormerDevices(former, hostKernel)) log.info(line);
        for (const line of await removeFormerRoutes({ ...former, ownDevice: null }, hostKernel)) log.info(line);
      }
    }
  }

  async setPeers(peers: PeerSet): Promise<readonly string[]> {
    const refusals: EngineRefusals[] = [];
    const lines: string[] = [];
    const failures: unknown[] = [];
    for (const { plan, engine } of this.#running) {
      const sorted = wireguardPeers(peers.leases, this.#name, plan);
      try {
        const { mended, refused } = await engine.setPeers({ peers: sorted.peers, complete: peers.complete });
        lines.push(...mended);
        refusals.push(sorted.refused, refused);
      } catch (error) {
        failures.push(error); // what one family lacks takes nothing from the other
      }
    }
    if (failures.length > 0) throw failures[0];
    this.#note(peers, refusals);
    return lines;
  }

  #note({ leases }: PeerSet, refusals: readonly EngineRefusals[]): void {
    const reasons = new Map(refusals.flatMap((one) => [...one]));
    this.#refused = leases.flatMap((lease): readonly RefusedPeer[] => {
      const { subnet, subnetV6, publicIp } = peerNames(lease);
      const refused = [...new Set([subnet, subnetV6 ?? subnet])].flatMap((name) => {
        const reason = reasons.get(name);
        return reason === undefined ? [] : [{ subnet: name, publicIp, reason }];
      });
      // both halves for the same reason are the whole lease
      return new Set(refused.map(({ reason }) => reason)).size === 1 ? refused.slice(0, 1) : refused;
    });
  }

  get #deviceNames(): string {
    return this.#plans.map(({ name }) => name).join(', ');
  }

  status(): BackendStatus {
    const base = { type: this.type, device: this.#deviceNames, mtu: this.mtu, refused: this.#refused };
    const [first] = this.#running;
    if (first === undefined) return { ...base, peers: [], features: [], totals: {}, drops: {} };
    const { features, ...others } = mergeStatus(this.#running.map(({ engine }) => engine.status()));
    const which: FeatureStatus = {
      name: 'engine',
      wanted: this.#daemon.engine,
      inForce: first.engine.name,
      reason: this.#engineReason,
    };
    return { ...base, ...others, features: [which, ...features] };
  }

  stuckFor(): number {
    return Math.max(0, ...this.#running.map(({ engine }) => engine.stuckFor()));
  }

  descriptors(): ReadonlyMap<string, number> {
    return new Map(this.#running.flatMap(({ engine }) => [...(engine.descriptors?.() ?? [])]));
  }

  vessels(): readonly string[] {
    return this.#running.flatMap(({ engine }) => engine.vessels?.() ?? []);
  }

  async stop({ heir, vessels }: StopOptions): Promise<void> {
    const running = this.#running;
    this.#running = [];
    for (const { engine } of running) await engine.stop(heir, vessels);
    this.#key?.zero();
    this.#options.presharedKey?.fill(0);
  }
}
