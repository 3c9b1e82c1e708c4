import { replaceFile } from '../base/atomic-file.js';
import { parseEnvFile } from '../base/env-file.js';
import { messageOf, TweedError } from '../base/errors.js';
import { formatIpv4, formatPrefix, netmask, type Prefix, parsePrefix, samePrefix } from '../base/ipv4.js';
import { shown } from '../base/printable.js';
import { readTextFile } from '../base/text-file.js';

/** What flannel tells the container runtime, by a file of shell variables. */
export interface SubnetEnv {
  readonly network: Prefix;
  /** The leased subnet; the file shows its first usable address. */
  readonly subnet: Prefix;
  readonly mtu: number;
  readonly ipMasq: boolean;
}

/** What an earlier run left in that file. */
export interface PreviousSubnetEnv {
  readonly subnet: Prefix | null;
  readonly network: Prefix | null;
  /** What could not be used, in words. */
  readonly warnings: readonly string[];
}

/** The networks of the overlay before the present one: what is left of them on this host is ours to remove. */
export function formerNetworks({ network }: PreviousSubnetEnv, present: Prefix): readonly Prefix[] {
  return network === null || samePrefix(network, present) ? [] : [network];
}

export const DEFAULT_SUBNET_FILE = '/run/flannel/subnet.env';

/** The exact bytes that flannel writes for IPv4. */
export function formatSubnetEnv({ network, subnet, mtu, ipMasq }: SubnetEnv): string {
  return [
    `FLANNEL_NETWORK=${formatPrefix(network)}`,
    `FLANNEL_SUBNET=${formatIpv4(subnet.address + 1)}/${subnet.length}`,
    `FLANNEL_MTU=${mtu}`,
    `FLANNEL_IPMASQ=${ipMasq}`,
    '',
  ].join('\n');
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
    return { subnet: null, network: null, warnings: missing ? [] : [`cannot read ${path}: ${messageOf(error)}`] };
  }
}

/** As {@link readSubnetEnv}, from the text. The subnet's host bits are cleared: 10.5.72.1/24 gives 10.5.72.0/24. */
export function parseSubnetEnv(text: string): PreviousSubnetEnv {
  const warnings: string[] = [];
  const values = parseEnvFile(text);
  const read = (name: string): Prefix | null => {
    const text = values.get(name) ?? '';
    if (text === '') return null;
    const entries = text.split(',');
    if (entries.length > 1) {
      warnings.push(`${name} lists ${entries.length} values; ignoring it`);
      return null;
    }
    const prefix = parsePrefix(text.trim());
    if (prefix === null) {
      warnings.push(`${name}=${shown(text)} is no IPv4 prefix; ignoring it`);
      return null;
    }
    return { address: (prefix.address & netmask(prefix.length)) >>> 0, length: prefix.length };
  };
  const subnet = read('FLANNEL_SUBNET');
  return { subnet, network: read('FLANNEL_NETWORK'), warnings };
}
