import { peerNames, type Underlay } from '../backend/backend.js';
import { backendKind } from '../backend/select.js';
import { formatIpv6, formatIpv6Prefix } from '../base/ipv6.js';
import { redactUrls } from '../base/redact.js';
import { version } from '../base/version.js';
import { networkNamespace } from '../linux/network-namespace.js';
import { publicName } from '../subnet/lease.js';
import type { LeaseManagerStatus } from '../subnet/leases/lease-manager.js';
import { type NetworkConfig, networkName } from '../subnet/network-config/config.js';
import type { DaemonStatus, LeaseStatus, RegistryStatus } from './status.js';

type Told = Pick<
  DaemonStatus,
  'phase' | 'detail' | 'ready' | 'logLevel' | 'backend' | 'warnings' | 'repairs' | 'unforeseenErrors' | 'log'
>;

/** What the daemon knows of itself, in its own types. */
export interface StatusInput extends Told {
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  readonly underlay: Underlay | null;
  readonly endpoints: readonly string[];
  readonly leases: LeaseManagerStatus | null;
}

/** The status as others see it. */
export function composeStatus({ startedAt, underlay, endpoints, leases, ...told }: StatusInput): DaemonStatus {
  const config = leases?.config ?? null;
  return {
    schema: 1,
    version,
    process: process.pid,
    networkNamespace: networkNamespace(),
    startedAt: new Date(startedAt).toISOString(),
    ...told,
    network: config === null ? null : networkName(config),
    networkV6: config === null || config.ipv6 === null ? null : formatIpv6Prefix(config.ipv6.network),
    ...portsOf(config),
    lease: leases === null ? null : composeLease(leases),
    underlay: underlay === null ? null : composeUnderlay(underlay),
    registry: composeRegistry(endpoints, leases),
  };
}

function composeUnderlay({ name, address, ipv6, mtu }: Underlay): DaemonStatus['underlay'] {
  const publicIpv6 = ipv6?.address ?? null;
  return {
    interface: name,
    address: publicName({ publicIp: address, publicIpv6 }),
    addressV6: publicIpv6 === null ? null : formatIpv6(publicIpv6),
    mtu,
  };
}

/** A configuration that cannot be used has none; what is wrong with it is said elsewhere. */
function portsOf(config: NetworkConfig | null): Pick<DaemonStatus, 'port' | 'portV6'> {
  if (config === null) return { port: null, portV6: null };
  const { backend, ipv4, ipv6 } = config;
  try {
    const { port: portOf } = backendKind(backend.type);
    const port = portOf(backend.options, ipv4 !== null);
    const portV6 = ipv6 === null ? null : portOf(backend.options, false);
    return { port, portV6: portV6 === port ? null : portV6 };
  } catch {
    return { port: null, portV6: null };
  }
}

function composeRegistry(endpoints: readonly string[], leases: LeaseManagerStatus | null): RegistryStatus {
  const { state, reason } = leases?.connection ?? { state: 'connecting', reason: '' };
  return {
    kind: endpoints[0]?.startsWith('file://') ? 'directory' : 'etcd',
    endpoints: endpoints.map(redactUrls),
    connected: state === 'up',
    error: state === 'connecting' ? 'not yet connected' : reason,
  };
}

function composeLease({ lease, fromCache }: LeaseManagerStatus): LeaseStatus | null {
  if (lease === null) return null;
  const { expiresAt } = lease;
  return {
    ...peerNames(lease),
    expiresAt: expiresAt === null ? null : new Date(expiresAt).toISOString(),
    secondsLeft: expiresAt === null ? null : Math.max(0, Math.round((expiresAt - Date.now()) / 1000)),
    fromCache,
  };
}
