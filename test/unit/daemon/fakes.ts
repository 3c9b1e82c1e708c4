import { EventEmitter } from 'node:events';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import type { Backend, BackendContext, BackendStatus, StopOptions } from '../../../src/backend/backend.js';
import type { Family } from '../../../src/base/address.js';
import { type Clock, systemClock } from '../../../src/base/clock.js';
import { formatIpv4, formatPrefix, type Prefix, parseIpv4, parsePrefix } from '../../../src/base/ipv4.js';
import { formatIpv6Prefix, type Ipv6Prefix, parseIpv6Prefix } from '../../../src/base/ipv6.js';
import { silentLogger } from '../../../src/base/log.js';
import { readRunRequest } from '../../../src/cli/options.js';
import { Daemon } from '../../../src/daemon/daemon.js';
import { ServiceManager } from '../../../src/daemon/notify.js';
import type { DaemonParts, HostRules, RegistryHandle, UnderlayChoice } from '../../../src/daemon/parts.js';
import { Inheritance } from '../../../src/linux/inheritance.js';
import { LeaseLostError } from '../../../src/subnet/errors.js';
import {
  type HostAddresses,
  type Lease,
  type LeaseAttributes,
  type PeerSet,
  type Subnets,
  subnetName,
} from '../../../src/subnet/lease.js';
import type { LeaseManagerEvents, LeaseManagerStatus } from '../../../src/subnet/leases/lease-manager.js';
import { type NetworkConfig, parseNetworkConfig } from '../../../src/subnet/network-config/config.js';
import type { StoredLease } from '../../../src/subnet/registry.js';

export const address = (text: string) => parseIpv4(text) as number;
export const prefix = (text: string) => parsePrefix(text) as Prefix;
export const prefixV6 = (text: string) => parseIpv6Prefix(text) as Ipv6Prefix;

export const lease = (subnet: string, publicIp: string, extra: Partial<Lease> = {}): Lease => ({
  subnet: prefix(subnet),
  subnetV6: null,
  attributes: { publicIp: address(publicIp), publicIpv6: null },
  expiresAt: Date.now() + 86_400_000,
  ...extra,
});

export const peer = (subnet: string, publicIp: string): Lease => lease(subnet, publicIp);

export const config = parseNetworkConfig('{"Network":"10.5.0.0/16","Backend":{"Type":"udp"}}');
/** The same with both families, of which a fake backend carries IPv6 from an underlay of 1308 bytes on. */
export const dualConfig = parseNetworkConfig(
  '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48","Backend":{"Type":"udp"}}',
);

/** A promise and the functions that settle it. */
export function deferred<Value>() {
  let resolve: (value: Value) => void = () => {};
  const promise = new Promise<Value>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

const subnetsOf = ({ leases }: PeerSet) => leases.map(subnetName).join(' ') || 'none';

/** Does to the host of the world what a backend does: device, address, peers; compares, and mends the difference. */
export class FakeBackend implements Backend {
  readonly type = 'udp';
  readonly mtu: number;
  readonly #failure = deferred<Error>();
  readonly failed = this.#failure.promise;
  #peers = '';

  constructor(
    readonly context: BackendContext,
    private readonly world: World,
  ) {
    this.mtu = context.underlay.mtu - 28;
  }

  get notCarried(): ReadonlyMap<Family, string> {
    const refused = this.context.config.ipv6 !== null && this.mtu < 1280;
    return new Map(refused ? [[6, 'fd00:5::/48 is not carried; raise the MTU']] : []);
  }

  /** By what it would go on without the daemon. */
  readonly held = new Map<string, number>();

  descriptors(): ReadonlyMap<string, number> {
    return new Map([['tun', 8]]);
  }

  holds(): ReadonlyMap<string, number> {
    return this.held;
  }

  fail(reason: string): void {
    this.#failure.resolve(new Error(reason));
  }

  async attributes(): Promise<LeaseAttributes> {
    return { publicIp: this.context.publicIp, publicIpv6: null };
  }

  async start(own: Lease, peers: PeerSet): Promise<void> {
    this.#peers = subnetsOf(peers);
    this.world.events.push(`backend start ${subnetName(own)}, peers ${this.#peers}`);
    await this.world.backendStarts;
    if (this.world.backendStartFails) throw new Error(this.world.backendStartFails);
    if (this.world.host.device !== null) throw new Error('flannel0 is there already');
    this.world.host.device = { underlay: this.context.underlay.name, subnet: subnetName(own), mtu: this.mtu };
    this.world.host.peers = this.#peers;
  }

  async setPeers(peers: PeerSet): Promise<readonly string[]> {
    if (this.world.backendHangs) {
      this.world.events.push('backend hangs');
      await new Promise(() => {});
    }
    if (this.world.backendFailsNow) throw new Error(this.world.backendFailsNow);
    if (subnetsOf(peers) !== this.#peers) this.world.events.push(`peers ${subnetsOf(peers)}`);
    this.#peers = subnetsOf(peers);
    this.world.host.peers = this.#peers;
    return this.world.repairs.splice(0);
  }

  status(): BackendStatus {
    const base = { type: 'udp', device: 'flannel0', mtu: this.mtu, peers: [], refused: [] };
    return { ...base, features: [], totals: {}, drops: {} };
  }

  async stop({ cleanUp, pinned }: StopOptions): Promise<void> {
    this.world.pinned = pinned ?? false;
    this.world.events.push(cleanUp ? 'backend clean-up' : 'backend stop');
    this.world.host.device = null;
    this.world.host.peers = 'none';
  }
}

/** One host's dealings with a registry that the test holds in its hands. */
class FakeLeases extends EventEmitter<LeaseManagerEvents> {
  #lease: StoredLease | null = null;
  #peers: PeerSet;
  readonly #closed = deferred<never>();

  constructor(
    private readonly world: World,
    readonly host: HostAddresses,
    private readonly previous: Subnets,
  ) {
    super();
    this.#peers = { leases: world.peers, complete: true };
  }

  lose(reason: string): void {
    this.emit('lost', new LeaseLostError(this.#lease as Lease, reason));
  }

  get peers(): PeerSet {
    return this.#peers;
  }

  setPeers(leases: readonly Lease[]): void {
    this.#peers = { leases, complete: true };
    this.emit('peers');
  }

  status(): LeaseManagerStatus {
    return {
      registry: 'etcd of the test',
      phase: this.#lease === null ? 'waiting for config' : 'following',
      connection: { state: this.world.silent ? 'down' : 'up', reason: this.world.silent ? 'silence' : '', since: 0 },
      config: this.#lease === null ? null : this.world.config,
      lease: this.#lease,
      renewAt: null,
      fromCache: false,
      hasTwin: this.world.hasTwin,
      peers: this.#peers,
      malformed: [],
    };
  }

  async waitForConfig() {
    this.world.events.push('await config');
    while (this.world.silent) {
      await Promise.race([new Promise<void>((resolve) => this.world.wake.push(resolve)), this.#closed.promise]);
    }
    return this.world.config;
  }

  async acquire({ ipv6 }: NetworkConfig, attributes: LeaseAttributes): Promise<Lease> {
    this.world.events.push('acquire lease');
    const subnet = formatPrefix(this.previous.subnet ?? prefix('10.5.7.0/24'));
    const expiresAt = Date.now() + this.world.leaseMs;
    const subnetV6 = ipv6 && (this.previous.subnetV6 ?? prefixV6('fd00:5:0:7::/64'));
    this.#lease = {
      ...lease(subnet, '0.0.0.0'),
      subnetV6,
      attributes,
      key: subnet,
      reservation: false,
      version: '1',
      expiresAt,
    };
    return this.#lease;
  }

  follow(): void {
    this.world.events.push('follow');
  }

  announce(attributes: LeaseAttributes): void {
    this.world.events.push(`announce ${formatIpv4(attributes.publicIp)}`);
    this.#lease = { ...(this.#lease as StoredLease), attributes };
  }

  async close(): Promise<void> {
    this.world.events.push('leases closed');
  }

  async release(): Promise<void> {
    this.world.events.push(`lease of ${formatIpv4(this.host.publicIp)} released`);
  }
}

/** What the kernel of a fake host has. */
export interface FakeHost {
  device: { readonly underlay: string; readonly subnet: string; readonly mtu: number } | null;
  peers: string;
  rules: boolean;
  file: string;
}

/** A host and what surrounds it, in memory; the run directory alone is real. */
export class World {
  /** What the daemon did, in order. */
  readonly events: string[] = [];
  readonly messages: string[] = [];
  readonly backends: FakeBackend[] = [];
  readonly wake: (() => void)[] = [];
  readonly repairs: string[] = [];
  readonly leases: FakeLeases[] = [];
  /** Whether a backend that was stopped could leave behind what forwards by itself. */
  pinned: boolean | null = null;
  readonly host: FakeHost = { device: null, peers: 'none', rules: false, file: '' };
  peers: Lease[] = [];
  leaseMs = 86_400_000;
  silent = false;
  /** What a backend waits for at its start. */
  backendStarts: Promise<void> = Promise.resolve();
  backendStartFails = '';
  backendHangs = false;
  backendFailsNow = '';
  /** Another program holds the lock of iptables, and does not let go. */
  lockHeld = false;
  backendRefuses: Error | null = null;
  rulesFail = '';
  subnetFileFails = '';
  former: Prefix | null = null;
  config = config;
  underlay: UnderlayChoice = {
    underlay: { name: 'eth0', index: 2, address: address('192.0.2.1'), prefixLength: 24, ipv6: null, mtu: 1500 },
    publicIp: address('192.0.2.1'),
    publicIpv6: null,
    reason: 'the test says so',
  };
  moved: UnderlayChoice | null = null;
  hasTwin = false;
  /** What the host's firewall refuses. */
  obstacles: readonly string[] = [];

  /** Five times as fast as the real one: intervals are waited for here, never measured. */
  clock: Clock = { ...systemClock, sleep: (milliseconds, signal) => systemClock.sleep(milliseconds / 5, signal) };
  /** A registry in place of the one that the test holds in its hands. */
  registry: RegistryHandle | null = null;

  constructor(readonly runDirectory: string) {}

  static async create(): Promise<World> {
    return new World(await fs.mkdtemp(path.join(os.tmpdir(), 'tweed-daemon-')));
  }

  async remove(): Promise<void> {
    await fs.rm(this.runDirectory, { recursive: true });
  }

  /** The registry begins to answer. */
  speak(): void {
    this.silent = false;
    for (const wake of this.wake.splice(0)) wake();
  }

  daemon(...argv: string[]): Daemon {
    const { options } = readRunRequest(['-run-dir', this.runDirectory, '-iptables-resync=1', ...argv], {});
    const environment = { NOTIFY_SOCKET: '@test' };
    const manager = new ServiceManager(environment, (_, message) => this.messages.push(message), silentLogger());
    return new Daemon(options, this.#parts(), manager, silentLogger());
  }

  #parts(): DaemonParts {
    const { events } = this;
    const awaitLock = async (signal: AbortSignal) => {
      if (!this.lockHeld) return;
      events.push('rules wait for the lock');
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    };
    const rules = (signal: AbortSignal): HostRules => ({
      apply: async () => {
        await awaitLock(signal);
        if (this.rulesFail) throw new Error(this.rulesFail);
        events.push('rules applied');
        this.host.rules = true;
        return [];
      },
      check: async () => {
        await awaitLock(signal);
        const gone = !this.host.rules;
        this.host.rules = true;
        return gone ? ['the chains'] : [];
      },
      obstacles: async () => this.obstacles,
      cleanUp: async () => {
        events.push('rules removed');
        this.host.rules = false;
        return [];
      },
    });
    return {
      lock: async (name) => {
        events.push(`lock ${name}`);
        return { release: () => void events.push(`unlock ${name}`) };
      },
      deviceOf: () => 'flannel0',
      inherit: () => new Inheritance(),
      takeOver: async () => ({ complete: async () => true }),
      offerHandOver: async () => ({ stopped: () => {}, close: async () => {} }),
      findUnderlay: async () => this.underlay,
      recheckUnderlay: async () => {
        const { moved } = this;
        this.moved = null;
        return moved;
      },
      clock: this.clock,
      openRegistry: async () =>
        this.registry ?? {
          createLeases: (host, previous) => {
            const leases = new FakeLeases(this, host, previous);
            this.leases.push(leases);
            return leases;
          },
          close: async () => void events.push('registry closed'),
        },
      createBackend: async (_, context) => {
        if (this.backendRefuses) throw this.backendRefuses;
        const backend = new FakeBackend(context, this);
        this.backends.push(backend);
        return backend;
      },
      createRules: (_options, _config, _subnet, _past, signal) => rules(signal),
      readSubnetFile: async () => ({
        network: null,
        subnet: this.former,
        networkV6: null,
        subnetV6: null,
        warnings: [],
      }),
      writeSubnetFile: async (_, { ipv4, ipv6, keptV6, mtu }) => {
        if (this.subnetFileFails) throw new Error(this.subnetFileFails);
        const v6 = ipv6 && ` ${formatIpv6Prefix(ipv6.subnet)}`;
        const kept = keptV6 && ` (keeps ${formatIpv6Prefix(keptV6.subnet)})`;
        this.host.file = `${formatPrefix(ipv4?.subnet as Prefix)}${v6 ?? kept ?? ''} ${mtu}`;
        events.push(`subnet file ${this.host.file}`);
      },
    };
  }
}
