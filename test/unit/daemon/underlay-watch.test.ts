import { describe, expect, it } from 'vitest';
import { formatIpv4, parseIpv4 } from '../../../src/base/ipv4.js';
import { recheckUnderlay } from '../../../src/daemon/underlay-watch.js';
import type { IpTool, LinkJson, RouteJson } from '../../../src/routes/ip.js';
import type { UnderlayChoice, UnderlayOptions } from '../../../src/routes/underlay.js';

/** No machine has interfaces of these names, so the kernel that runs the tests is never asked for more. */
const current: UnderlayChoice = {
  underlay: {
    name: 'tw-none0',
    index: 2,
    address: parseIpv4('192.0.2.10') as number,
    prefixLength: 24,
    ipv6: null,
    mtu: 1500,
  },
  publicIp: parseIpv4('192.0.2.10') as number,
  publicIpv6: null,
  reason: 'the interface of the IPv4 default route',
};

function link(ifindex: number, ifname: string, address: string | null, mtu = 1500): LinkJson {
  const addr_info = address === null ? [] : [{ family: 'inet', local: address, prefixlen: 24, scope: 'global' }];
  return { ifindex, ifname, flags: ['UP'], mtu, addr_info };
}

async function recheck(links: LinkJson[], given: Partial<UnderlayOptions> = {}): Promise<string | null> {
  const routes: RouteJson[] = links.slice(-1).map(({ ifname }) => ({ dst: 'default', dev: ifname }));
  const json = async (...words: string[]) => (words[0] === 'address' ? links : routes);
  const ip = { json } as unknown as IpTool;
  const options = { interfaces: [], patterns: [], canReach: '', publicIp: '', publicIpv6: '', ...given };
  const choice = await recheckUnderlay(current, options, false, ip);
  if (choice === null) return null;
  const { name, index, address, mtu } = choice.underlay;
  return `${name} ${index} ${formatIpv4(address)} mtu ${mtu} public ${formatIpv4(choice.publicIp)}`;
}

describe('looking at the underlay again', () => {
  it('leaves it alone while the interface has the address, also without carrier and beside a new default route', async () => {
    expect(await recheck([link(2, 'tw-none0', '192.0.2.10'), link(3, 'tw-none1', '198.51.100.1')])).toBeNull();
  });

  it('sees another MTU', async () => {
    expect(await recheck([link(2, 'tw-none0', '192.0.2.10', 9000)])).toBe(
      'tw-none0 2 192.0.2.10 mtu 9000 public 192.0.2.10',
    );
  });

  it('follows the address to an interface of another name, whatever the options say', async () => {
    const moved = 'tw-none1 7 192.0.2.10 mtu 1400 public 192.0.2.10';
    expect(await recheck([link(7, 'tw-none1', '192.0.2.10', 1400)])).toBe(moved);
    expect(await recheck([link(7, 'tw-none1', '192.0.2.10', 1400)], { interfaces: ['tw-none0'] })).toBe(moved);
  });

  it('chooses as at the start when the address is gone', async () => {
    expect(await recheck([link(2, 'tw-none0', null), link(8, 'tw-none2', '198.51.100.7')])).toBe(
      'tw-none2 8 198.51.100.7 mtu 1500 public 198.51.100.7',
    );
    await expect(recheck([link(2, 'tw-none0', null)], { interfaces: ['tw-none0'] })).rejects.toThrow(
      'no interface to send',
    );
  });
});
