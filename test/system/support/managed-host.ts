import type { LeaseLostError } from '../../../src/subnet/errors.js';
import { EtcdRegistry, type EtcdRegistryOptions } from '../../../src/subnet/etcd/etcd-registry.js';
import { subnetName } from '../../../src/subnet/lease.js';
import { LeaseManager, type LeaseManagerOptions } from '../../../src/subnet/leases/lease-manager.js';
import { type LogLine, peersOf, recordingLogger } from '../../support/manager-harness.js';
import { host } from '../../support/registry-suite.js';

/** One host's lease manager on a real etcd, and everything it announced. */
export class ManagedHost {
  /** How many peers there were at each announcement. */
  readonly announcements: number[] = [];
  readonly events: string[] = [];
  readonly lost: LeaseLostError[] = [];
  readonly registry: EtcdRegistry;
  readonly manager: LeaseManager;
  readonly lines: LogLine[];
  readonly address: string;
  subnet = '';

  constructor(address: string, etcd: EtcdRegistryOptions, options: Partial<LeaseManagerOptions> = {}) {
    const { log, lines } = recordingLogger();
    this.address = address;
    this.lines = lines;
    this.registry = new EtcdRegistry({ callTimeoutMs: 2_000, ...etcd }, log);
    this.manager = new LeaseManager({
      registry: this.registry,
      log,
      host: host(address),
      ...options,
    });
    this.manager.on('peers', () => this.announcements.push(this.manager.peers.leases.length));
    this.manager.on('lease', (_, cause) => this.events.push(cause));
    this.manager.on('connection', ({ state }) => this.events.push(state));
    this.manager.on('lost', (error) => this.lost.push(error));
  }

  /** Public address by subnet. */
  get peers(): ReadonlyMap<string, string> {
    return peersOf(this.manager);
  }

  get connection(): string {
    return this.manager.status().connection.state;
  }

  async start(): Promise<this> {
    const lease = await this.manager.acquire(await this.manager.waitForConfig(), host(this.address));
    this.manager.follow();
    this.subnet = subnetName(lease);
    return this;
  }

  async close(): Promise<void> {
    await this.manager.close();
    await this.registry.close();
  }
}
