import { EventEmitter } from 'node:events';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import type { Backend, BackendContext, BackendStatus } from '../../../src/backend/backend.js';
import { formatIpv4, formatPrefix, type Prefix, parseIpv4, parsePrefix } from '../../../src/base/ipv4.js';
import { silentLogger } from '../../../src/base/log.js';
import { readRunRequest } from '../../../src/cli/options.js';
import { Daemon } from '../../../src/daemon/daemon.js';
import { ServiceManager } from '../../../src/daemon/notify.js';
import type { DaemonParts, HostRules, UnderlayChoice } from '../../../src/daemon/parts.js';
import { LeaseLostError } from '../../../src/subnet/errors.js';
import type { Lease, LeaseAttributes, PeerChange } from '../../../src/subnet/lease.js';
import type { LeaseManagerEvents, LeaseManagerStatus } from '../../../src/subnet/leases/lease-manager.js';
import { parseNetworkConfig } from '../../../src/subnet/network-config/config.js';
import type { StoredLease } from '../../../src/subnet/registry.js';

export const address = (text: string) => parseIpv4(text) as number;
export const prefix = (text: string) => parsePrefix(text) as Prefix;

export const lease = (subnet: string, publicIp: string, extra: Partial<Lease> = {}): Lease => ({
  subnet: prefix(subnet),
  attributes: { publicIp: address(publicIp), publicIpv6: null },
  expiresAt: Date.now() + 86_400_000,
  ...extra,
});

export const added = (subnet: string, publicIp: string): PeerChange => ({
  kind: 'added',
  lease: lease(subnet, publicIp),
});

export const config = parseNetworkConfig('{"Network":"10.5.0.0/16","Backend":{"Type":"udp"}}');

/** A promise and the functions that settle it. */
export function deferred<Value>() {
  let resolve: (value: Value) => void = () => {};
  const promise = new Promise<Value>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

export class FakeBackend implements Backend {
  readonly type = 'udp';
  readonly mtu: number;
  readonly #failure = deferred<Error>();
  readonly failed = this.#failure.promise;
  readonly peers = new Map<string, Lease>();

  constructor(
    readonly context: BackendContext,
    private readonly world: World,
  ) {
    this.mtu = context.underlay.mtu - 28;
  }

  fail(reason: string): void {
    this.#failure.resolve(new Error(reason));
  }

  async attributes(): Promise<LeaseAttributes> {
    return { publicIp: this.context.publicIp, publicIpv6: null };
  }

  async start(own: Lease): Promise<void> {
    this.world.events.push(`backend start ${formatPrefix(own.subnet)}`);
    if (this.world.backendStartFails) throw new Error(this.world.backendStartFails);
  }

  async applyPeers(changes: readonly PeerChange[]): Promise<void> {
    if (changes.length === 0) this.world.noneApplied++;
    this.world.events.push(...changes.map(({ kind, lease: { subnet } }) => `peer ${kind} ${formatPrefix(subnet)}`));
  }

  async reconcile(): Promise<readonly string[]> {
    if (this.world.backendHangs) {
      this.world.events.push('backend hangs');
      await new Promise(() => {});
    }
    return this.world.repairs.splice(0);
  }

  status(): BackendStatus {
    return { type: 'udp', device: 'flannel0', mtu: this.mtu, peers: [], features: [], totals: {}, drops: {} };
  }

  async stop({ cleanUp }: { readonly cleanUp: boolean }): Promise<void> {
    this.world.events.push(cleanUp ? 'backend clean-up' : 'backend stop');
  }
}

/** One host's dealings with a registry that the test holds in its hands. */
class FakeLeases extends EventEmitter<LeaseManagerEvents> {
  #lease: StoredLease | null = null;
  readonly #peers = new Map<string, Lease>();
  readonly #closed = deferred<never>();

  constructor(
    private readonly world: World,
    readonly publicIp: number,
    private readonly previousSubnet: Prefix | null,
  ) {
    super();
  }

  lose(reason: string): void {
    this.emit('lost', new LeaseLostError((this.#lease as Lease).subnet, reason));
  }

  announce(changes: readonly PeerChange[]): void {
    for (const { kind, lease: peer } of changes) {
      if (kind === 'removed') this.#peers.delete(formatPrefix(peer.subnet));
      else this.#peers.set(formatPrefix(peer.subnet), peer);
    }
    this.emit('peers', changes);
  }

  status(): LeaseManagerStatus {
    return {
      registry: 'etcd of the test',
      phase: this.#lease === null ? 'waiting for config' : 'following',
      connection: { state: this.world.silent ? 'down' : 'up', reason: this.world.silent ? 'silence' : '', since: 0 },
      config: this.#lease === null ? null : config,
      lease: this.#lease,
      renewAt: null,
      fromCache: false,
      peers: [...this.#peers.values()],
      malformed: [],
    };
  }

  async waitForConfig() {
    this.world.events.push('await config');
    while (this.world.silent) {
      await Promise.race([new Promise<void>((resolve) => this.world.wake.push(resolve)), this.#closed.promise]);
    }
    return config;
  }

  async acquire(attributes: LeaseAttributes): Promise<Lease> {
    this.world.events.push('acquire lease');
    const subnet = formatPrefix(this.previousSubnet ?? prefix('10.5.7.0/24'));
    this.#lease = { ...lease(subnet, '0.0.0.0'), attributes, key: subnet, reservation: false, version: '1' };
    return this.#lease;
  }

  follow(): void {
    this.world.events.push('follow peers');
    if (this.world.peers.length > 0 || this.world.announceNone) this.announce(this.world.peers);
  }

  async close(): Promise<void> {
    this.world.events.push('leases closed');
  }

  async release(): Promise<void> {
    this.world.events.push(`lease of ${formatIpv4(this.publicIp)} released`);
  }
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
  peers: PeerChange[] = [];
  /** Announce the peers at the start even when there are none. */
  announceNone = false;
  /** How often a backend was told that there are no peers. */
  noneApplied = 0;
  silent = false;
  backendStartFails = '';
  backendHangs = false;
  /** Another program holds the lock of iptables, and does not let go. */
  lockHeld = false;
  backendRefuses: Error | null = null;
  rulesFail = '';
  subnetFileFails = '';
  former: Prefix | null = null;
  underlay: UnderlayChoice = {
    underlay: { name: 'eth0', index: 2, address: address('192.0.2.1'), mtu: 1500 },
    publicIp: address('192.0.2.1'),
    reason: 'the test says so',
  };
  moved: UnderlayChoice | null = null;

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
        return [];
      },
      check: async () => {
        await awaitLock(signal);
        return [];
      },
      remove: async () => {
        events.push('rules removed');
        return [];
      },
    });
    return {
      lockDevice: async () => {
        events.push('locked');
        return { release: async () => void events.push('unlocked') };
      },
      findUnderlay: async () => this.underlay,
      recheckUnderlay: async () => {
        const { moved } = this;
        this.moved = null;
        return moved;
      },
      openRegistry: async () => ({
        createLeases: (publicIp, previousSubnet) => {
          const leases = new FakeLeases(this, publicIp, previousSubnet);
          this.leases.push(leases);
          return leases;
        },
        close: async () => void events.push('registry closed'),
      }),
      createBackend: (_, context) => {
        if (this.backendRefuses) throw this.backendRefuses;
        const backend = new FakeBackend(context, this);
        this.backends.push(backend);
        return backend;
      },
      createRules: (_options, _config, _lease, _past, signal) => rules(signal),
      readSubnetFile: async () => ({ network: null, subnet: this.former, warnings: [] }),
      writeSubnetFile: async (_, { subnet, mtu }) => {
        if (this.subnetFileFails) throw new Error(this.subnetFileFails);
        events.push(`subnet file ${formatPrefix(subnet)} ${mtu}`);
      },
    };
  }
}
