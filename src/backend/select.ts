import { TweedError } from '../base/errors.js';
import type { BackendConfig, NetworkConfig } from '../subnet/network-config/config.js';
import type { Backend, BackendContext } from './backend.js';
import type { UdpBackendOptions } from './udp/options.js';
import { readUdpPort, UDP_OVERHEAD, UDP_PORT } from './udp/wire.js';
import { KERNEL_PORT, readVxlanOptions, VXLAN_OVERHEAD, vxlanDevice } from './vxlan/options.js';
import {
  checkWireguardOptions,
  readWireguardOptions,
  WIREGUARD_DEVICE,
  WIREGUARD_OVERHEAD,
  WIREGUARD_PORT,
  type WireguardDaemonOptions,
} from './wireguard/options.js';

/** What each backend wants to know besides its context. */
export interface BackendOptions {
  readonly udp: UdpBackendOptions;
  readonly wireguard: WireguardDaemonOptions;
  /** Where small things are kept until the next start. */
  readonly runDirectory: string;
}

/** `Backend` of the network configuration without its Type. */
type ConfiguredOptions = BackendConfig['options'];

/** Everything that can be known of a backend without making one: for doctor, ping, the command line and the daemon alike. */
export interface BackendKind {
  readonly type: string;
  /** Bytes that it puts around a packet. */
  readonly overhead: number;
  /** UDP port of its datagrams where the configuration names none; null when it sends none. */
  readonly defaultPort: number | null;
  /**
   * The UDP port that the configuration gives it, where it has one for each family that of the first; null when it sends none.
   * Throws as `checkOptions` does.
   *
   * @param ipv4 the network has that family
   */
  port(options: ConfiguredOptions, ipv4: boolean): number | null;
  /**
   * The device of its own, which it must not share with another daemon; null when it has none and the underlay carries
   * packets as they are. Throws as `checkOptions` does.
   */
  deviceName(
    options: ConfiguredOptions,
    daemon: { readonly udp: Pick<UdpBackendOptions, 'deviceName'> },
  ): string | null;
  /**
   * @param dual the network has both families
   * @throws ConfigError when the options in the network configuration are wrong on any host
   */
  checkOptions(options: ConfiguredOptions, dual: boolean): void;
  /** Loads the backend's code: a daemon has use for that of one. Rejects with what the backend objects to. */
  make(context: BackendContext, options: BackendOptions): Promise<Backend>;
}

export const backendKinds: readonly BackendKind[] = [
  {
    type: 'udp',
    overhead: UDP_OVERHEAD,
    defaultPort: UDP_PORT,
    port: readUdpPort,
    deviceName: (_options, { udp }) => udp.deviceName,
    checkOptions: (options) => void readUdpPort(options),
    make: async (context, { udp }) => new (await import('./udp/udp-backend.js')).UdpBackend(context, udp),
  },
  {
    type: 'vxlan',
    overhead: VXLAN_OVERHEAD,
    defaultPort: KERNEL_PORT,
    port: (options) => readVxlanOptions(options).options.port,
    deviceName: (options) => vxlanDevice(readVxlanOptions(options).options),
    checkOptions: (options) => void readVxlanOptions(options),
    make: async (context, { runDirectory }) =>
      new (await import('./vxlan/vxlan-backend.js')).VxlanBackend(context, runDirectory),
  },
  {
    type: 'host-gw',
    overhead: 0,
    defaultPort: null,
    port: () => null,
    deviceName: () => null,
    checkOptions: () => {},
    make: async (context) => new (await import('./host-gw/host-gw-backend.js')).HostGwBackend(context),
  },
  {
    type: 'wireguard',
    overhead: WIREGUARD_OVERHEAD,
    defaultPort: WIREGUARD_PORT,
    port: (options, ipv4) => {
      const { mode, port, portV6 } = readWireguardOptions(options).options;
      return mode === 'separate' && !ipv4 ? portV6 : port;
    },
    deviceName: () => WIREGUARD_DEVICE,
    checkOptions: checkWireguardOptions,
    make: async (context, { wireguard, udp }) =>
      new (await import('./wireguard/wireguard-backend.js')).WireguardBackend(context, wireguard, udp),
  },
];

/** @throws UnknownBackendError */
export function backendKind(type: string): BackendKind {
  const kind = backendKinds.find((one) => one.type === type);
  if (kind === undefined) throw new UnknownBackendError(type);
  return kind;
}

/** `Backend.Type` of the network configuration names something that tweed does not have. */
export class UnknownBackendError extends TweedError {
  constructor(type: string) {
    const known = backendKinds.map(({ type: one }) => one).join(', ');
    super(
      'UNKNOWN_BACKEND',
      `tweed has no backend "${type}"; set Backend.Type of the network config to one of: ${known}`,
    );
  }
}

/**
 * Checks what can be checked of a network configuration's backend without a host.
 *
 * @throws UnknownBackendError, ConfigError
 */
export function checkBackendConfig({ backend, ipv4, ipv6 }: Pick<NetworkConfig, 'backend' | 'ipv4' | 'ipv6'>): void {
  backendKind(backend.type).checkOptions(backend.options, ipv4 !== null && ipv6 !== null);
}

/** @throws UnknownBackendError, or what the backend has to say about its part of the configuration */
export async function createBackend(type: string, context: BackendContext, options: BackendOptions): Promise<Backend> {
  checkBackendConfig(context.config);
  return backendKind(type).make(context, options);
}
