import type { Backend, BackendContext } from '../backend/backend.js';
import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/log.js';
import type { FileLock } from '../linux/file-lock.js';
import type { Inheritance } from '../linux/inheritance.js';
import type { TrafficRules } from '../routes/rules/rules.js';
import type { UnderlayChoice, UnderlayOptions } from '../routes/underlay.js';
import type { LeaseLostError } from '../subnet/errors.js';
import type { HostAddresses, Subnets } from '../subnet/lease.js';
import type { LeaseManager } from '../subnet/leases/lease-manager.js';
import type { NetworkConfig } from '../subnet/network-config/config.js';
import type { PreviousSubnetEnv, SubnetEnv } from '../subnet/subnet-env.js';
import type { Giver, HandOver, HandOverServer } from './hand-over.js';
import type { DaemonOptions } from './options.js';

export type { UnderlayChoice };

/** The part of the lease manager that the daemon uses. */
export interface Leases
  extends Pick<
    LeaseManager,
    'waitForConfig' | 'acquire' | 'follow' | 'peers' | 'announce' | 'status' | 'close' | 'release'
  > {
  on(event: 'peers', listener: () => void): unknown;
  on(event: 'lost', listener: (error: LeaseLostError) => void): unknown;
}

/** The registry, open. */
export interface RegistryHandle {
  /** This host's dealings with it. @param host whose saved state may be used @param previous from an earlier run */
  createLeases(host: HostAddresses, previous: Subnets): Leases;
  close(): Promise<void>;
}

/** What a host's rules do besides: see `TrafficRules`. */
export interface HostRules extends TrafficRules {
  /** What on this host refuses the overlay's packets in spite of them, in words, each with what to do about it. */
  obstacles(): Promise<readonly string[]>;
}

/** What a daemon is put together from. Tests put in others. */
export interface DaemonParts {
  readonly clock: Clock;
  /** @param name of what one daemon at most may have in this network namespace */
  lock(name: string): Promise<FileLock>;
  /** What the service manager kept of a former process. */
  inherit(): Inheritance;
  /**
   * Asks the daemon that runs for its place.
   *
   * @param holder its process
   * @param serving what both serve, in words
   * @param inheritance gets its descriptors
   * @throws HandOverError
   */
  takeOver(
    runDirectory: string,
    holder: number | null,
    serving: string,
    inheritance: Inheritance,
  ): Promise<Pick<HandOver, 'complete'>>;
  /** Lets another daemon take the place of this one, which has that status socket. */
  offerHandOver(statusSocket: string, giver: Giver, log: Logger): Promise<HandOverServer>;
  findUnderlay(options: UnderlayOptions): Promise<UnderlayChoice>;
  /** Another choice when the host has lost the one in use, or its MTU changed; null when all is as it was. */
  recheckUnderlay(current: UnderlayChoice, options: UnderlayOptions, ipv6: boolean): Promise<UnderlayChoice | null>;
  openRegistry(options: DaemonOptions, log: Logger): Promise<RegistryHandle>;
  createBackend(type: string, context: BackendContext, options: DaemonOptions): Promise<Backend>;
  /** The device that a backend makes for itself; null when it makes none. */
  deviceOf(config: NetworkConfig, options: DaemonOptions): string | null;
  /**
   * Masquerade, forward and blackhole rules. Each call may take many seconds while another program holds the lock of
   * iptables.
   *
   * @param signal once it is aborted, `apply` and `check` end early and reject; `cleanUp` does not
   */
  createRules(
    options: DaemonOptions,
    config: NetworkConfig,
    subnets: Subnets,
    past: PreviousSubnetEnv,
    signal: AbortSignal,
  ): HostRules;
  readSubnetFile(file: string): Promise<PreviousSubnetEnv>;
  writeSubnetFile(file: string, content: SubnetEnv): Promise<void>;
}
