import { describe, expect, it } from 'vitest';
import type { BackendStatus } from '../../../src/backend/backend.js';
import type { DaemonStatus } from '../../../src/observe/status.js';
import { judge, type Observations, renderPing } from '../../../src/operator/ping.js';
import { endOf, findTarget, parseEcho } from '../../../src/operator/probe.js';

const peer = (subnet: string, publicIp: string) => ({
  subnet,
  publicIp,
  subnetV6: null,
  publicIpv6: null,
  txPackets: 0,
  txBytes: 0,
  rxPackets: 0,
  rxBytes: 0,
  lastReceived: null,
});

const status: DaemonStatus = {
  schema: 1,
  version: '1',
  process: 1,
  startedAt: '2026-01-01T00:00:00Z',
  phase: 'running',
  detail: '',
  ready: true,
  logLevel: 'info',
  network: '10.5.0.0/16',
  networkV6: null,
  lease: {
    subnet: '10.5.1.0/24',
    subnetV6: null,
    publicIp: '192.0.2.1',
    publicIpv6: null,
    expiresAt: null,
    secondsLeft: null,
    fromCache: false,
  },
  underlay: null,
  registry: { kind: 'etcd', endpoints: [], connected: true, error: '' },
  backend: {
    type: 'udp',
    device: 'flannel0',
    mtu: 1472,
    peers: [peer('10.5.2.0/24', '192.0.2.2'), peer('10.5.2.128/25', '192.0.2.3')],
    refused: [],
    features: [],
    totals: {},
    drops: {},
  },
  warnings: [],
  repairs: 0,
  unforeseenErrors: 0,
  log: { lost: 0, waiting: 0, error: '' },
};

describe('the target of a ping', () => {
  it.each([
    ['192.0.2.2', '192.0.2.2', null],
    ['10.5.2.0/24', '192.0.2.2', null],
    ['10.5.2.9/24', '192.0.2.2', null],
    ['10.5.2.9', '192.0.2.2', '10.5.2.9'],
    ['10.5.2.200', '192.0.2.3', '10.5.2.200'],
  ])('%s is behind %s', (text, publicIp, overlayAddress) => {
    expect(findTarget(text, status)).toMatchObject({ kind: 'peer', peer: { publicIp }, overlayAddress });
  });

  it.each([
    ['10.5.1.7', 'own', undefined],
    ['10.5.1.0/24', 'own', undefined],
    ['10.5.77.1', 'unknown', 'no host has leased'],
    ['10.5.77.0/24', 'unknown', 'no host has the subnet'],
    ['8.8.8.8', 'unknown', 'not in the overlay network 10.5.0.0/16'],
    ['elsewhere', 'unknown', 'neither an address nor a subnet'],
  ])('%s is %s', (text, kind, reason) => {
    expect(findTarget(text, status)).toMatchObject(
      reason === undefined ? { kind } : { kind, reason: expect.stringContaining(reason) },
    );
  });

  it.each([
    ['fd00:5:0:2::/64', 'udp', '10.5.2.0/24', 'fd00:5:0:2::'],
    ['fd00:5:0:2::/64', 'host-gw', '10.5.2.0/24', 'fd00:5:0:2::1'],
    ['fd00:5:0:2:0::9', 'udp', '10.5.2.0/24', 'fd00:5:0:2::9'],
    ['2001:DB8::2', 'udp', '10.5.2.0/24', null],
    ['10.5.2.0/24', 'udp', '10.5.2.0/24', null],
    ['fd00:5:0:3::/64', 'udp', 'fd00:5:0:3::/64', null],
    ['fd00:5:0:3::7', 'udp', 'fd00:5:0:3::/64', 'fd00:5:0:3::7'],
  ])('%s with %s is behind %s', (text, type, subnet, overlayAddress) => {
    const two = { ...peer('10.5.2.0/24', '192.0.2.2'), subnetV6: 'fd00:5:0:2::/64', publicIpv6: '2001:db8::2' };
    const six = { ...peer('fd00:5:0:3::/64', '2001:db8::3'), subnetV6: 'fd00:5:0:3::/64', publicIpv6: '2001:db8::3' };
    const backend = { ...(status.backend as BackendStatus), type, peers: [two, six] };
    const found = findTarget(text, { ...status, networkV6: 'fd00:5::/56', backend });
    expect(found).toMatchObject({ kind: 'peer', peer: { subnet }, overlayAddress });
    expect(endOf(six, 'vxlan')).toBe('fd00:5:0:3::');
    const reason = expect.stringContaining('no host has leased');
    expect(findTarget('fd00:5:0:9::1', { ...status, networkV6: 'fd00:5::/56' })).toMatchObject({ reason });
  });

  it("answers at the subnet's first address, or at the bridge where there is no device", () => {
    expect(endOf(peer('10.5.2.0/24', ''), 'udp')).toBe('10.5.2.0');
    expect(endOf(peer('10.5.2.0/24', ''), 'host-gw')).toBe('10.5.2.1');
  });
});

describe("ping's output", () => {
  it('is read', () => {
    const answered = `PING 10.5.2.0 (10.5.2.0) 56(84) bytes of data.
64 bytes from 10.5.2.0: icmp_seq=1 ttl=62 time=6.38 ms

--- 10.5.2.0 ping statistics ---
3 packets transmitted, 2 received, 33% packet loss, time 402ms
rtt min/avg/max/mdev = 0.842/3.609/6.377/2.767 ms
`;
    expect(parseEcho('10.5.2.0', 3, answered)).toEqual({
      address: '10.5.2.0',
      sent: 3,
      received: 2,
      averageMs: 3.609,
      error: '',
      refusedHere: false,
    });
    const refused = `PING 10.5.9.1 (10.5.9.1) 56(84) bytes of data.
From 10.5.0.0 icmp_seq=1 Destination Net Unreachable

--- 10.5.9.1 ping statistics ---
1 packets transmitted, 0 received, +1 errors, 100% packet loss, time 0ms
`;
    expect(parseEcho('10.5.9.1', 1, refused)).toMatchObject({ received: 0, error: 'Destination Net Unreachable' });
    const prohibited = refused.replace('Net Unreachable', 'Host Prohibited');
    const parse = (output: string) => parseEcho('10.5.9.1', 1, output, (address) => address === '10.5.0.0').refusedHere;
    expect(parse(prohibited)).toBe(true);
    expect(parse(refused)).toBe(false); // there is no route, or no neighbour
    expect(parse(prohibited.replace('From 10.5.0.0', 'From 10.5.9.0'))).toBe(false); // the peer's firewall
    expect(parse('ping: sendmsg: Operation not permitted')).toBe(true);
    expect(parseEcho('1.2.3.4', 3, 'ping: connect: Network is unreachable')).toMatchObject({
      sent: 3,
      received: 0,
      error: 'connect: Network is unreachable',
    });
  });
});

describe('the verdict', () => {
  const echo = (address: string, received: number) => ({
    address,
    sent: 3,
    received,
    averageMs: null,
    error: '',
    refusedHere: false,
  });
  const all: Observations = {
    peer: { subnet: '10.5.2.0/24', publicIp: '192.0.2.2' },
    device: 'flannel0',
    route: { device: 'flannel0', gateway: null },
    underlay: echo('192.0.2.2', 3),
    overlay: echo('10.5.2.0', 3),
    counted: { txPackets: 3, rxPackets: 3 },
    drops: {},
  };
  const lost = { overlay: echo('10.5.2.0', 0), counted: { txPackets: 3, rxPackets: 0 } };

  it.each<[string, Partial<Observations>, boolean, string]>([
    ['all is well', {}, true, 'the overlay works'],
    ['the host does not answer itself', { underlay: echo('192.0.2.2', 0) }, true, 'does not answer ICMP'],
    ['some are lost', { overlay: echo('10.5.2.0', 2) }, false, 'with losses'],
    ['there is no route', { ...lost, route: null }, false, 'no route'],
    ['another route wins', { ...lost, route: { device: 'tun9', gateway: null } }, false, 'by tun9 instead of flannel0'],
    [
      'packets are dropped here',
      { ...lost, counted: { txPackets: 0, rxPackets: 0 }, drops: { tx_no_route: 3 } },
      false,
      'tx_no_route',
    ],
    [
      'a rule of this host refuses them',
      {
        ...lost,
        counted: { txPackets: 0, rxPackets: 0 },
        overlay: { ...echo('10.5.2.0', 0), error: 'Destination Host Prohibited' },
      },
      false,
      'this host itself refuses the packets (Destination Host Prohibited)',
    ],
    [
      'a rule of this host refuses them, and the peer’s own address as well',
      {
        ...lost,
        underlay: { ...echo('192.0.2.2', 0), error: 'Packet filtered', refusedHere: true },
        overlay: { ...echo('10.5.2.0', 0), error: 'Packet filtered', refusedHere: true },
      },
      false,
      'this host itself refuses the packets (Packet filtered)',
    ],
    [
      'a rule of this host drops what the kernel would forward',
      {
        ...lost,
        counted: null,
        overlay: { ...echo('10.5.2.0', 0), error: 'sendmsg: Operation not permitted', refusedHere: true },
      },
      false,
      'this host itself refuses',
    ],
    ['the underlay is down', { ...lost, underlay: echo('192.0.2.2', 0) }, false, 'the underlay fails'],
    ['only the overlay is down', lost, false, 'the overlay fails though the underlay works'],
    [
      'only the overlay is down and the kernel forwards',
      { ...lost, counted: null, device: 'flannel.1', route: { device: 'flannel.1', gateway: '10.5.2.0' } },
      false,
      'no answer came',
    ],
    [
      'a direct route fails that vxlan made',
      { ...lost, counted: null, device: 'flannel.1', route: { device: 'eth0', gateway: '192.0.2.2' } },
      false,
      'no answer came',
    ],
    ['the container is down', { ...lost, counted: { txPackets: 3, rxPackets: 1 } }, false, 'may not exist'],
  ])('when %s', (_, change, ok, verdict) => {
    expect(judge({ ...all, ...change })).toEqual({ ok, verdict: expect.stringContaining(verdict) });
  });

  it('is printed with what it rests on', () => {
    expect(renderPing({ ...all, ok: true, verdict: 'fine', drops: { rx_short: 1 } })).toBe(`\
peer      10.5.2.0/24 at 192.0.2.2
route     10.5.2.0 by flannel0, overlay device flannel0
underlay  192.0.2.2: 3 of 3 came back
overlay   10.5.2.0: 3 of 3 came back
counted   3 packets to the peer, 3 from it; dropped: 1 rx_short
fine
`);
    expect(renderPing({ ...all, ok: true, verdict: 'fine', counted: null })).toContain(
      'counted   not by peer, since the kernel forwards\n',
    );
  });
});
