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
import { JsonError, parseJson } from '../../base/json.js';
import { membersOf } from '../../base/members.js';
import { shown } from '../../base/printable.js';
import { ConfigError } from '../errors.js';
import { type Ipv6Network, readIpv6Network } from './config-ipv6.js';
import { Members } from './members.js';

/** The cluster's network configuration, checked, with every default filled in. */
export interface NetworkConfig {
  readonly network: Prefix;
  readonly subnetLength: number;
  /** Addresses of the first and the last subnet that may be leased, in host order. */
  readonly subnetMin: number;
  readonly subnetMax: number;
  readonly enableIpv4: boolean;
  readonly enableIpv6: boolean;
  /** Null unless `enableIpv6`. Checked and shown, but the overlay carries IPv4 only. */
  readonly ipv6: Ipv6Network | null;
  readonly enableNftables: boolean;
  readonly backend: BackendConfig;
}

export interface BackendConfig {
  /** Lower case; `udp` when the configuration names none. */
  readonly type: string;
  /** The other members of `Backend`; keys in lower case, since flannel matches them without regard to case. */
  readonly options: Readonly<Record<string, unknown>>;
}

const KEYS = [
  'Network',
  'EnableIPv4',
  'EnableIPv6',
  'EnableNFTables',
  'SubnetLen',
  'SubnetMin',
  'SubnetMax',
  'IPv6Network',
  'IPv6SubnetLen',
  'IPv6SubnetMin',
  'IPv6SubnetMax',
  'Backend',
];

/**
 * Reads the JSON that stands under `<prefix>/config`, by flannel's rules.
 *
 * Two differences, both stricter: a SubnetMin above SubnetMax is refused, and so is `EnableIPv4: false`.
 * @throws ConfigError naming the key, what is wrong with it, and the rule.
 */
export function parseNetworkConfig(json: string): NetworkConfig {
  return checkNetworkConfig(json).config;
}

/** As {@link parseNetworkConfig}, with what deserves a warning though it is legal. */
export function checkNetworkConfig(json: string): { config: NetworkConfig; warnings: string[] } {
  const members = new Members(parseObject(json));
  if (!members.boolean('EnableIPv4', true)) {
    throw new ConfigError(
      'EnableIPv4',
      'is false, but the overlay carries IPv4 only',
      'leave it out or set it to true',
    );
  }
  const network = readNetwork(members);
  const subnetLength = readSubnetLength(members, network);
  const step = prefixSize(subnetLength);
  const subnetMin = readBound(members, 'SubnetMin', network, subnetLength) ?? network.address + step;
  const subnetMax =
    readBound(members, 'SubnetMax', network, subnetLength) ?? network.address + prefixSize(network.length) - step;
  if (subnetMin > subnetMax) {
    throw new ConfigError(
      'SubnetMin',
      `${formatIpv4(subnetMin)} is above SubnetMax ${formatIpv4(subnetMax)}`,
      'SubnetMin must not be greater than SubnetMax',
    );
  }
  const enableIpv6 = members.boolean('EnableIPv6', false);
  const ipv6 = readIpv6Network(members, enableIpv6);
  const config: NetworkConfig = {
    network,
    subnetLength,
    subnetMin,
    subnetMax,
    enableIpv4: true,
    enableIpv6,
    ipv6,
    enableNftables: members.boolean('EnableNFTables', false),
    backend: readBackend(members),
  };
  const warnings = members.unknown(KEYS).map((key) => `unknown key ${shown(key)} is ignored`);
  if (enableIpv6) {
    warnings.push('EnableIPv6 is true, but only IPv4 is carried (flannel’s udp backend ignores IPv6 too)');
  }
  return { config, warnings };
}

/** Is this a subnet that the configuration would hand out? */
export function fitsConfig(subnet: Prefix, config: NetworkConfig): boolean {
  return (
    subnet.length === config.subnetLength &&
    subnet.address >= config.subnetMin &&
    subnet.address <= config.subnetMax &&
    (subnet.address & netmask(subnet.length)) >>> 0 === subnet.address
  );
}

/** First to last leasable subnet in words, for messages. */
export function describeRange(config: NetworkConfig): string {
  return `${formatIpv4(config.subnetMin)}-${formatIpv4(config.subnetMax)} (/${config.subnetLength} subnets of ${formatPrefix(config.network)})`;
}

function parseObject(json: string): unknown {
  try {
    return parseJson(json);
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw new ConfigError('', error.problem, 'write a JSON object such as {"Network":"10.5.0.0/16"}');
  }
}

function readNetwork(members: Members): Prefix {
  const text = members.string('Network');
  if (text === undefined || text === '') {
    throw new ConfigError('Network', 'is missing', 'give the overlay’s IPv4 network, such as "10.5.0.0/16"');
  }
  const network = parsePrefix(text, { maskHostBits: true });
  if (network === null) {
    throw new ConfigError('Network', `${shown(text)} is no IPv4 network`, 'write it as "a.b.c.d/length"');
  }
  return network;
}

function readSubnetLength(members: Members, network: Prefix): number {
  const given = members.count('SubnetLen');
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

function readBound(members: Members, key: string, network: Prefix, subnetLength: number): number | null {
  const text = members.string(key);
  if (text === undefined) return null;
  const address = parseIpv4(text);
  if (address === null) {
    throw new ConfigError(key, `${shown(text)} is no IPv4 address`, 'write it as "a.b.c.d"');
  }
  if (address === 0) return null; // flannel takes 0.0.0.0 as "not given"
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

function readBackend(members: Members): BackendConfig {
  const value = members.raw('Backend');
  if (value === undefined) return { type: 'udp', options: {} };
  const rule = 'write an object with a Type, such as {"Type":"udp"}, or leave Backend out for udp';
  const options = membersOf(value);
  if (options === null) throw new ConfigError('Backend', `${shown(value)} is no object`, rule);
  const { type, ...others } = Object.fromEntries(options);
  if (typeof type !== 'string' || type === '') {
    throw new ConfigError('Backend', type === undefined ? 'has no Type' : `has the Type ${shown(type)}`, rule);
  }
  return { type: type.toLowerCase(), options: others };
}
