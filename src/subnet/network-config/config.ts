import { type AnyPrefix, formatAddress, formatAnyPrefix } from '../../base/address.js';
import { netmask } from '../../base/ipv4.js';
import { netmaskV6 } from '../../base/ipv6.js';
import { JsonError, parseJson } from '../../base/json.js';
import { membersOf } from '../../base/members.js';
import { shown } from '../../base/printable.js';
import { ConfigError } from '../errors.js';
import type { Subnets } from '../lease.js';
import { type Ipv4Network, readIpv4Network } from './config-ipv4.js';
import { type Ipv6Network, readIpv6Network } from './config-ipv6.js';
import { Members } from './members.js';

export type { Ipv4Network, Ipv6Network };

/** The cluster's network configuration, checked, with every default filled in. */
export interface NetworkConfig {
  /** Null with `EnableIPv4: false`; then there is an IPv6 part. */
  readonly ipv4: Ipv4Network | null;
  /** Null without `EnableIPv6: true`. */
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
 * Two differences, both stricter: a SubnetMin above SubnetMax is refused, and so is a configuration of neither family.
 * @throws ConfigError naming the key, what is wrong with it, and the rule.
 */
export function parseNetworkConfig(json: string): NetworkConfig {
  return checkNetworkConfig(json).config;
}

/** As {@link parseNetworkConfig}, with what deserves a warning though it is legal. */
export function checkNetworkConfig(json: string): { config: NetworkConfig; warnings: string[] } {
  const members = new Members(parseObject(json));
  const ipv4 = readIpv4Network(members, members.boolean('EnableIPv4', true));
  const ipv6 = readIpv6Network(members, members.boolean('EnableIPv6', false));
  if (ipv4 === null && ipv6 === null) {
    const rule = 'set one of them to true; without either, EnableIPv4 is';
    throw new ConfigError('EnableIPv4', 'is false, and EnableIPv6 is not true', rule);
  }
  const config: NetworkConfig = {
    ipv4,
    ipv6,
    enableNftables: members.boolean('EnableNFTables', false),
    backend: readBackend(members),
  };
  const warnings = members.unknown(KEYS).map((key) => `unknown key ${shown(key)} is ignored`);
  return { config, warnings };
}

/** Is this a subnet that the configuration would hand out: all halves that it has, and no other? */
export function fitsConfig({ subnet, subnetV6 }: Subnets, { ipv4, ipv6 }: NetworkConfig): boolean {
  return fitsHalf(subnet, ipv4) && fitsHalf(subnetV6, ipv6);
}

function fitsHalf(half: AnyPrefix | null, range: Ipv4Network | Ipv6Network | null): boolean {
  return half === null || range === null ? half === range : fitsRange(half, range);
}

/** The same of one half. False for a prefix of the other family. */
export function fitsRange({ address, length }: AnyPrefix, range: Ipv4Network | Ipv6Network): boolean {
  if (typeof address !== typeof range.subnetMin || length !== range.subnetLength) return false;
  if (address < range.subnetMin || address > range.subnetMax) return false;
  return typeof address === 'number'
    ? (address & netmask(length)) >>> 0 === address
    : (address & netmaskV6(length)) === address;
}

/** The networks that the overlay has, the IPv4 one first. */
export function networksOf({ ipv4, ipv6 }: Pick<NetworkConfig, 'ipv4' | 'ipv6'>): AnyPrefix[] {
  return [ipv4, ipv6].flatMap((range) => range?.network ?? []);
}

/** What the overlay is called: by its IPv4 network, and only where there is none, by the other one. */
export function networkName({ ipv4, ipv6 }: NetworkConfig): string {
  const network = ipv4?.network ?? ipv6?.network;
  return network === undefined ? '' : formatAnyPrefix(network);
}

/** First to last leasable subnet in words, for messages. */
export function describeRange({ network, subnetLength, subnetMin, subnetMax }: Ipv4Network | Ipv6Network): string {
  const range = `${formatAddress(subnetMin)}-${formatAddress(subnetMax)}`;
  return `${range} (/${subnetLength} subnets of ${formatAnyPrefix(network)})`;
}

/** The same of all that the configuration has. */
export function describeRanges({ ipv4, ipv6 }: NetworkConfig): string {
  return [ipv4, ipv6]
    .filter((range) => range !== null)
    .map(describeRange)
    .join(' and ');
}

function parseObject(json: string): unknown {
  try {
    return parseJson(json);
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw new ConfigError('', error.problem, 'write a JSON object such as {"Network":"10.5.0.0/16"}');
  }
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
