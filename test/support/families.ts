/** Both families, for tests that are written once, in the words of IPv4, and said again in those of IPv6. */

import { type Address, type AnyPrefix, type Family, parseAddress, parseAnyPrefix } from '../../src/base/address.js';

export interface TestFamily {
  readonly family: Family;
  /** Says a value in the family's words: every IPv4 address and prefix in any text inside becomes one of the family. */
  say<Value>(value: Value): Value;
  prefix(text: string): AnyPrefix;
  address(text: string): Address;
  /** The metric that the kernel gives a route which was made without one; as it is told to delete it, after a space. */
  readonly metric: number;
  readonly metricWords: string;
}

function familyOf(family: Family, text: (ipv4: string) => string): TestFamily {
  const say = <Value>(value: Value): Value => {
    if (typeof value === 'string') return text(value) as Value;
    if (Array.isArray(value)) return value.map(say) as Value;
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, say(member)])) as Value;
  };
  const metric = family === 4 ? 0 : 1024;
  return {
    family,
    say,
    prefix: (ipv4) => parseAnyPrefix(text(ipv4)) as AnyPrefix,
    address: (ipv4) => parseAddress(text(ipv4)) as Address,
    metric,
    metricWords: metric === 0 ? '' : ` metric ${metric}`,
  };
}

/** Networks of 10/8 become ones of fd00::/8 with longer prefixes, everything else lies in 2001:db8::/32. */
function asIpv6(text: string): string {
  return text
    .replaceAll('224.0.0.0/4', 'ff00::/8')
    .replaceAll(/\bip (?=[sd]addr|flannel|marks|nat|filter)/g, 'ip6 ')
    .replaceAll(/\biptables\b/g, 'ip6tables')
    .replaceAll('icmp-host-prohibited', 'icmp6-adm-prohibited')
    .replaceAll('flannel-ipv4', 'flannel-ipv6')
    .replaceAll('inet ', 'inet6 ')
    .replaceAll(/\bflannel\.(\d+)/g, 'flannel-v6.$1')
    .replaceAll(/\b(\d+)\.(\d+)\.(\d+)\.(\d+)(?:\/(\d+))?/g, (_all, a, b, c, d, length?: string) => {
      const host = d === '0' ? '' : d;
      if (Number(a) >= 224) return `ff02::${host}`;
      const net = c === '0' ? '' : `:0:${c}`;
      const address = a === '10' ? `fd00:${b}${net}::${host}` : `2001:db8:${a}${c === '0' ? '' : `:${c}`}::${host}`;
      const longer: Readonly<Record<string, number>> = { 8: 16, 16: a === '10' ? 32 : 48, 32: 128 };
      return length === undefined ? address : `${address}/${longer[length] ?? Number(length) + 40}`;
    });
}

export const families: readonly TestFamily[] = [familyOf(4, (text) => text), familyOf(6, asIpv6)];
