import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BackendContext } from '../../../../src/backend/backend.js';
import { NoHalfError } from '../../../../src/backend/kernel/halves.js';
import { type DevicePlan, planDevices, wayTo } from '../../../../src/backend/wireguard/devices.js';
import type { WireguardMode } from '../../../../src/backend/wireguard/options.js';
import { wireguardPeers } from '../../../../src/backend/wireguard/peers.js';
import { WireguardBackend } from '../../../../src/backend/wireguard/wireguard-backend.js';
import { formatAddress, formatEndpoint } from '../../../../src/base/address.js';
import { parseIpv6, parseIpv6Prefix } from '../../../../src/base/ipv6.js';
import type { Lease, LeaseAttributes } from '../../../../src/subnet/lease.js';
import { parseNetworkConfig } from '../../../../src/subnet/network-config/config.js';
import { formatKey } from '../../../../src/wireguard/keys.js';
import { address, contextOf, prefix } from '../support.js';

const V4 = prefix('10.5.0.0/16');
const V6 = parseIpv6Prefix('fd00:5::/48')!;
const OWN_V6 = parseIpv6('2001:db8::1')!;
const keyOf = (byte: number) => formatKey(new Uint8Array(32).fill(byte));

interface Host {
  readonly networks?: 'ipv4' | 'ipv6' | 'dual';
  readonly addresses?: 'ipv4' | 'ipv6' | 'dual';
  readonly mode?: WireguardMode;
  readonly warnings?: string[];
}

function hostContext({ networks = 'dual', addresses = 'dual', mode = 'separate', warnings }: Host = {}) {
  const v4 = networks === 'ipv6' ? { EnableIPv4: false } : { Network: '10.5.0.0/16' };
  const v6 = networks === 'ipv4' ? {} : { EnableIPv6: true, IPv6Network: 'fd00:5::/48' };
  const own = addresses === 'ipv6' ? 0 : address('192.0.2.1');
  const ownV6 = addresses === 'ipv4' ? null : OWN_V6;
  const context = contextOf({ Type: 'wireguard' });
  const ipv6 = ownV6 === null ? null : { address: ownV6, prefixLength: 64 };
  const log = { ...context.log, warn: (text: unknown) => warnings?.push(String(text)) } as BackendContext['log'];
  return contextOf(
    { Type: 'wireguard' },
    {
      log,
      underlay: { ...context.underlay, address: own, ipv6 },
      publicIp: own,
      publicIpv6: ownV6,
      config: parseNetworkConfig(JSON.stringify({ ...v4, ...v6, Backend: { Type: 'wireguard', Mode: mode } })),
    },
  );
}

const PORTS = { port: 51_820, portV6: 51_821 };
const allOf = (host: Host, mtu = 1420) =>
  planDevices(hostContext(host), { mode: host.mode ?? 'separate', ...PORTS }, mtu);
const plansOf = (host: Host, mtu?: number) => allOf(host, mtu).plans;

describe('the devices of a host', () => {
  it.each([
    ['dual', 'dual', ['flannel-wg', 'flannel-wg-v6']],
    ['ipv4', 'dual', ['flannel-wg']],
    ['ipv6', 'dual', ['flannel-wg-v6']],
    ['dual', 'ipv4', ['flannel-wg']],
    ['dual', 'ipv6', ['flannel-wg-v6']],
  ] as const)('in the mode separate, %s by addresses of %s: one for each family', (networks, addresses, names) => {
    const warnings: string[] = [];
    const plans = plansOf({ networks, addresses, warnings });
    expect(plans.map(({ name }) => name)).toEqual(names);
    for (const { name, port, networks: carried, local } of plans) {
      const isV6 = name === 'flannel-wg-v6';
      expect(port).toBe(isV6 ? 51_821 : 51_820);
      expect(carried).toEqual(isV6 ? { ipv4: null, ipv6: V6 } : { ipv4: V4, ipv6: null });
      expect(local).toEqual(isV6 ? { ipv4: null, ipv6: OWN_V6 } : { ipv4: address('192.0.2.1'), ipv6: null });
    }
    expect(warnings).toHaveLength(networks === 'dual' && addresses !== 'dual' ? 1 : 0);
  });

  it.each([
    ['auto', 'dual', 'dual', true, true],
    ['auto', 'dual', 'ipv4', true, false],
    ['auto', 'dual', 'ipv6', false, true],
    ['auto', 'ipv4', 'dual', true, false],
    ['ipv4', 'dual', 'dual', true, false],
    ['ipv6', 'dual', 'dual', false, true],
  ] as const)('in the mode %s, %s by addresses of %s: one for both', (mode, networks, addresses, byIpv4, byIpv6) => {
    const [plan, ...others] = plansOf({ mode, networks, addresses });
    expect(others).toEqual([]);
    expect(plan).toMatchObject({ name: 'flannel-wg', port: 51_820 });
    expect(plan?.networks).toEqual({ ipv4: V4, ipv6: networks === 'ipv4' ? null : V6 });
    expect(plan?.local).toEqual({ ipv4: byIpv4 ? address('192.0.2.1') : null, ipv6: byIpv6 ? OWN_V6 : null });
  });

  it.each([
    [{ mode: 'ipv6', addresses: 'ipv4' }, 1420, /Mode is "ipv6" and eth0 has no IPv6 address; give it one/],
    [{ mode: 'ipv6', networks: 'ipv4' }, 1420, /set EnableIPv6/],
    [{ mode: 'ipv4', addresses: 'ipv6' }, 1420, /has no IPv4 address/],
    [{ mode: 'auto', networks: 'ipv6' }, 1200, /packets of 1200 bytes are left and IPv6 needs 1280/],
    [{ networks: 'ipv6' }, 1200, /IPv6 needs 1280/],
    [{ networks: 'ipv6', addresses: 'ipv4' }, 1420, /eth0 has no IPv6 address/],
  ] as const)('%j with packets of %i bytes: there is none', (host, mtu, reason) => {
    expect(() => plansOf(host, mtu)).toThrow(NoHalfError);
    expect(() => plansOf(host, mtu)).toThrow(reason);
  });

  it('a link too small for IPv6 carries IPv4 all the same', () => {
    for (const mode of ['separate', 'auto'] as const) {
      const warnings: string[] = [];
      const { plans, notCarried } = allOf({ mode, warnings }, 1200);
      expect(plans.map(({ networks }) => networks)).toEqual([{ ipv4: V4, ipv6: null }]);
      expect(warnings.join()).toMatch(/fd00:5::\/48 is not carried/);
      expect([...notCarried]).toEqual([[6, warnings.join()]]);
    }
  });
});

describe('the way to a peer', () => {
  const [plan] = plansOf({ mode: 'auto' }) as [DevicePlan];
  const PRIVATE_V6 = 'fd00:1::2';
  it.each([
    ['auto', OWN_V6, '192.0.2.2', '2001:db8::2', '192.0.2.2'],
    ['auto', OWN_V6, '10.0.0.2', '2001:db8::2', '2001:db8::2'],
    ['auto', OWN_V6, '172.31.0.2', '2001:db8::2', '2001:db8::2'],
    ['auto', OWN_V6, '192.168.0.2', PRIVATE_V6, '192.168.0.2'],
    ['auto', parseIpv6('fd00:1::1')!, '10.0.0.2', '2001:db8::2', '10.0.0.2'],
    ['auto', OWN_V6, '10.0.0.2', null, '10.0.0.2'],
    ['auto', OWN_V6, null, PRIVATE_V6, PRIVATE_V6],
    ['ipv4', OWN_V6, '10.0.0.2', '2001:db8::2', '10.0.0.2'],
    ['ipv4', OWN_V6, null, '2001:db8::2', null],
    ['ipv6', OWN_V6, '192.0.2.2', PRIVATE_V6, PRIVATE_V6],
    ['ipv6', OWN_V6, '192.0.2.2', null, null],
  ] as const)('in the mode %s from %s to %s and %s is %s', (mode, own, ipv4, ipv6, expected) => {
    const local = { ipv4: mode === 'ipv6' ? null : 1, ipv6: mode === 'ipv4' ? null : own };
    const peer = { publicIp: ipv4 === null ? 0 : address(ipv4), publicIpv6: ipv6 === null ? null : parseIpv6(ipv6)! };
    const way = wayTo({ ...plan, local, publicIpv6: own }, peer);
    expect(way === null ? null : formatAddress(way)).toBe(expected);
  });
});

function leaseOf(n: number, families: 'ipv4' | 'ipv6' | 'dual', attributes: Partial<LeaseAttributes>): Lease {
  return {
    subnet: families === 'ipv6' ? null : prefix(`10.5.${n}.0/24`),
    subnetV6: families === 'ipv4' ? null : parseIpv6Prefix(`fd00:5:0:${n}::/64`),
    attributes: {
      publicIp: address(`192.0.2.${n}`),
      publicIpv6: parseIpv6(`2001:db8::${n}`),
      backendType: 'wireguard',
      ...attributes,
    },
    expiresAt: null,
  };
}

const data = (key: number, Port?: number) => ({ PublicKey: keyOf(key), ...(Port !== undefined && { Port }) });
/** As a flanneld of today writes it, whatever the mode. */
const flannels = (key: number) => ({ backendData: data(key, 51_820), backendV6Data: data(key, 51_821) });

describe('peers of a device', () => {
  const seen = (plan: DevicePlan, leases: readonly Lease[]) => {
    const { peers, refused } = wireguardPeers(leases, keyOf(9), plan);
    return {
      peers: peers.map(({ subnet, subnetV6, address: to, port, name }) => ({
        halves: [subnet !== null, subnetV6 !== null],
        to: formatEndpoint(to, port),
        name,
      })),
      refused: Object.fromEntries(refused),
    };
  };

  it('in the mode separate each has what its family says', () => {
    const [v4, v6] = plansOf({}) as [DevicePlan, DevicePlan];
    const leases = [
      leaseOf(2, 'dual', { backendData: data(2, 7), backendV6Data: data(3, 8) }),
      leaseOf(4, 'ipv4', { backendData: data(4) }),
      leaseOf(5, 'ipv6', { backendV6Data: data(5) }),
      leaseOf(6, 'dual', { backendData: data(6) }),
      leaseOf(7, 'dual', { ...flannels(7), publicIpv6: null }),
    ];
    expect(seen(v4, leases)).toEqual({
      peers: [
        { halves: [true, false], to: '192.0.2.2:7', name: keyOf(2) },
        { halves: [true, false], to: '192.0.2.4:51820', name: keyOf(4) },
        { halves: [true, false], to: '192.0.2.6:51820', name: keyOf(6) },
        { halves: [true, false], to: '192.0.2.7:51820', name: keyOf(7) },
      ],
      refused: {},
    });
    expect(seen(v6, leases)).toEqual({
      peers: [
        { halves: [false, true], to: '[2001:db8::2]:8', name: keyOf(3) },
        { halves: [false, true], to: '[2001:db8::5]:51821', name: keyOf(5) },
      ],
      refused: {
        'fd00:5:0:6::/64': 'its lease has no BackendV6Data with a PublicKey',
        'fd00:5:0:7::/64': 'its lease has no IPv6 address, by which its datagrams would go',
      },
    });
  });

  it('one device has both halves, and goes to the port that flannel listens at, not to the one it names for IPv6', () => {
    const [plan] = plansOf({ mode: 'ipv6' }) as [DevicePlan];
    const leases = [
      leaseOf(2, 'dual', flannels(2)),
      leaseOf(3, 'ipv4', { backendData: data(3, 7) }),
      leaseOf(4, 'ipv6', { backendV6Data: data(4, 51_821) }),
      leaseOf(5, 'dual', { backendData: data(5) }),
    ];
    expect(seen(plan, leases)).toEqual({
      peers: [
        { halves: [true, true], to: '[2001:db8::2]:51820', name: keyOf(2) },
        { halves: [true, false], to: '[2001:db8::3]:7', name: keyOf(3) },
        { halves: [false, true], to: '[2001:db8::4]:51820', name: keyOf(4) },
        { halves: [true, true], to: '[2001:db8::5]:51820', name: keyOf(5) },
      ],
      refused: {},
    });
  });

  it('a key is one host’s: the newest lease holds; our own is nobody’s', () => {
    const [plan] = plansOf({ networks: 'ipv4' }) as [DevicePlan];
    const lease = (n: number, PublicKey: string) => leaseOf(n, 'ipv4', { backendData: { PublicKey } });
    const leases = [
      lease(1, keyOf(1)),
      lease(2, keyOf(2)),
      lease(3, keyOf(1)),
      lease(4, keyOf(9)),
      lease(5, 'nonsense'),
    ];
    expect(seen(plan, leases)).toEqual({
      peers: [
        { halves: [true, false], to: '192.0.2.2:51820', name: keyOf(2) },
        { halves: [true, false], to: '192.0.2.3:51820', name: keyOf(1) },
      ],
      refused: {
        '10.5.1.0/24': 'its public key is that of 10.5.3.0/24, a newer lease',
        '10.5.4.0/24': expect.stringContaining('own'),
        '10.5.5.0/24': '"nonsense" in its lease is no public key',
      },
    });
  });
});

describe('what a host announces', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tweed-wireguard-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  it.each([
    [{}, ['192.0.2.1', OWN_V6], 51_820, 51_821],
    [{ addresses: 'ipv4' }, ['192.0.2.1', null], 51_820, null],
    [{ addresses: 'ipv6' }, [null, OWN_V6], null, 51_821],
    [{ networks: 'ipv4' }, ['192.0.2.1', null], 51_820, null],
    [{ networks: 'ipv6' }, [null, OWN_V6], null, 51_821],
    [{ mode: 'auto' }, ['192.0.2.1', OWN_V6], 51_820, 51_820],
    [{ mode: 'ipv6' }, ['192.0.2.1', OWN_V6], 51_820, 51_820],
    [{ mode: 'ipv4', addresses: 'ipv4' }, ['192.0.2.1', null], 51_820, 51_820],
    [{ mode: 'auto', networks: 'ipv4' }, ['192.0.2.1', null], 51_820, null],
  ] as const)(
    '%j: for each family that it carries a key and the port it is reached at',
    async (host, own, port, portV6) => {
      const daemon = { engine: 'user', keyFile: join(folder, 'key'), socketDirectory: folder } as const;
      const backend = new WireguardBackend(hostContext(host), daemon, {} as never);
      const said = await backend.attributes();
      const PublicKey = (said.backendData ?? said.backendV6Data) as { readonly PublicKey: string };
      const announced = (at: number | null) => (at === null ? undefined : { PublicKey: PublicKey.PublicKey, Port: at });
      const [ipv4, ipv6] = own;
      expect(said).toEqual({
        publicIp: ipv4 === null ? 0 : address(ipv4),
        publicIpv6: ipv6,
        backendType: 'wireguard',
        ...(port !== null && { backendData: announced(port) }),
        ...(portV6 !== null && { backendV6Data: announced(portV6) }),
      });
    },
  );
});
