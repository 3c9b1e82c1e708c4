import { describe, expect, it } from 'vitest';
import { HostGwBackend } from '../../../src/backend/host-gw/host-gw-backend.js';
import { KernelPeers } from '../../../src/backend/kernel/kernel-peers.js';
import { backendKind, checkBackendConfig, createBackend, UnknownBackendError } from '../../../src/backend/select.js';
import { silentLogger } from '../../../src/base/log.js';
import { applyChanges, shorten } from '../../../src/routes/changes.js';
import { deviceTotals, udpTotals } from '../../../src/routes/device-statistics.js';
import { ipTool } from '../../../src/routes/ip.js';
import { offLinkReason, parseReach, readReach } from '../../../src/routes/on-link.js';
import { encodeLeaseValue } from '../../../src/subnet/keys.js';
import { parseNetworkConfig } from '../../../src/subnet/network-config/config.js';
import { address, contextOf, leaseOf, peerSet } from './support.js';

describe('host-gw', () => {
  it("announces what flannel does, byte for byte, and keeps the interface's MTU", async () => {
    const backend = new HostGwBackend(contextOf({ Type: 'host-gw' }));
    expect(encodeLeaseValue(await backend.attributes())).toBe(
      '{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"host-gw"}',
    );
    expect(backend.mtu).toBe(1500);
  });

  it('refuses a public address that is not on its link', () => {
    const context = contextOf({ Type: 'host-gw' }, { publicIp: address('203.0.113.1') });
    expect(() => new HostGwBackend(context)).toThrow(
      /route to 192\.0\.2\.1 of eth0, but this host’s public address is 203\.0\.113\.1; leave --public-ip out/,
    );
  });
});

describe('the choice of a backend', () => {
  const options = { runDirectory: '/nowhere' } as Parameters<typeof createBackend>[2];

  it.each(['vxlan', 'host-gw', 'wireguard'])('%s is there', async (type) => {
    expect((await createBackend(type, contextOf({ Type: type }), options)).type).toBe(type);
  });

  it.each(['ipip', 'aws-vpc', 'gce', 'alloc', 'extension', 'toString'])('%s is not', async (type) => {
    const make = () => createBackend(type, contextOf({ Type: type }), options);
    await expect(make).rejects.toThrow(UnknownBackendError);
    await expect(make).rejects.toThrow(
      /set Backend\.Type of the network config to one of: udp, vxlan, host-gw, wireguard$/,
    );
  });
});

describe('the Backend of a configuration', () => {
  const configOf = (Type: string, options: object) => {
    const config = parseNetworkConfig('{"Network":"10.5.0.0/16"}');
    return { ...config, backend: { type: Type, options: { ...options } } };
  };

  it.each([
    ['udp', {}],
    ['udp', { port: 8285 }],
    ['vxlan', { vni: 7, directrouting: true }],
    ['host-gw', {}],
    ['wireguard', { listenport: 51820 }],
  ])('of type %s with %j is right', (type, options) => {
    expect(() => checkBackendConfig(configOf(type, options))).not.toThrow();
  });

  it.each([
    ['ipip', {}, /no backend "ipip"/],
    ['wireguard', { psk: 'x' }, /Backend\.PSK/],
    ['udp', { port: 'x' }, /Backend\.Port/],
    ['vxlan', { vni: -1 }, /Backend\.VNI/],
  ])('of type %s with %j is refused before any host starts', (type, options, message) => {
    expect(() => checkBackendConfig(configOf(type, options))).toThrow(message);
  });
});

describe('what each kind of backend is', () => {
  const daemon = { udp: { deviceName: 'tweed7' } };
  const facts = (type: string, options = {}, ipv4 = true) => {
    const kind = backendKind(type);
    return [kind.overhead, kind.defaultPort, kind.port(options, ipv4), kind.deviceName(options, daemon)];
  };

  it('is known without a host', () => {
    expect(facts('udp')).toEqual([28, 8285, 8285, 'tweed7']);
    expect(facts('udp', { port: 4000 })).toEqual([28, 8285, 4000, 'tweed7']);
    expect(facts('vxlan')).toEqual([50, 8472, 8472, 'flannel.1']);
    expect(facts('vxlan', { vni: 7, port: 4789 })).toEqual([50, 8472, 4789, 'flannel.7']);
    expect(facts('host-gw')).toEqual([0, null, null, null]);
    expect(facts('wireguard')).toEqual([80, 51820, 51820, 'flannel-wg']);
    expect(facts('wireguard', {}, false)).toEqual([80, 51820, 51821, 'flannel-wg']);
    expect(facts('wireguard', { mode: 'auto' }, false)).toEqual([80, 51820, 51820, 'flannel-wg']);
  });
});

describe('peers of a backend that forwards in the kernel', () => {
  const first = leaseOf('10.5.1.0/24', '192.0.2.1');
  const second = leaseOf('10.5.2.0/24', '192.0.2.2');
  const nothing = { troubles: new Map(), wanted: 'x', done: ['did it'] };

  it('leave nothing to be taken for left over until all are known, and what looks like it only once', () => {
    const peers = new KernelPeers(silentLogger());
    const look = (complete: boolean) => {
      const leftovers = peers.leftovers(peerSet([first], complete));
      peers.settle(peerSet([first], complete), nothing);
      return leftovers;
    };
    expect([look(false), look(false), look(true), look(true)]).toEqual(['none', 'none', 'any', 'ours']);
  });

  it('are told apart from what another program undid', () => {
    const peers = new KernelPeers(silentLogger());
    const settle = (wanted: string) => peers.settle(peerSet([first, second]), { ...nothing, wanted });
    expect(settle('a')).toEqual([]);
    expect(settle('a')).toEqual(['did it']);
    expect(settle('b')).toEqual([]);
    expect(settle('b')).toEqual(['did it']);
  });

  it('are either reached or refused', () => {
    const peers = new KernelPeers(silentLogger());
    peers.settle(peerSet([first, second]), { ...nothing, troubles: new Map([['10.5.1.0/24', 'is far']]) });
    expect(peers.reached).toMatchObject([{ subnet: '10.5.2.0/24', publicIp: '192.0.2.2', rxPackets: null }]);
    expect(peers.refused).toEqual([{ subnet: '10.5.1.0/24', publicIp: '192.0.2.1', reason: 'is far' }]);
  });
});

describe('the way to a peer', () => {
  const printed = [
    '[{"dst":"192.0.2.9","dev":"eth0","prefsrc":"192.0.2.1","flags":[],"uid":0,"cache":[]}]',
    '[{"dst":"198.51.100.1","gateway":"192.0.2.254","dev":"eth0","flags":[]}]',
    '[{"type":"local","dst":"192.0.2.1","dev":"lo","flags":[]}]',
    '[{"dst":"198.51.100.2","dev":"eth1","flags":[]}]',
    '',
  ].join('\n');
  const reach = new Map(parseReach(printed));
  const reason = (text: string) => offLinkReason(reach.get(address(text)), address(text), 'eth0');

  it.each([
    ['192.0.2.9', ''],
    ['198.51.100.1', '198.51.100.1 is behind the router 192.0.2.254, not on the link of eth0'],
    ['192.0.2.1', '192.0.2.1 is an address of this host'],
    ['198.51.100.2', '198.51.100.2 is reached through eth1, not eth0'],
    ['203.0.113.1', 'the kernel does not say how to reach 203.0.113.1'],
  ])('%s: %s', (text, expected) => {
    expect(reason(text)).toBe(expected);
  });

  it('that the kernel does not know is told in its words', async () => {
    const stderr = 'RTNETLINK answers: Network is unreachable\nCommand failed -:2\n';
    const found = await readReach(
      [address('192.0.2.9'), address('203.0.113.1')],
      ipTool(async () => ({ status: 2, stdout: printed.split('\n')[0] as string, stderr })),
    );
    expect(offLinkReason(found.get(address('192.0.2.9')), address('192.0.2.9'), 'eth0')).toBe('');
    expect(found.get(address('203.0.113.1'))).toBe('Network is unreachable');
  });
});

describe('changes', () => {
  it('that are refused do not hide those that were made', async () => {
    const outcome = await applyChanges(
      [
        { subject: 'a', command: 'one', text: 'did one' },
        { subject: 'b', command: 'two', text: 'did two' },
        { subject: 'c', command: 'three', text: '' },
      ],
      { batchAll: async () => ({ stdout: '', failures: [{ line: 'two', error: 'no' }] }) },
    );
    expect(outcome).toEqual({ done: ['did one'], failed: new Map([['b', '"two" was refused: no']]) });
  });

  it('are told shortly when there are thousands', () => {
    const lines = Array.from({ length: 100 }, (_, index) => `line ${index}`);
    expect(shorten(lines, 3)).toEqual(['line 0', 'line 1', '… and 98 more like these']);
    expect(shorten(lines, 100)).toBe(lines);
  });
});

describe('statistics', () => {
  const table = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
flannel.1:11 12 13 14 0 0 0 0 21 22 23 24 0 0 0 0
`;

  it('of a device are read, also without a space behind the colon', () => {
    expect(deviceTotals('flannel.1', table)).toEqual({
      rxBytes: 11,
      rxPackets: 12,
      rxErrors: 13,
      rxDrops: 14,
      txBytes: 21,
      txPackets: 22,
      txErrors: 23,
      txDrops: 24,
    });
    expect(deviceTotals('flannel', table).rxBytes).toBe(0);
  });

  it('of wrong checksums are found by name', () => {
    const text = 'Tcp: InSegs InCsumErrors\nTcp: 9 8\nUdp: InDatagrams NoPorts InCsumErrors MemErrors\nUdp: 1 2 3 4\n';
    expect(udpTotals(text)).toEqual({ received: 1, checksumErrors: 3 });
    expect(udpTotals('')).toEqual({ received: 0, checksumErrors: 0 });
  });
});
