import { type AnyPrefix, addressBits, comparePrefixes, familyOf } from '../../base/address.js';
import { TweedError } from '../../base/errors.js';
import { formatIpv4, formatPrefix } from '../../base/ipv4.js';
import { formatIpv6, formatIpv6Prefix } from '../../base/ipv6.js';
import { parseJson } from '../../base/json.js';
import { membersOf } from '../../base/members.js';
import { plural } from '../../base/plural.js';
import { halvesOf, subnetName } from '../lease.js';
import type { Registry, Snapshot, StoredLease } from '../registry.js';
import { checkNetworkConfig, describeRanges, fitsConfig, type NetworkConfig } from './config.js';
import { Relations } from './relations.js';

/** What `tweed network check` has to say about a configuration that is valid. */
export interface NetworkReport {
  readonly config: NetworkConfig;
  readonly warnings: readonly string[];
}

/** One line of `tweed leases`. */
export interface LeaseRow {
  readonly key: string;
  /** Null for a host without that half. */
  readonly subnet: string | null;
  readonly subnetV6: string | null;
  /** Null for a host without an IPv4 address. */
  readonly publicIp: string | null;
  readonly publicIpv6: string | null;
  readonly backend: string;
  readonly reservation: boolean;
  /** Whole seconds; null for a reservation. */
  readonly secondsLeft: number | null;
  /** Odd things about it, in words. */
  readonly remarks: readonly string[];
}

/** How many leases a configuration has room for: each takes one subnet of each family. Not exact above 2^53. */
export function subnetCount({ ipv4, ipv6 }: NetworkConfig): number {
  const counts = [ipv4, ipv6].flatMap((range) => {
    if (range === null) return [];
    const step = 1n << BigInt(addressBits(familyOf(range.subnetMin)) - range.subnetLength);
    return [Number((BigInt(range.subnetMax) - BigInt(range.subnetMin)) / step + 1n)];
  });
  return Math.min(...counts);
}

/**
 * Checks a new configuration by itself and against the leases that exist.
 * @param snapshot The present leases, if they are known.
 * @throws ConfigError
 */
export function checkNetwork(json: string, snapshot: Snapshot | null): NetworkReport {
  const { config, warnings } = checkNetworkConfig(json);
  const misfits = (snapshot?.leases ?? []).filter((lease) => !fitsConfig(lease, config));
  const all = [...warnings];
  if (misfits.length > 0) {
    const some = misfits.slice(0, 3).map(subnetName);
    const more = misfits.length > some.length ? ` and ${misfits.length - some.length} more` : '';
    all.push(
      `existing leases do not fit, and their hosts will get other subnets at their next start: ${some.join(', ')}${more}`,
    );
  }
  if (snapshot !== null && snapshot.leases.length > subnetCount(config)) {
    all.push(
      `${snapshot.leases.length} leases exist, but there is room for ${subnetCount(config)} in ${describeRanges(config)}`,
    );
  }
  return { config, warnings: all };
}

/** The configuration with its defaults filled in, under flannel's names: what `tweed network get` shows. */
export function effectiveConfig(config: NetworkConfig): Record<string, unknown> {
  return {
    ...(config.ipv4 === null
      ? {}
      : {
          Network: formatPrefix(config.ipv4.network),
          SubnetLen: config.ipv4.subnetLength,
          SubnetMin: formatIpv4(config.ipv4.subnetMin),
          SubnetMax: formatIpv4(config.ipv4.subnetMax),
        }),
    EnableIPv4: config.ipv4 !== null,
    EnableIPv6: config.ipv6 !== null,
    ...(config.ipv6 === null
      ? {}
      : {
          IPv6Network: formatIpv6Prefix(config.ipv6.network),
          IPv6SubnetLen: config.ipv6.subnetLength,
          IPv6SubnetMin: formatIpv6(config.ipv6.subnetMin),
          IPv6SubnetMax: formatIpv6(config.ipv6.subnetMax),
        }),
    EnableNFTables: config.enableNftables,
    Backend: { Type: config.backend.type, ...config.backend.options },
  };
}

/** What a change would do that nobody may have meant; it is stored when it is insisted on. */
export class NetworkRefusedError extends TweedError {
  constructor(reasons: readonly string[]) {
    super('NETWORK_REFUSED', `not stored: ${reasons.join('; ')}; add --force to store it all the same`);
  }
}

export interface NetworkChange extends NetworkReport {
  /** What was stored before; null when there was nothing. */
  readonly before: string | null;
}

/**
 * Stores a configuration after checking it.
 *
 * @param expected The version that was read before, for a write that must not undo somebody else's; null writes anyway.
 * @param force store it also when live leases do not fit, or the backend becomes another one because it is not named
 * @throws ConfigError, ConfigChangedError, RegistryError, NetworkRefusedError
 */
export async function setNetwork(
  registry: Registry,
  json: string,
  expected: string | null,
  force = false,
): Promise<NetworkChange> {
  const { config } = checkNetwork(json, null); // before the registry is asked for anything
  const stored = await registry.getConfig().catch(() => null); // an embedded registry is made by the first write
  const snapshot = stored === null ? null : await registry.list();
  const report = checkNetwork(json, snapshot);
  const before = stored?.json ?? null;
  const former = tryConfig(before)?.backend.type ?? config.backend.type;
  const misfits = (snapshot?.leases ?? []).filter((lease) => !fitsConfig(lease, config));
  const reasons = [
    ...(misfits.length > 0
      ? [
          `${plural(misfits.length, 'live lease')} would not fit (${misfits.slice(0, 3).map(subnetName).join(', ')}), and their hosts would change their subnets`,
        ]
      : []),
    ...(former !== config.backend.type && !namesBackend(json)
      ? [`without a Backend it is ${config.backend.type}, and ${former} is in use`]
      : []),
  ];
  if (reasons.length > 0 && !force) throw new NetworkRefusedError(reasons);
  await registry.setConfig(json, expected);
  return { ...report, before };
}

function namesBackend(json: string): boolean {
  return membersOf(membersOf(parseJson(json))?.get('backend'))?.has('type') ?? false;
}

/** What differs between two configurations, every default filled in: `NAME: OLD → NEW`. */
export function describeChange(before: string | null, after: NetworkConfig): readonly string[] {
  const former = tryConfig(before);
  const [old, now] = [former === null ? {} : effectiveConfig(former), effectiveConfig(after)];
  return [...new Set([...Object.keys(old), ...Object.keys(now)])].flatMap((name) => {
    const [one, other] = [old, now].map((all) => (name in all ? JSON.stringify(all[name]) : 'none'));
    return one === other ? [] : [`${name}: ${one} → ${other}`];
  });
}

/** All leases as rows, by address; unreadable ones are listed apart. */
export async function leaseRows(
  registry: Registry,
  now: number,
): Promise<{ rows: LeaseRow[]; malformed: { key: string; problem: string }[] }> {
  const stored = await registry.getConfig();
  const { leases, malformed } = await registry.list({ expirations: true });
  const config = tryConfig(stored.json);
  const nameOf = (lease: StoredLease) => halvesOf(lease)[0] as AnyPrefix;
  const sorted = [...leases].sort((a, b) => comparePrefixes(nameOf(a), nameOf(b)));
  const remarks = new Relations(sorted);
  return {
    rows: sorted.map((lease) => toRow(lease, remarks.of(lease), config, now)),
    malformed: malformed.map(({ key, error }) => ({ key, problem: error.problem })),
  };
}

function toRow(lease: StoredLease, related: readonly string[], config: NetworkConfig | null, now: number): LeaseRow {
  const { attributes, expiresAt } = lease;
  const remarks: string[] = [];
  if (config !== null && !fitsConfig(lease, config)) remarks.push('does not fit the network config');
  remarks.push(...related);
  return {
    key: lease.key,
    subnet: lease.subnet === null ? null : formatPrefix(lease.subnet),
    subnetV6: lease.subnetV6 === null ? null : formatIpv6Prefix(lease.subnetV6),
    publicIp: attributes.publicIp === 0 ? null : formatIpv4(attributes.publicIp),
    publicIpv6: attributes.publicIpv6 === null ? null : formatIpv6(attributes.publicIpv6),
    backend: attributes.backendType ?? 'udp',
    reservation: lease.reservation,
    secondsLeft: expiresAt === null ? null : Math.max(0, Math.round((expiresAt - now) / 1000)),
    remarks,
  };
}

function tryConfig(json: string | null): NetworkConfig | null {
  try {
    return json === null ? null : checkNetworkConfig(json).config;
  } catch {
    return null;
  }
}
