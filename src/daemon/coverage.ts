import type { Underlay } from '../backend/backend.js';
import {
  type Address,
  type AnyPrefix,
  familyOf,
  formatAddress,
  formatAnyPrefix,
  parseAddress,
  parseAnyPrefix,
  prefixContains,
} from '../base/address.js';

/**
 * Where the overlay's network covers the hosts' own: what lies in it and is not on the underlay's link cannot be reached
 * any more once the overlay's route is there, and that may be the registry.
 *
 * @param endpoints of the registry; those with a name for a host are not judged
 */
export function coverageWarnings(
  network: AnyPrefix,
  { name, address: v4, prefixLength, ipv6 }: Underlay,
  endpoints: readonly string[],
): readonly string[] {
  const advice = 'choose a network that holds no host ("tweed network set"), and restart every daemon';
  const text = formatAnyPrefix(network);
  const own = familyOf(network.address) === 4 ? { address: v4, prefixLength } : ipv6;
  const link = own === null ? null : parseAnyPrefix(`${formatAddress(own.address)}/${own.prefixLength}`);
  const isCovered = (host: Address) => prefixContains(network, host) && (link === null || !prefixContains(link, host));
  const lost = endpoints.filter((endpoint) => {
    const [, plain, bracketed] = /^(?:https?:\/\/)?(?:([\d.]+)|\[([\da-fA-F:]+)\])(?::\d+)?\/?$/.exec(endpoint) ?? [];
    const host = parseAddress(plain ?? bracketed ?? '');
    return host !== null && isCovered(host);
  });
  const warnings: string[] = [];
  if (own !== null && prefixContains(network, own.address)) {
    const what = `the overlay’s network ${text} covers ${formatAddress(own.address)} of ${name}`;
    warnings.push(`${what}: hosts of that network beyond the link are out of reach; ${advice}`);
  }
  if (lost.length > 0) {
    const what = `the overlay’s network ${text} covers the way to the registry at ${lost.join(', ')}`;
    warnings.push(`${what}, which is out of reach while the overlay is up; ${advice}`);
  }
  return warnings;
}
