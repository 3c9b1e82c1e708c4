import { TweedError } from '../base/errors.js';
import type { BackendConfig } from '../subnet/network-config/config.js';
import type { Backend, BackendContext } from './backend.js';
import { HostGwBackend } from './host-gw/host-gw-backend.js';
import type { UdpBackendOptions } from './udp/options.js';
import { readPort, UdpBackend } from './udp/udp-backend.js';
import { readVxlanOptions } from './vxlan/options.js';
import { VxlanBackend } from './vxlan/vxlan-backend.js';

/** What each backend wants to know besides its context. */
export interface BackendOptions {
  readonly udp: UdpBackendOptions;
  /** Where small things are kept until the next start. */
  readonly runDirectory: string;
}

interface Kind {
  make(context: BackendContext, options: BackendOptions): Backend;
  /** Throws when the options in the network configuration are wrong on any host. */
  check(options: BackendConfig['options']): void;
}

const kinds: Readonly<Record<string, Kind>> = {
  udp: { make: (context, { udp }) => new UdpBackend(context, udp), check: ({ port }) => void readPort(port) },
  vxlan: {
    make: (context, { runDirectory }) => new VxlanBackend(context, runDirectory),
    check: (options) => void readVxlanOptions(options),
  },
  'host-gw': { make: (context) => new HostGwBackend(context), check: () => {} },
};

function kindOf(type: string): Kind {
  const kind = Object.hasOwn(kinds, type) ? kinds[type] : undefined;
  if (kind === undefined) throw new UnknownBackendError(type);
  return kind;
}

/** `Backend.Type` of the network configuration names something that tweed does not have. */
export class UnknownBackendError extends TweedError {
  constructor(type: string) {
    const known = Object.keys(kinds).join(', ');
    super(
      'UNKNOWN_BACKEND',
      `tweed has no backend "${type}"; set Backend.Type of the network config to one of: ${known}`,
    );
  }
}

/**
 * Checks what can be checked of `Backend` in a network configuration without a host.
 *
 * @throws UnknownBackendError, ConfigError
 */
export function checkBackendConfig({ type, options }: BackendConfig): void {
  kindOf(type).check(options);
}

/** @throws UnknownBackendError, or what the backend has to say about its part of the configuration */
export function createBackend(type: string, context: BackendContext, options: BackendOptions): Backend {
  return kindOf(type).make(context, options);
}
