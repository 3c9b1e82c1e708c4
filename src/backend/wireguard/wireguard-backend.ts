/**
 * The `wireguard` backend: flannel's, so that hosts of both kinds share an overlay. What the lease says, who the peers are,
 * and which engine carries their packets; the rest is the engine's.
 */
import { isIpv4Prefix } from '../../base/address.js';
import type { Lease, LeaseAttributes, PeerSet } from '../../subnet/lease.js';
import { formatKey, type PrivateKey } from '../../wireguard/keys.js';
import {
  type Backend,
  type BackendContext,
  type BackendStatus,
  type FeatureStatus,
  ipv4Network,
  ipv4Subnet,
  peerNames,
  type RefusedPeer,
  type StopOptions,
} from '../backend.js';
import { removeFormerDevices, removeFormerRoutes } from '../kernel/former-life.js';
import { hostKernel } from '../kernel/kernel.js';
import { DeviceSharedError } from '../udp/descriptors.js';
import type { UdpBackendOptions } from '../udp/options.js';
import { announcementOf } from './announcement.js';
import type { Engine, EngineContext, EngineRefusals } from './engine.js';
import { KernelEngine, NoKernelWireguardError } from './kernel-engine.js';
import { loadPrivateKey } from './key-file.js';
import { readWireguardOptions, WIREGUARD_DEVICE, WIREGUARD_OVERHEAD, type WireguardDaemonOptions } from './options.js';
import { wireguardPeers } from './peers.js';
import { UserEngine } from './user-engine.js';

export class WireguardBackend implements Backend {
  readonly type = 'wireguard';
  readonly mtu: number;
  readonly failed: Promise<Error>;
  readonly #context: BackendContext;
  readonly #engineContext: EngineContext;
  readonly #daemon: WireguardDaemonOptions;
  readonly #udp: UdpBackendOptions;
  #fail: (error: Error) => void = () => {};
  #key: PrivateKey | null = null;
  #keyIsNew = false;
  /** This host's public key in base64. */
  #name = '';
  #engine: Engine | null = null;
  /** Why it is not the kernel; empty when it is, or was not asked. */
  #engineReason = '';
  #refused: readonly RefusedPeer[] = [];

  /** @throws ConfigError when an option of the network configuration is wrong */
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
    this.#daemon = daemon;
    this.#udp = udp;
    this.mtu = underlayMtu - WIREGUARD_OVERHEAD;
    const { port, presharedKey, keepalive } = options;
    this.#engineContext = { mtu: this.mtu, port, presharedKey, keepalive };
    this.failed = new Promise((resolve) => {
      this.#fail = resolve;
    });
  }

  async attributes(): Promise<LeaseAttributes> {
    const { publicKey } = await this.#loadKey();
    return {
      publicIp: this.#context.publicIp,
      publicIpv6: null,
      backendType: this.type,
      backendData: announcementOf(publicKey, this.#engineContext.port),
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
    const sorted = this.#sort(peers);
    const started = async (engine: Engine): Promise<void> => {
      this.#note(peers, sorted.refused, await engine.start(ipv4Subnet(lease), { ...sorted, complete: peers.complete }));
      this.#engine = engine;
      engine.failed.then(this.#fail);
    };
    const { engine: wanted } = this.#daemon;
    const { inherited } = this.#context;
    if (wanted === 'auto' && inherited?.empty === false) {
      // to ask the kernel would take the device away that is to be gone on with
      this.#engineReason = 'the device of the daemon that ran before is gone on with';
    } else if (wanted !== 'user') {
      if (inherited?.shared) throw new DeviceSharedError(WIREGUARD_DEVICE, 'it is to be the kernel’s');
      try {
        return await started(this.#kernelEngine(key));
      } catch (error) {
        if (wanted === 'kernel' || !(error instanceof NoKernelWireguardError)) throw error;
        this.#engineReason = error.reason;
        this.#context.log.info(`encrypting in this process: ${error.reason}`);
      }
    }
    await started(this.#userEngine(key));
  }

  #kernelEngine(privateKey: PrivateKey): Engine {
    const { network } = ipv4Network(this.#context.config);
    const { txQueueLength } = this.#udp;
    return new KernelEngine({ network, context: this.#engineContext, privateKey, txQueueLength });
  }

  #userEngine(privateKey: PrivateKey): Engine {
    return new UserEngine({
      backend: this.#context,
      context: this.#engineContext,
      privateKey,
      udp: this.#udp,
      socketDirectory: this.#daemon.socketDirectory,
      hasPast: !this.#keyIsNew,
    });
  }

  /** A route to a peer that another backend left behind would win over ours, and its packets would travel in the clear. */
  async #removeFormerLife(): Promise<void> {
    const { config, underlay, log, formerNetworks = [] } = this.#context;
    const { network, subnetLength } = ipv4Network(config);
    const networks = [network, ...formerNetworks.filter(isIpv4Prefix)];
    const ownership = {
      networks,
      ownDevice: WIREGUARD_DEVICE,
      underlay: underlay.name,
      subnetLength,
    };
    for (const line of await removeFormerDevices(ownership, hostKernel)) log.info(line);
    for (const line of await removeFormerRoutes({ ...ownership, ownDevice: null }, hostKernel)) log.info(line);
  }

  #sort({ leases }: PeerSet): ReturnType<typeof wireguardPeers> {
    return wireguardPeers(leases, this.#name, this.#engineContext.port);
  }

  async setPeers(peers: PeerSet): Promise<readonly string[]> {
    if (this.#engine === null) return [];
    const sorted = this.#sort(peers);
    const { mended, refused } = await this.#engine.setPeers({ ...sorted, complete: peers.complete });
    this.#note(peers, sorted.refused, refused);
    return mended;
  }

  #note({ leases }: PeerSet, ...refusals: EngineRefusals[]): void {
    const reasons = new Map(refusals.flatMap((one) => [...one]));
    this.#refused = leases.flatMap((lease) => {
      const { subnet, publicIp } = peerNames(lease);
      const reason = reasons.get(subnet);
      return reason === undefined ? [] : [{ subnet, publicIp, reason }];
    });
  }

  status(): BackendStatus {
    const base = { type: this.type, device: WIREGUARD_DEVICE, mtu: this.mtu, refused: this.#refused };
    const engine = this.#engine;
    if (engine === null) return { ...base, peers: [], features: [], totals: {}, drops: {} };
    const { features, ...others } = engine.status();
    const which: FeatureStatus = {
      name: 'engine',
      wanted: this.#daemon.engine,
      inForce: engine.name,
      reason: this.#engineReason,
    };
    return { ...base, ...others, features: [which, ...features] };
  }

  stuckFor(): number {
    return this.#engine?.stuckFor() ?? 0;
  }

  descriptors(): ReadonlyMap<string, number> {
    return this.#engine?.descriptors?.() ?? new Map();
  }

  async stop({ heir }: StopOptions): Promise<void> {
    const engine = this.#engine;
    this.#engine = null;
    await engine?.stop(heir);
    this.#key?.zero();
    this.#engineContext.presharedKey?.fill(0);
  }
}
