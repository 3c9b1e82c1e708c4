import { TweedError } from '../base/errors.js';
import type { Backend, BackendContext } from './backend.js';
import { HostGwBackend } from './host-gw/host-gw-backend.js';
import { UdpBackend, type UdpBackendOptions } from './udp/udp-backend.js';
import { VxlanBackend } from './vxlan/vxlan-backend.js';

/** What each backend wants to know besides its context. */
export interface BackendOptions {
  readonly udp: UdpBackendOptions;
  /** Where small things are kept until the next start. */
  readonly runDirectory: string;
}

const makers: Readonly<Record<string, (context: BackendContext, options: BackendOptions) => Backend>> = {
  udp: (context, { udp }) => new UdpBackend(context, udp),
  vxlan: (context, { runDirectory }) => new VxlanBackend(context, runDirectory),
  'host-gw': (context) => new HostGwBackend(context),
};

/** `Backend.Type` of the network configuration names something that tweed does not have. */
export class UnknownBackendError extends TweedError {
  constructor(type: string) {
    const known = Object.keys(makers).join(', ');
    super(
      'UNKNOWN_BACKEND',
      `tweed has no backend "${type}"; set Backend.Type of the network config to one of: ${known}`,
    );
  }
}

/** @throws UnknownBackendError, or what the backend has to say about its part of the configuration */
export function createBackend(type: string, context: BackendContext, options: BackendOptions): Backend {
  const make = Object.hasOwn(makers, type) ? makers[type] : undefined;
  if (make === undefined) throw new UnknownBackendError(type);
  return make(context, options);
}
