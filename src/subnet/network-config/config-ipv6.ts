import {
  containsIpv6,
  formatIpv6,
  formatIpv6Prefix,
  type Ipv6Prefix,
  netmaskV6,
  parseIpv6,
  parseIpv6Prefix,
} from '../../base/ipv6.js';
import { whyNoContainers } from '../../base/no-hosts.js';
import { shown } from '../../base/printable.js';
import { ConfigError } from '../errors.js';
import type { Members } from './members.js';

/** The IPv6 part of a configuration. */
export interface Ipv6Network {
  readonly network: Ipv6Prefix;
  readonly subnetLength: number;
  /** Addresses of the first and the last subnet that may be leased. */
  readonly subnetMin: bigint;
  readonly subnetMax: bigint;
}

/**
 * Checks the IPv6 keys. A malformed one is refused even when IPv6 is off, as flannel does; the rules among them count
 * only when it is on.
 */
export function readIpv6Network(members: Members, enabled: boolean): Ipv6Network | null {
  const network = readPrefix(members);
  const givenLength = members.count('IPv6SubnetLen');
  const givenMin = readAddress(members, 'IPv6SubnetMin');
  const givenMax = readAddress(members, 'IPv6SubnetMax');
  if (!enabled) return null;
  if (network === null) {
    throw new ConfigError('IPv6Network', 'is missing', 'EnableIPv6 needs it, such as "fd00:5::/56"');
  }
  const subnetLength = readLength(givenLength, network);
  const step = 1n << BigInt(128 - subnetLength);
  const size = 1n << BigInt(128 - network.length);
  const subnetMin = checkBound('IPv6SubnetMin', givenMin, network, subnetLength) ?? network.address + step;
  const subnetMax = checkBound('IPv6SubnetMax', givenMax, network, subnetLength) ?? network.address + size - step;
  if (subnetMin > subnetMax) {
    throw new ConfigError(
      'IPv6SubnetMin',
      `${formatIpv6(subnetMin)} is above IPv6SubnetMax ${formatIpv6(subnetMax)}`,
      'IPv6SubnetMin must not be greater than IPv6SubnetMax',
    );
  }
  return { network, subnetLength, subnetMin, subnetMax };
}

function readPrefix(members: Members): Ipv6Prefix | null {
  const text = members.string('IPv6Network');
  if (text === undefined || text === '') return null;
  const prefix = parseIpv6Prefix(text);
  if (prefix === null) {
    throw new ConfigError('IPv6Network', `${shown(text)} is no IPv6 network`, 'write it as "fd00:5::/56"');
  }
  const why = whyNoContainers(prefix);
  if (why !== '') {
    const advice = 'take one that containers can have addresses of, such as "fd00:5::/56"';
    throw new ConfigError('IPv6Network', `${formatIpv6Prefix(prefix)} has ${why} in it`, advice);
  }
  return prefix;
}

function readAddress(members: Members, key: string): bigint | null {
  const text = members.string(key);
  if (text === undefined) return null;
  const address = parseIpv6(text);
  if (address === null) {
    throw new ConfigError(key, `${shown(text)} is no IPv6 address`, 'write it as "fd00:5:0:1::"');
  }
  return address === 0n ? null : address;
}

function readLength(given: number | undefined, network: Ipv6Prefix): number {
  if (given === undefined || given === 0) {
    if (network.length > 124) {
      throw new ConfigError(
        'IPv6Network',
        `${formatIpv6Prefix(network)} is too small`,
        'the smallest useful network is a /124',
      );
    }
    return network.length <= 62 ? 64 : network.length + 2;
  }
  if (given > 126) throw new ConfigError('IPv6SubnetLen', `${given} is too long`, 'it must be 126 or less');
  if (given < network.length + 2) {
    throw new ConfigError(
      'IPv6SubnetLen',
      `${given} leaves fewer than four subnets in ${formatIpv6Prefix(network)}`,
      `it must be at least the network’s length + 2, here ${network.length + 2}`,
    );
  }
  return given;
}

function checkBound(key: string, address: bigint | null, network: Ipv6Prefix, subnetLength: number): bigint | null {
  if (address === null) return null;
  if (!containsIpv6(network, address)) {
    throw new ConfigError(
      key,
      `${formatIpv6(address)} is outside ${formatIpv6Prefix(network)}`,
      'it must lie inside IPv6Network',
    );
  }
  const aligned = address & netmaskV6(subnetLength);
  if (aligned !== address) {
    throw new ConfigError(
      key,
      `${formatIpv6(address)} is not the first address of a /${subnetLength}`,
      `it must be aligned to IPv6SubnetLen, for example ${formatIpv6(aligned)}`,
    );
  }
  return address;
}
