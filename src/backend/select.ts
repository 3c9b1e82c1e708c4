import { TweedError } from '../base/errors.js';
import type { Backend, BackendContext } from './backend.js';
import { UdpBackend, type UdpBackendOptions } from './udp/udp-backend.js';

/** What each backend wants to know besides its context. */
export interface BackendOptions {
  readonly udp: UdpBackendOptions;
}

const makers: Readonly<Record<string, (context: BackendContext, options: BackendOptions) => Backend>> = {
  udp: (context, { udp }) => new UdpBackend(context, udp),
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
