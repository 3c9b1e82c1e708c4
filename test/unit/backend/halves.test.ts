import { describe, expect, it } from 'vitest';
import type { BackendContext } from '../../../src/backend/backend.js';
import { HostGwBackend } from '../../../src/backend/host-gw/host-gw-backend.js';
import { halvesFor, NoHalfError } from '../../../src/backend/kernel/halves.js';
import { obstacleToIpv6 } from '../../../src/backend/kernel/ipv6-obstacle.js';
import { VxlanBackend } from '../../../src/backend/vxlan/vxlan-backend.js';
import { parseIpv6 } from '../../../src/base/ipv6.js';
import { parseNetworkConfig } from '../../../src/subnet/network-config/config.js';
import { address, contextOf } from './support.js';

interface Given {
  readonly ipv4?: boolean;
  readonly ipv6?: boolean;
  readonly mtu?: number;
  readonly warnings?: string[];
}

/** A host of a network of both families. */
function hostOf({ ipv4 = true, ipv6 = true, mtu = 1500, warnings = [] }: Given): BackendContext {
  const own = ipv4 ? address('192.0.2.1') : 0;
  const ownV6 = ipv6 ? (parseIpv6('2001:db8::1') as bigint) : null;
  const context = contextOf({ Type: 'vxlan' });
  return {
    ...context,
    log: { ...context.log, warn: (text: unknown) => warnings.push(String(text)) } as BackendContext['log'],
    underlay: {
      ...context.underlay,
      ...{ address: own, mtu, ipv6: ownV6 === null ? null : { address: ownV6, prefixLength: 64 } },
    },
    ...{ publicIp: own, publicIpv6: ownV6 },
    config: parseNetworkConfig('{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48"}'),
  };
}

describe('a family that a host does not carry', () => {
  it.each([
    [{}, null, ''],
    [{ ipv6: false }, 6, 'fd00:5::/48 is not carried, since eth0 has no IPv6 address; give it one'],
    [{ ipv4: false }, 4, '10.5.0.0/16 is not carried, since eth0 has no IPv4 address; give it one'],
    [
      { mtu: 1279 },
      6,
      "fd00:5::/48 is not carried, since packets of 1279 bytes are left and IPv6 needs 1280; raise the underlay's MTU",
    ],
    [{ mtu: 1280 }, null, ''],
  ] as const)('of %j is told with the reason: %s', (given, family, reason) => {
    const warnings: string[] = [];
    const { halves, notCarried } = halvesFor(hostOf({ ...given, warnings }), () => ({
      device: null,
      mtu: { mtu: 1500, ...given }.mtu,
    }));
    expect(halves.map((half) => half.family)).toEqual([4, 6].filter((one) => one !== family));
    expect([...notCarried]).toEqual(family === null ? [] : [[family, reason]]);
    expect(warnings).toEqual([...notCarried.values()]);
  });

  it('leaves nothing to be carried where it is the only one', () => {
    expect(() => halvesFor(hostOf({ ipv4: false, mtu: 1200 }), () => ({ device: null, mtu: 1200 }))).toThrow(
      NoHalfError,
    );
  });

  it('is told by the backends that have one half for each', () => {
    const vxlan = (mtu: number) => new VxlanBackend(hostOf({ mtu }), '/nowhere');
    expect([vxlan(1350).mtu, [...vxlan(1350).notCarried.keys()]]).toEqual([1280, []]);
    expect([vxlan(1349).mtu, [...vxlan(1349).notCarried.keys()]]).toEqual([1299, [6]]);
    expect([...new HostGwBackend(hostOf({ ipv6: false })).notCarried.keys()]).toEqual([6]);
  });
});

describe('what stands against IPv6', () => {
  it.each([
    [1280, true, /^$/],
    [1279, true, /^packets of 1279 bytes are left/],
    [1500, false, /^this kernel has no IPv6; boot it without ipv6\.disable=1$/],
    [1279, false, /^this kernel has no IPv6/],
  ])('with packets of %i bytes, a kernel with IPv6: %s', (mtu, hasKernel, reason) => {
    expect(obstacleToIpv6(mtu, hasKernel)).toMatch(reason);
  });
});
