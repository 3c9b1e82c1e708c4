import type { Backend, BackendContext } from '../backend/backend.js';
import type { Clock } from '../base/clock.js';
import type { Prefix } from '../base/ipv4.js';
import type { Logger } from '../base/log.js';
import type { Inheritance } from '../linux/inheritance.js';
import type { UnderlayChoice, UnderlayOptions } from '../routes/underlay.js';
import type { LeaseLostError } from '../subnet/errors.js';
import type { LeaseManager } from '../subnet/leases/lease-manager.js';
import type { NetworkConfig } from '../subnet/network-config/config.js';
import type { PreviousSubnetEnv, SubnetEnv } from '../subnet/subnet-env.js';
import type { Giver, HandOver, HandOverServer } from './hand-over.js';
import type { InstanceLock } from './instance-lock.js';
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
  on(event: 'failed', listener: (error: unknown) => void): unknown;
}

/** The registry, open. */
export interface RegistryHandle {
  /** This host's dealings with it. @param publicIp whose saved state may be used */
  createLeases(publicIp: number, previousSubnet: Prefix | null): Leases;
  close(): Promise<void>;
}

/**
 * Masquerade, forward and blackhole rules. Each returns one line of text for each change, and may take many seconds while
 * another program holds the lock of iptables.
 */
export interface HostRules {
  /** Puts the rules in place, and removes those of an earlier network. */
  apply(): Promise<readonly string[]>;
  /** Puts back what is missing. */
  check(): Promise<readonly string[]>;
  /** Takes them all away. */
  remove(): Promise<readonly string[]>;
}

/** What a daemon is put together from. Tests put in others. */
export interface DaemonParts {
  readonly clock: Clock;
  /** @param name of what one daemon at most may have in this network namespace */
  lock(name: string): Promise<InstanceLock>;
  /** What the service manager kept of a former process. */
  inherit(): Inheritance;
  /** Asks the daemon that runs for its place. @param inheritance gets its descriptors @throws HandOverError */
  takeOver(options: DaemonOptions, serving: string, inheritance: Inheritance): Promise<Pick<HandOver, 'complete'>>;
  /** Lets another daemon take the place of this one. */
  offerHandOver(options: DaemonOptions, giver: Giver, log: Logger): Promise<HandOverServer>;
  findUnderlay(options: UnderlayOptions): Promise<UnderlayChoice>;
  /** Another choice when the host has lost the one in use, or its MTU changed; null when all is as it was. */
  recheckUnderlay(current: UnderlayChoice, options: UnderlayOptions): Promise<UnderlayChoice | null>;
  openRegistry(options: DaemonOptions, log: Logger): Promise<RegistryHandle>;
  createBackend(type: string, context: BackendContext, options: DaemonOptions): Backend;
  /** The device that a backend makes for itself; null when it makes none. */
  deviceOf(config: NetworkConfig, options: DaemonOptions): string | null;
  /** @param signal once it is aborted, `apply` and `check` end early and reject; `remove` does not */
  createRules(
    options: DaemonOptions,
    config: NetworkConfig,
    subnet: Prefix,
    past: PreviousSubnetEnv,
    signal: AbortSignal,
  ): HostRules;
  readSubnetFile(file: string): Promise<PreviousSubnetEnv>;
  writeSubnetFile(file: string, content: SubnetEnv): Promise<void>;
}
