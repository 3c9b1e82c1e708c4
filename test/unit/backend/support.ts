import type { BackendContext } from '../../../src/backend/backend.js';
import { type Prefix, parseIpv4, parsePrefix } from '../../../src/base/ipv4.js';
import { silentLogger } from '../../../src/base/log.js';
import type { Lease, LeaseAttributes, PeerSet } from '../../../src/subnet/lease.js';
import { parseNetworkConfig } from '../../../src/subnet/network-config/config.js';

export const prefix = (text: string): Prefix => parsePrefix(text) as Prefix;
export const address = (text: string): number => parseIpv4(text) as number;

export function contextOf(backend: Readonly<Record<string, unknown>>, others: Partial<BackendContext> = {}) {
  const context: BackendContext = {
    log: silentLogger(),
    underlay: { name: 'eth0', index: 2, address: address('192.0.2.1'), prefixLength: 24, ipv6: null, mtu: 1500 },
    publicIp: address('192.0.2.1'),
    publicIpv6: null,
    config: parseNetworkConfig(JSON.stringify({ Network: '10.5.0.0/16', Backend: backend })),
    ...others,
  };
  return context;
}

export function leaseOf(subnet: string, publicIp: string, attributes: Partial<LeaseAttributes> = {}): Lease {
  return {
    subnet: prefix(subnet),
    subnetV6: null,
    attributes: { publicIp: address(publicIp), publicIpv6: null, ...attributes },
    expiresAt: null,
  };
}

/** All there are, as the registry tells them, or as they are remembered. */
export function peerSet(leases: readonly Lease[], complete = true): PeerSet {
  return { leases, complete };
}
