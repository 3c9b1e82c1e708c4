import { TweedError } from '../base/errors.js';
import { shown } from '../base/printable.js';
import { type HostAddresses, publicName, type Subnets, subnetName } from './lease.js';

/** The network configuration breaks a rule. */
export class ConfigError extends TweedError {
  /**
   * @param key The offending key in its usual spelling; empty when the whole text is at fault.
   * @param problem What is wrong with it.
   * @param rule What a right one looks like; the message ends with it.
   */
  constructor(
    readonly key: string,
    readonly problem: string,
    readonly rule: string,
  ) {
    super('CONFIG_INVALID', `network config${key === '' ? '' : `, ${key}`}: ${problem}; ${rule}`);
  }
}

/** A key or a value among the leases that cannot be read. Callers log it once and leave everything else alone. */
export class MalformedLeaseError extends TweedError {
  constructor(
    readonly key: string,
    readonly problem: string,
  ) {
    super('LEASE_MALFORMED', `lease ${shown(key)}: ${problem}; correct or delete this key`);
  }
}

/** The registry cannot be reached, or answered with an error that may pass. */
export class RegistryError extends TweedError {
  constructor(message: string, options?: ErrorOptions, code = 'REGISTRY_UNAVAILABLE') {
    super(code, message, options);
  }
}

/** The registry refused us: wrong password, missing permission, unreadable certificate. */
export class RegistryDeniedError extends RegistryError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options, 'REGISTRY_DENIED');
  }
}

/** The changes since the wanted revision are no longer kept: list again. */
export class CompactedError extends RegistryError {
  constructor(revision: string) {
    super(`the changes since revision ${revision} are gone; list again`, undefined, 'REGISTRY_COMPACTED');
  }
}

/** Somebody holds this very key already. */
export class LeaseExistsError extends TweedError {
  constructor(readonly key: string) {
    super('LEASE_EXISTS', `the lease ${key} exists already; choose another subnet`);
  }
}

/** The key that should be renewed is no longer there. */
export class LeaseGoneError extends TweedError {
  constructor(readonly key: string) {
    super('LEASE_GONE', `the lease ${key} is gone (expired or deleted); create it again`);
  }
}

/** Another host's public address stands under our key. */
export class ForeignOwnerError extends TweedError {
  constructor(
    readonly key: string,
    readonly owner: HostAddresses,
  ) {
    super('LEASE_FOREIGN', `the lease ${key} belongs to ${publicName(owner)} now; take another subnet`);
  }
}

/** Every subnet of the configured range is leased. */
export class OutOfSubnetsError extends TweedError {
  constructor(range: string) {
    super(
      'OUT_OF_SUBNETS',
      `no free subnet left in ${range}; delete leases of hosts that are gone, or configure a larger range`,
    );
  }
}

/** Our subnet is somebody else's, or no longer possible. The daemon must stop forwarding for it. */
export class LeaseLostError extends TweedError {
  constructor(
    readonly subnets: Subnets,
    readonly reason: string,
    options?: ErrorOptions,
  ) {
    super(
      'LEASE_LOST',
      `the lease of ${subnetName(subnets)} is lost: ${reason}; start again to get another subnet`,
      options,
    );
  }
}

/** What a start was begun with is overtaken: there is another configuration. The daemon must begin anew. */
export class StateOutdatedError extends LeaseLostError {
  constructor(subnets: Subnets) {
    super(subnets, 'the network config was changed while no daemon ran');
    this.message = `the network config was changed since the last known state of ${subnetName(subnets)} was saved; beginning anew`;
  }
}

/** The stored configuration is not what the caller thought it was. */
export class ConfigChangedError extends TweedError {
  constructor() {
    super('CONFIG_CHANGED', 'somebody else changed the network config meanwhile; read it again and repeat');
  }
}

/** The options that name a registry contradict each other. */
export class RegistryOptionsError extends TweedError {
  constructor(message: string) {
    super('REGISTRY_OPTIONS', message);
  }
}
