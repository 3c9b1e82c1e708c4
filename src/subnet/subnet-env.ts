import { type AnyPrefix, sameAnyPrefix } from '../base/address.js';
import { replaceFile } from '../base/atomic-file.js';
import { parseEnvFile } from '../base/env-file.js';
import { messageOf, TweedError } from '../base/errors.js';
import { formatIpv4, formatPrefix, type Prefix, parsePrefix } from '../base/ipv4.js';
import { formatIpv6, formatIpv6Prefix, type Ipv6Prefix, parseIpv6Prefix } from '../base/ipv6.js';
import { shown } from '../base/printable.js';
import { readTextFile } from '../base/text-file.js';

/** A network of the overlay and this host's part of it; the file shows that part's first usable address. */
export interface SubnetEnvHalf<P extends AnyPrefix> {
  readonly network: P;
  readonly subnet: P;
}

/**
 * What flannel tells the container runtime, by a file of shell variables. It is also what the next start of the daemon knows
 * this one by.
 */
export interface SubnetEnv {
  readonly ipv4: SubnetEnvHalf<Prefix> | null;
  readonly ipv6: SubnetEnvHalf<Ipv6Prefix> | null;
  /** What `ipv6` would be if this host carried IPv6: not for containers, which would have addresses that lead nowhere. */
  readonly keptV6: SubnetEnvHalf<Ipv6Prefix> | null;
  readonly mtu: number;
  readonly ipMasq: boolean;
}

/** What an earlier run left in that file. */
export interface PreviousSubnetEnv {
  readonly subnet: Prefix | null;
  readonly network: Prefix | null;
  readonly subnetV6: Ipv6Prefix | null;
  readonly networkV6: Ipv6Prefix | null;
  /** What could not be used, in words. */
  readonly warnings: readonly string[];
}

/** The networks of the overlay before the present one: what is left of them on this host is ours to remove. */
export function formerNetworks(
  { network, networkV6 }: PreviousSubnetEnv,
  present: readonly AnyPrefix[],
): readonly AnyPrefix[] {
  return [network, networkV6].filter(
    (former) => former !== null && !present.some((one) => sameAnyPrefix(one, former)),
  ) as AnyPrefix[];
}

const KEPT_NETWORK = 'TWEED_KEPT_NETWORK';
const KEPT_SUBNET = 'TWEED_KEPT_SUBNET';

export const DEFAULT_SUBNET_FILE = '/run/flannel/subnet.env';

/** The exact bytes that flannel writes; behind them, under names that nobody else reads, what is only kept. */
export function formatSubnetEnv({ ipv4, ipv6, keptV6, mtu, ipMasq }: SubnetEnv): string {
  const v4 = ipv4 && [
    `FLANNEL_NETWORK=${formatPrefix(ipv4.network)}`,
    `FLANNEL_SUBNET=${formatIpv4(ipv4.subnet.address + 1)}/${ipv4.subnet.length}`,
  ];
  const v6 = ipv6 && v6Lines(ipv6, 'FLANNEL_IPV6_NETWORK', 'FLANNEL_IPV6_SUBNET');
  const kept = keptV6 && v6Lines(keptV6, KEPT_NETWORK, KEPT_SUBNET);
  const others = [`FLANNEL_MTU=${mtu}`, `FLANNEL_IPMASQ=${ipMasq}`];
  return [...(v4 ?? []), ...(v6 ?? []), ...others, ...(kept ?? []), ''].join('\n');
}

function v6Lines({ network, subnet }: SubnetEnvHalf<Ipv6Prefix>, networkName: string, subnetName: string): string[] {
  return [
    `${networkName}=${formatIpv6Prefix(network)}`,
    `${subnetName}=${formatIpv6(subnet.address + 1n)}/${subnet.length}`,
  ];
}

/**
 * Writes the file atomically (0644; its directories 0755).
 * @throws TweedError
 */
export async function writeSubnetEnv(path: string, env: SubnetEnv): Promise<void> {
  try {
    await replaceFile(path, formatSubnetEnv(env));
  } catch (error) {
    throw new TweedError('SUBNET_FILE', `cannot write ${path}: ${messageOf(error)}; make its directory writable`, {
      cause: error,
    });
  }
}

/**
 * Reads what an earlier run, ours or flannel's, left behind. Forgiving: `export`, quotes, comments and blank lines are fine;
 * whatever cannot be used is a warning and counts as absent, and so does a missing file, without a warning.
 */
export async function readSubnetEnv(path: string): Promise<PreviousSubnetEnv> {
  try {
    return parseSubnetEnv(await readTextFile(path));
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const nothing = { subnet: null, network: null, subnetV6: null, networkV6: null };
    return { ...nothing, warnings: missing ? [] : [`cannot read ${path}: ${messageOf(error)}`] };
  }
}

/** As {@link readSubnetEnv}, from the text. The subnet's host bits are cleared: 10.5.72.1/24 gives 10.5.72.0/24. */
export function parseSubnetEnv(text: string): PreviousSubnetEnv {
  const warnings: string[] = [];
  const values = parseEnvFile(text);
  const read = <P extends AnyPrefix>(name: string, family: string, parse: (text: string) => P | null): P | null => {
    const text = values.get(name) ?? '';
    if (text === '') return null;
    const entries = text.split(',');
    if (entries.length > 1) {
      warnings.push(`${name} lists ${entries.length} values; ignoring it`);
      return null;
    }
    const prefix = parse(text.trim());
    if (prefix === null) warnings.push(`${name}=${shown(text)} is no ${family} prefix; ignoring it`);
    return prefix;
  };
  const readV4 = (name: string) => read(name, 'IPv4', (text) => parsePrefix(text, { maskHostBits: true }));
  const readV6 = (name: string) => read(name, 'IPv6', parseIpv6Prefix);
  return {
    subnet: readV4('FLANNEL_SUBNET'),
    network: readV4('FLANNEL_NETWORK'),
    subnetV6: readV6('FLANNEL_IPV6_SUBNET') ?? readV6(KEPT_SUBNET),
    networkV6: readV6('FLANNEL_IPV6_NETWORK') ?? readV6(KEPT_NETWORK),
    warnings,
  };
}
