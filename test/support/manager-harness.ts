import { formatIpv4 } from '../../src/base/ipv4.js';
import type { Logger } from '../../src/base/log.js';
import type { LeaseLostError } from '../../src/subnet/errors.js';
import { encodeLeaseValue, formatSubnetKey } from '../../src/subnet/keys.js';
import { type Lease, type LeaseAttributes, subnetName } from '../../src/subnet/lease.js';
import { LeaseManager, type LeaseManagerOptions } from '../../src/subnet/leases/lease-manager.js';
import { FakeClock, settle } from './fake-clock.js';
import { MemoryRegistry, MemoryStore } from './memory-registry.js';
import { host, subnets } from './registry-suite.js';

export const SELF = '192.0.2.1';
export const CONFIG = '{"Network":"10.5.0.0/16"}';
export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;

export interface LogLine {
  readonly level: string;
  readonly message: string;
  readonly fields: Record<string, unknown>;
}

/** A logger that keeps what it is told. */
export function recordingLogger(): { log: Logger; lines: LogLine[] } {
  const lines: LogLine[] = [];
  const write =
    (level: string) =>
    (first: unknown, second?: string): void => {
      lines.push(
        typeof first === 'string'
          ? { level, message: first, fields: {} }
          : { level, message: second ?? '', fields: first as Record<string, unknown> },
      );
    };
  const log = Object.fromEntries(['debug', 'info', 'warn', 'error'].map((level) => [level, write(level)]));
  return { log: log as unknown as Logger, lines };
}

/** A manager that follows, and what it has announced. */
export interface Running {
  readonly manager: LeaseManager;
  readonly lease: Lease;
  /** How many peers there were at each announcement. */
  readonly announcements: number[];
  /** Public address by subnet, as they are now. */
  readonly peers: ReadonlyMap<string, string>;
  readonly events: string[];
  readonly lost: LeaseLostError[];
}

/** Public address by subnet. */
export function peersOf({ peers }: LeaseManager): Map<string, string> {
  return new Map(peers.leases.map((lease) => [subnetName(lease), formatIpv4(lease.attributes.publicIp)]));
}

/** One simulated cluster: a store in memory, time that stands still, and the managers under test. */
export class ManagerHarness {
  readonly clock = new FakeClock();
  readonly store = new MemoryStore(this.clock);
  readonly #recorded = recordingLogger();
  readonly #managers: LeaseManager[] = [];

  get lines(): LogLine[] {
    return this.#recorded.lines;
  }

  get warnings(): LogLine[] {
    return this.lines.filter((line) => line.level === 'warn');
  }

  manage(options: Partial<LeaseManagerOptions> = {}): LeaseManager {
    const manager = new LeaseManager({
      registry: new MemoryRegistry(this.store),
      log: this.#recorded.log,
      host: host(SELF),
      clock: this.clock,
      random: () => 0,
      ...options,
    });
    this.#managers.push(manager);
    return manager;
  }

  async running(
    options: Partial<LeaseManagerOptions> = {},
    attributes: LeaseAttributes = host(SELF),
  ): Promise<Running> {
    if (this.store.config === null) this.store.setConfig(CONFIG);
    const manager = this.manage(options);
    const result = {
      manager,
      announcements: [] as number[],
      events: [] as string[],
      lost: [] as LeaseLostError[],
      get peers() {
        return peersOf(manager);
      },
    };
    manager.on('peers', () => result.announcements.push(manager.peers.leases.length));
    manager.on('lease', (_, cause) => result.events.push(cause));
    manager.on('connection', ({ state }) => result.events.push(state));
    manager.on('lost', (error) => result.lost.push(error));
    const lease = await manager.acquire(await manager.waitForConfig(), attributes);
    manager.follow();
    await settle();
    return Object.assign(result, { lease });
  }

  putPeer(prefix: string, address: string, ttl: number | null = 86_400): void {
    this.store.put(formatSubnetKey(subnets(prefix)), encodeLeaseValue(host(address)), ttl);
  }

  async close(): Promise<void> {
    for (const manager of this.#managers.splice(0)) {
      const closed = manager.close();
      await this.clock.advance(2_000);
      await closed;
    }
  }
}
