import type { Underlay } from '../backend/backend.js';
import { contains, formatIpv4, formatPrefix, netmask, type Prefix, parseIpv4 } from '../base/ipv4.js';

/**
 * Where the overlay's network covers the hosts' own: what lies in it and is not on the underlay's link cannot be reached
 * any more once the overlay's route is there, and that may be the registry.
 *
 * @param endpoints of the registry; those with a name for a host are not judged
 */
export function coverageWarnings(
  network: Prefix,
  { name, address, prefixLength }: Underlay,
  endpoints: readonly string[],
): readonly string[] {
  const advice = 'choose a network that holds no host ("tweed network set"), and restart every daemon';
  const text = formatPrefix(network);
  const isCovered = (host: number) => contains(network, host) && ((host ^ address) & netmask(prefixLength)) !== 0;
  const lost = endpoints.filter((endpoint) => {
    const host = parseIpv4(/^(?:https?:\/\/)?([\d.]+)(?::\d+)?\/?$/.exec(endpoint)?.[1] ?? '');
    return host !== null && isCovered(host);
  });
  const warnings: string[] = [];
  if (contains(network, address)) {
    const what = `the overlay’s network ${text} covers ${formatIpv4(address)} of ${name}`;
    warnings.push(`${what}: hosts of that network beyond the link are out of reach; ${advice}`);
  }
  if (lost.length > 0) {
    const what = `the overlay’s network ${text} covers the way to the registry at ${lost.join(', ')}`;
    warnings.push(`${what}, which is out of reach while the overlay is up; ${advice}`);
  }
  return warnings;
}
