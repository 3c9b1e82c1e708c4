import { describe, expect, it } from 'vitest';
import type { UdpBackendOptions } from '../../../../src/backend/udp/options.js';
import { UdpBackend } from '../../../../src/backend/udp/udp-backend.js';
import { parseIpv6 } from '../../../../src/base/ipv6.js';
import { parseNetworkConfig } from '../../../../src/subnet/network-config/config.js';
import { address, contextOf, leaseOf } from '../support.js';

const options: UdpBackendOptions = {
  deviceName: 'flannel0',
  checkSenders: true,
  offloads: { tunTso: 'auto', tunUso: 'auto', udpGso: 'auto', udpGro: 'auto', udpBatch: 'auto' },
  forwarderThreads: 'auto',
  socketBuffer: 65_536,
  txQueueLength: 1000,
  kernelPath: 'off',
  kernelPathMerge: true,
};
const backendOf = (config: Readonly<Record<string, unknown>>) =>
  new UdpBackend(contextOf({ Type: 'udp', ...config }), options);

describe('the udp backend before it is started', () => {
  it('leaves room for the outer IPv4 and UDP headers', () => {
    expect(backendOf({}).mtu).toBe(1472);
    const jumbo = {
      underlay: { name: 'eth0', index: 2, address: address('192.0.2.1'), prefixLength: 24, ipv6: null, mtu: 9000 },
    };
    expect(new UdpBackend(contextOf({ Type: 'udp' }, jumbo), options).mtu).toBe(8972);
  });

  it('announces the public address, which differs from the underlay behind a NAT, and no data of its own', async () => {
    const backend = new UdpBackend(contextOf({ Type: 'udp' }, { publicIp: address('203.0.113.7') }), options);
    expect(await backend.attributes()).toEqual({ publicIp: address('203.0.113.7'), publicIpv6: null });
  });

  const dual = {
    config: parseNetworkConfig(
      JSON.stringify({
        Network: '10.5.0.0/16',
        EnableIPv6: true,
        IPv6Network: 'fd00:5::/48',
        Backend: { Type: 'udp' },
      }),
    ),
    publicIpv6: parseIpv6('2001:db8::7'),
  };
  const underlay = { name: 'eth0', index: 2, prefixLength: 24, mtu: 1500 };
  const addressV6 = { address: parseIpv6('2001:db8::1') as bigint, prefixLength: 64 };

  it.each([
    ['IPv4', { address: address('192.0.2.1'), ipv6: null }, 1472, null],
    ['both', { address: address('192.0.2.1'), ipv6: addressV6 }, 1452, dual.publicIpv6],
    ['IPv6', { address: 0, ipv6: addressV6 }, 1452, dual.publicIpv6],
  ])('leaves room for the headers of an underlay of %s, and announces IPv6 where it has it', async (...given) => {
    const [, addresses, mtu, publicIpv6] = given;
    const backend = new UdpBackend(
      contextOf({ Type: 'udp' }, { ...dual, underlay: { ...underlay, ...addresses } }),
      options,
    );
    expect([backend.mtu, (await backend.attributes()).publicIpv6]).toEqual([mtu, publicIpv6]);
  });

  it('says what is missing where the underlay has no address', () => {
    const none = { underlay: { ...underlay, address: 0, ipv6: null } };
    expect(() => new UdpBackend(contextOf({ Type: 'udp' }, none), options)).toThrow(/eth0 has no address/);
  });

  it.each([undefined, null, 1, 8285, 65_535])('takes %j for its port', (port) => {
    expect(() => backendOf({ Port: port })).not.toThrow();
  });

  it.each([0, -1, 65_536, 8285.5, '8285', true, [8285]])('refuses %j for its port, and says what would do', (port) => {
    expect(() => backendOf({ Port: port })).toThrow(/Backend\.Port.*give a number from 1 to 65535/);
    expect(() => backendOf({ Port: port })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });

  it('has an empty status, and takes peers, repairs and a stop calmly', async () => {
    const backend = backendOf({});
    expect(await backend.setPeers({ leases: [leaseOf('10.5.2.0/24', '192.0.2.2')], complete: true })).toEqual([]);
    expect(backend.stuckFor()).toBe(0);
    expect(backend.status()).toEqual({
      type: 'udp',
      device: 'flannel0',
      mtu: 1472,
      peers: [],
      refused: [],
      features: [],
      totals: {},
      drops: {},
    });
    await backend.stop({ cleanUp: true });
    await backend.stop({ cleanUp: false });
  });
});
