import type { BackendOptions } from '../backend/select.js';
import type { Setting } from '../observe/settings.js';
import type { UnderlayOptions } from '../routes/underlay.js';
import type { RegistryOptions } from '../subnet/open-registry.js';

/** What one host's daemon is told, checked, every default filled in. */
export interface DaemonOptions extends BackendOptions {
  readonly registry: RegistryOptions;
  readonly underlay: UnderlayOptions;
  readonly lease: {
    readonly ttlSeconds: number;
    readonly renewMarginSeconds: number;
    readonly releaseOnExit: boolean;
    readonly startFromCache: boolean;
  };
  readonly rules: {
    readonly masquerade: boolean;
    readonly fullyRandom: boolean;
    readonly forward: boolean;
    readonly blackhole: boolean;
    readonly resyncSeconds: number;
  };
  /** Take the place of the daemon that runs, if one does. */
  readonly takeOver: boolean;
  /** Leave no device, route or rule behind. */
  readonly cleanUpOnExit: boolean;
  readonly subnetFile: string;
  readonly health: { readonly address: string /** 0: none. */; readonly port: number };
  readonly dropPrivileges: boolean;
  readonly logLevel: string;
  /** All of it as it is shown, and where each value came from. */
  readonly settings?: readonly Setting[];
}
