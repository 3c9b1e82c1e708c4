import {
  contains,
  formatIpv4,
  formatPrefix,
  netmask,
  type Prefix,
  parseIpv4,
  parsePrefix,
  prefixSize,
} from '../../base/ipv4.js';
import { whyNoContainers } from '../../base/no-hosts.js';
import { shown } from '../../base/printable.js';
import { ConfigError } from '../errors.js';
import type { Members } from './members.js';

/** The IPv4 part of a configuration. */
export interface Ipv4Network {
  readonly network: Prefix;
  readonly subnetLength: number;
  /** Addresses of the first and the last subnet that may be leased, in host order. */
  readonly subnetMin: number;
  readonly subnetMax: number;
}

/**
 * Checks the IPv4 keys. A malformed one is refused even when IPv4 is off, as flannel does; the rules among them count only
 * when it is on.
 *
 * @throws ConfigError
 */
export function readIpv4Network(members: Members, enabled: boolean): Ipv4Network | null {
  const network = readNetwork(members);
  const givenLength = members.count('SubnetLen');
  const givenMin = readAddress(members, 'SubnetMin');
  const givenMax = readAddress(members, 'SubnetMax');
  if (!enabled) return null;
  if (network === null) {
    throw new ConfigError('Network', 'is missing', 'give the overlay’s IPv4 network, such as "10.5.0.0/16"');
  }
  const subnetLength = readLength(givenLength, network);
  const step = prefixSize(subnetLength);
  const subnetMin = checkBound('SubnetMin', givenMin, network, subnetLength) ?? network.address + step;
  const subnetMax =
    checkBound('SubnetMax', givenMax, network, subnetLength) ?? network.address + prefixSize(network.length) - step;
  if (subnetMin > subnetMax) {
    throw new ConfigError(
      'SubnetMin',
      `${formatIpv4(subnetMin)} is above SubnetMax ${formatIpv4(subnetMax)}`,
      'SubnetMin must not be greater than SubnetMax',
    );
  }
  return { network, subnetLength, subnetMin, subnetMax };
}

function readNetwork(members: Members): Prefix | null {
  const text = members.string('Network');
  if (text === undefined || text === '') return null;
  const network = parsePrefix(text, { maskHostBits: true });
  if (network === null) {
    throw new ConfigError('Network', `${shown(text)} is no IPv4 network`, 'write it as "a.b.c.d/length"');
  }
  const why = whyNoContainers(network);
  if (why !== '') {
    const advice = 'take one that containers can have addresses of, such as "10.5.0.0/16"';
    throw new ConfigError('Network', `${formatPrefix(network)} has ${why} in it`, advice);
  }
  return network;
}

function readLength(given: number | undefined, network: Prefix): number {
  if (given === undefined || given === 0) {
    if (network.length > 28) {
      throw new ConfigError('Network', `${formatPrefix(network)} is too small`, 'the smallest useful network is a /28');
    }
    return network.length <= 22 ? 24 : network.length + 2;
  }
  if (given > 30) throw new ConfigError('SubnetLen', `${given} is too long`, 'it must be 30 or less');
  if (given < network.length + 2) {
    throw new ConfigError(
      'SubnetLen',
      `${given} leaves fewer than four subnets in ${formatPrefix(network)}`,
      `it must be at least the network’s length + 2, here ${network.length + 2}`,
    );
  }
  return given;
}

function readAddress(members: Members, key: string): number | null {
  const text = members.string(key);
  if (text === undefined) return null;
  const address = parseIpv4(text);
  if (address === null) {
    throw new ConfigError(key, `${shown(text)} is no IPv4 address`, 'write it as "a.b.c.d"');
  }
  return address === 0 ? null : address; // flannel takes 0.0.0.0 as "not given"
}

function checkBound(key: string, address: number | null, network: Prefix, subnetLength: number): number | null {
  if (address === null) return null;
  const text = formatIpv4(address);
  if (!contains(network, address)) {
    throw new ConfigError(key, `${text} is outside ${formatPrefix(network)}`, 'it must lie inside Network');
  }
  const aligned = (address & netmask(subnetLength)) >>> 0;
  if (aligned !== address) {
    throw new ConfigError(
      key,
      `${text} is not the first address of a /${subnetLength}`,
      `it must be aligned to SubnetLen, for example ${formatIpv4(aligned)}`,
    );
  }
  return address;
}
