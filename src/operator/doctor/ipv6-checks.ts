/** What `tweed doctor` asks of a host whose overlay carries IPv6: the switches and addresses that IPv4 has no counterpart of. */

import { readFile } from 'node:fs/promises';
import { readWireguardOptions } from '../../backend/wireguard/options.js';
import { formatIpv6, formatIpv6Prefix } from '../../base/ipv6.js';
import { ipTool, type LinkJson, type Run } from '../../routes/ip.js';
import type { Underlay } from '../../routes/underlay.js';
import type { BackendConfig, NetworkConfig } from '../../subnet/network-config/config.js';
import { type Checks, fail, ok, warn } from './finding.js';

export interface Ipv6Facts {
  readonly config: Pick<NetworkConfig, 'ipv6' | 'backend'>;
  readonly underlay: Underlay;
  /** The underlay's IPv6 address has a lifetime, as one from a router advertisement has. */
  readonly dynamic: boolean;
  /** Switches below /proc/sys/net/ipv6/conf, by their path there; without those that are not there. */
  readonly switches: ReadonlyMap<string, number>;
}

/** Null where nothing is to be asked: no IPv6 in the network, or no interface is known. */
export async function gatherIpv6Facts(
  config: NetworkConfig | null,
  underlay: Underlay | string,
  run?: Run,
): Promise<Ipv6Facts | null> {
  if (config === null || config.ipv6 === null || typeof underlay === 'string') return null;
  const { name } = underlay;
  const paths = ['all/forwarding', 'all/disable_ipv6', `${name}/disable_ipv6`, `${name}/accept_ra`];
  const values = await Promise.all(paths.map((path) => readSwitch(path)));
  // a kernel without IPv6 has none, and need not be asked
  const hasIpv6 = values[paths.indexOf('all/disable_ipv6')] !== null;
  const links = hasIpv6 ? await ipTool(run).json<LinkJson[]>('-6', 'address', 'show', 'dev', name) : [];
  const own = underlay.ipv6 === null ? '' : formatIpv6(underlay.ipv6.address);
  const dynamic = links.some(({ addr_info = [] }) =>
    addr_info.some((one) => one.local === own && one.dynamic === true),
  );
  const switches = new Map(paths.flatMap((path, index) => (values[index] == null ? [] : [[path, values[index]]])));
  return { config, underlay, dynamic, switches };
}

async function readSwitch(path: string): Promise<number | null> {
  try {
    return Number(await readFile(`/proc/sys/net/ipv6/conf/${path}`, 'utf8'));
  } catch {
    return null; // a kernel without IPv6 has none of them
  }
}

/** Do the overlay's IPv6 packets travel between hosts that have IPv4 by that? */
function carriesEitherByIpv4({ type, options }: BackendConfig): boolean {
  if (type !== 'wireguard') return type === 'udp';
  try {
    return ['ipv4', 'auto'].includes(readWireguardOptions(options).options.mode);
  } catch {
    return false; // what is wrong with them is another check's question
  }
}

export const ipv6Checks: Checks<Ipv6Facts> = {
  'ipv6-kernel': ({ switches, underlay: { name } }) => {
    if (!switches.has('all/disable_ipv6')) {
      return fail('this kernel has no IPv6', 'remove ipv6.disable=1 from the kernel’s command line, and boot again');
    }
    const off = ['all', name].filter((where) => switches.get(`${where}/disable_ipv6`) === 1);
    return off.length === 0
      ? ok(`IPv6 is enabled on ${name}`)
      : fail(
          `IPv6 is disabled (net.ipv6.conf.${off.join(', ')}.disable_ipv6)`,
          off.map((where) => `sysctl -w net.ipv6.conf.${where}.disable_ipv6=0`).join(' && '),
        );
  },
  'ipv6-address': ({ config: { ipv6, backend }, underlay }) => {
    if (ipv6 === null) return null;
    if (underlay.ipv6 === null && underlay.address !== 0 && carriesEitherByIpv4(backend)) {
      return ok(`${underlay.name} has no IPv6 address and needs none: ${backend.type} carries IPv6 by IPv4 here`);
    }
    return underlay.ipv6 === null
      ? fail(
          `${underlay.name} has no IPv6 address but a link-local one: hosts cannot reach this one by IPv6`,
          `ip address add ADDRESS/64 dev ${underlay.name}, or set EnableIPv6 to false for all hosts`,
        )
      : ok(`${formatIpv6(underlay.ipv6.address)} of ${underlay.name} is there for ${formatIpv6Prefix(ipv6.network)}`);
  },
  'ipv6-forwarding': ({ switches }) => {
    if (!switches.has('all/forwarding')) return null;
    return switches.get('all/forwarding') === 1
      ? ok('the kernel forwards IPv6 packets')
      : fail('the kernel does not forward IPv6 packets', 'sysctl -w net.ipv6.conf.all.forwarding=1');
  },
  // With forwarding on, 1 means no more than 0 (Documentation/networking/ip-sysctl.rst).
  'ipv6-router-advertisements': ({ switches, dynamic, underlay: { name } }) => {
    if (!dynamic) return null;
    return switches.get(`${name}/accept_ra`) === 2
      ? ok(`${name} takes router advertisements though the host forwards`)
      : warn(
          `the IPv6 address of ${name} has a lifetime; if a router advertises it, a host that forwards loses it and its ` +
            'default route, unless accept_ra is 2',
          `sysctl -w net.ipv6.conf.${name}.accept_ra=2`,
        );
  },
};
