import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { BackendStatus } from '../../../src/backend/backend.js';
import { ExecError } from '../../../src/base/exec.js';
import type { DaemonStatus } from '../../../src/observe/status.js';
import { parseHosts } from '../../../src/operator/host-names.js';
import { type Echo, parseEcho } from '../../../src/operator/ping/echo.js';
import { largestPassing } from '../../../src/operator/ping/path-mtu.js';
import { renderMatrix, renderPing } from '../../../src/operator/ping/ping-text.js';
import { endOf, findTarget, resolveTarget } from '../../../src/operator/ping/target.js';
import { judge, type Observations } from '../../../src/operator/ping/verdict.js';
import { daemonStatus } from './status.js';

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

const status: DaemonStatus = daemonStatus({
  network: '10.5.0.0/16',
  lease: {
    subnet: '10.5.1.0/24',
    subnetV6: null,
    publicIp: '192.0.2.1',
    publicIpv6: null,
    expiresAt: null,
    secondsLeft: null,
    fromCache: false,
  },
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
});

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
64 bytes from 10.5.2.0: icmp_seq=3 ttl=62 time=0.842 ms
64 bytes from 10.5.2.0: icmp_seq=3 ttl=62 time=1.842 ms (DUP!)

--- 10.5.2.0 ping statistics ---
3 packets transmitted, 2 received, +1 duplicates, 33% packet loss, time 402ms
rtt min/avg/max/mdev = 0.842/3.609/6.377/2.767 ms
`;
    expect(parseEcho('10.5.2.0', 84, 3, answered)).toMatchObject({
      address: '10.5.2.0',
      bytes: 84,
      sent: 3,
      received: 2,
      minimumMs: 1.842,
      averageMs: 4.111,
      maximumMs: 6.38,
      probes: [
        { number: 1, milliseconds: 6.38, ttl: 62 },
        { number: 2, milliseconds: null, ttl: null },
        { number: 3, milliseconds: 1.842, ttl: 62 },
      ],
      error: '',
      announcedMtu: null,
      refusedHere: false,
      unable: false,
    });
    const refused = `PING 10.5.9.1 (10.5.9.1) 56(84) bytes of data.
From 10.5.0.0 icmp_seq=1 Destination Net Unreachable

--- 10.5.9.1 ping statistics ---
1 packets transmitted, 0 received, +1 errors, 100% packet loss, time 0ms
`;
    expect(parseEcho('10.5.9.1', 84, 1, refused)).toMatchObject({ received: 0, error: 'Destination Net Unreachable' });
    const prohibited = refused.replace('Net Unreachable', 'Host Prohibited');
    const parse = (output: string) => parseEcho('10.5.9.1', 84, 1, output, (own) => own === '10.5.0.0').refusedHere;
    expect(parse(prohibited)).toBe(true);
    expect(parse(refused)).toBe(false); // there is no route, or no neighbour
    expect(parse(prohibited.replace('From 10.5.0.0', 'From 10.5.9.0'))).toBe(false); // the peer's firewall
    expect(parse('ping: sendmsg: Operation not permitted')).toBe(true);
    expect(parseEcho('1.2.3.4', 84, 3, 'ping: connect: Network is unreachable')).toMatchObject({
      sent: 3,
      received: 0,
      error: 'connect: Network is unreachable',
    });
  });

  it.each([
    ['From 192.0.2.254 icmp_seq=1 Frag needed and DF set (mtu = 1400)', 1400],
    ['ping: local error: message too long, mtu=1372', 1372],
    ['ping: sendmsg: Message too long\nping: local error: message too long, mtu: 1280', 1280],
    ['From fd00::1 icmp_seq=1 Packet too big: mtu=1280', 1280],
  ])('tells the MTU that was announced: %s', (line, mtu) =>
    expect(parseEcho('10.5.2.0', 1472, 3, line).announcedMtu).toBe(mtu),
  );

  it('tells of a ping that cannot', () => {
    expect(parseEcho('10.5.2.0', 1472, 3, "ping: invalid option -- 'M'\n\nUsage").unable).toBe(true);
    expect(parseEcho('10.5.2.0', 1472, 3, 'ping: unrecognized option: M\nBusyBox v1.36').unable).toBe(true);
  });
});

describe('the largest packet that passes', () => {
  const search = async (low: number, high: number, limit: number, hint: number | null) => {
    const tried: number[] = [];
    const found = await largestPassing(low, high, hint, async (size) => {
      tried.push(size);
      return size <= limit;
    });
    return { found, tried };
  };

  it('is found, whatever it is', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(9000), fc.nat(9000), fc.option(fc.nat(9000)), async (a, b, hint) => {
        const [limit, high] = [84 + Math.min(a, b), 85 + Math.max(a, b)];
        const { found, tried } = await search(84, high, limit, hint);
        expect(found).toBe(limit);
        expect(tried.length).toBeLessThan(17);
      }),
    );
  });

  it('is asked for once where somebody said it', async () => {
    expect((await search(84, 1472, 1372, 1372)).tried).toEqual([1372, 1373]);
  });
});

describe('names of hosts', () => {
  it('are those of the hosts file', () => {
    const text =
      '127.0.0.1 localhost\n192.0.2.2\thost2.lan host2 # the second\n# 192.0.2.3 x\nfd00::2 six\n192.0.2.2 b\njunk y\n';
    expect([...parseHosts(text)]).toEqual([
      ['127.0.0.1', 'localhost'],
      ['192.0.2.2', 'host2.lan'],
      ['fd00::2', 'six'],
    ]);
  });

  it('are resolved by a program, for as long as anybody waits', async () => {
    const prints = (stdout: string) => async () => ({ status: 0, stdout, stderr: '' });
    expect(await resolveTarget('host2', prints('fd00::2 STREAM host2\n192.0.2.2  STREAM\n'))).toBe('192.0.2.2');
    expect(await resolveTarget('10.5.2.0/24', prints(''))).toBe('10.5.2.0/24');
    await expect(resolveTarget('bogus', prints(''))).rejects.toThrow('bogus has no address');
    await expect(resolveTarget('-x', prints(''))).rejects.toThrow('-x is no name');
    const hangs = async (argv: readonly string[]) => {
      throw new ExecError(argv, { status: 128, stdout: '', stderr: '' }, 'ended by SIGKILL');
    };
    await expect(resolveTarget('slow', hangs)).rejects.toThrow('not resolved within 3 s');
  });
});

describe('the verdict', () => {
  const echo = (address: string, received: number, bytes = 84, more: Partial<Echo> = {}): Echo => ({
    address,
    bytes,
    sent: 3,
    received,
    minimumMs: null,
    averageMs: null,
    maximumMs: null,
    probes: [],
    error: '',
    announcedMtu: null,
    refusedHere: false,
    unable: false,
    ...more,
  });
  const half = (address: string, bytes: number, small: number, full: number, largest: number | null = null) => ({
    small: echo(address, small),
    full: echo(address, full, bytes),
    largest: largest ?? (full > 0 ? bytes : null),
  });
  const underlay = (small: number, full = small, largest: number | null = null) =>
    half('192.0.2.2', 1500, small, full, largest);
  const overlay = (small: number, full = small, largest: number | null = null) =>
    half('10.5.2.0', 1472, small, full, largest);
  const silent = (more: Partial<Echo>) => ({ ...overlay(0), small: echo('10.5.2.0', 0, 84, more) });
  const all: Observations = {
    peer: { subnet: '10.5.2.0/24', publicIp: '192.0.2.2' },
    device: 'flannel0',
    underlayDevice: 'eth0',
    port: 8285,
    route: { device: 'flannel0', gateway: null },
    underlay: underlay(3),
    overlay: overlay(3),
    knock: null,
    counted: { txPackets: 6, rxPackets: 6 },
    hasSession: null,
    drops: {},
  };
  const lost = { overlay: overlay(0), counted: { txPackets: 6, rxPackets: 0 } };
  const mend = 'ip link set dev eth0 mtu 1400';

  it.each<[string, Partial<Observations>, boolean, string]>([
    ['all is well', {}, true, 'the overlay works, also for full-size packets of 1472 bytes'],
    ['the host does not answer itself', { underlay: underlay(0) }, true, 'does not answer ICMP'],
    ['some are lost', { overlay: overlay(2) }, false, 'with losses'],
    ['some large ones are lost', { overlay: overlay(3, 1) }, false, 'with losses'],
    [
      'a ping cannot try',
      { overlay: { ...overlay(3), full: echo('', 0, 1472, { unable: true }) } },
      false,
      'could not be tried',
    ],
    [
      'the path carries less than the interface says',
      { overlay: overlay(3, 0, 1372), underlay: underlay(3, 0, 1400) },
      false,
      'carries 1400 bytes, where the MTU of eth0 says 1500',
    ],
    [
      'the same, and the peer answers no ICMP itself',
      { overlay: overlay(3, 0, 1372), underlay: underlay(0) },
      false,
      'carries 1400 bytes',
    ],
    [
      'large packets are lost by the overlay only',
      { overlay: overlay(3, 0, 1372) },
      false,
      'the underlay carries full-size packets',
    ],
    [
      'there is no session',
      { ...lost, hasSession: false, counted: { txPackets: 0, rxPackets: 0 }, drops: { tx_handshake_queue: 3 } },
      false,
      'answers no WireGuard handshake; UDP port 8285 is dropped by a firewall between, or the peer does not know this host',
    ],
    ['there is none, and nobody listens', { ...lost, hasSession: false, knock: 'refused' }, false, 'nothing listens'],
    ['there is one', { ...lost, hasSession: true, knock: 'silence' }, false, 'nothing came back from the peer'],
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
        overlay: silent({ error: 'Destination Host Prohibited' }),
      },
      false,
      'this host itself refuses the packets (Destination Host Prohibited)',
    ],
    [
      'a rule of this host refuses them, and the peer’s own address as well',
      {
        ...lost,
        underlay: { ...underlay(0), small: echo('192.0.2.2', 0, 84, { error: 'Packet filtered', refusedHere: true }) },
        overlay: silent({ error: 'Packet filtered', refusedHere: true }),
      },
      false,
      'this host itself refuses the packets (Packet filtered)',
    ],
    [
      'a rule of this host drops what the kernel would forward',
      {
        ...lost,
        counted: null,
        overlay: silent({ error: 'sendmsg: Operation not permitted', refusedHere: true }),
      },
      false,
      'this host itself refuses',
    ],
    ['the underlay is down', { ...lost, underlay: underlay(0) }, false, 'the underlay fails'],
    ['only the overlay is down', { ...lost, knock: 'silence' }, false, 'UDP port 8285 is dropped by a firewall'],
    ['the peer’s daemon is down', { ...lost, knock: 'refused' }, false, 'nothing listens at UDP port 8285'],
    ['a firewall rejects', { ...lost, knock: 'rejected' }, false, 'a firewall rejects UDP port 8285'],
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
    const judged = judge({ ...all, ...change });
    expect(judged).toMatchObject({ ok, verdict: expect.stringContaining(verdict) });
    if (verdict.includes('carries 1400')) expect(judged.fix).toBe(mend);
  });

  it('is printed with what it rests on', () => {
    const probes = [
      { number: 1, milliseconds: 0.3, ttl: 63 },
      { number: 2, milliseconds: null, ttl: null },
    ];
    const some = { ...echo('10.5.2.0', 1, 84, { probes }), sent: 2, minimumMs: 0.3, averageMs: 0.3, maximumMs: 0.3 };
    const report = {
      ...all,
      overlay: { ...overlay(3, 0, 1372), small: some },
      ok: true,
      verdict: 'fine',
      fix: 'do',
      drops: { rx_short: 1 },
    };
    expect(renderPing(report, new Map([['192.0.2.2', 'two']]))).toBe(`\
peer      10.5.2.0/24 at 192.0.2.2 (two)
route     10.5.2.0 by flannel0, overlay device flannel0
underlay  192.0.2.2, 84 bytes: 3 of 3 came back, 0 % lost
underlay  192.0.2.2, 1500 bytes: 3 of 3 came back, 0 % lost
overlay   10.5.2.0, 84 bytes: 1 of 2 came back, 50 % lost, 0.3/0.3/0.3 ms (least/average/most)
          84 bytes, 1: 0.3 ms, TTL 63
          84 bytes, 2: no answer
overlay   10.5.2.0, 1472 bytes: 0 of 3 came back, 100 % lost; the largest that passes has 1372
counted   6 packets to the peer, 6 from it; dropped: 1 rx_short
fine
        mend it: do
`);
    expect(renderPing({ ...report, counted: null, drops: {} })).toContain(
      'counted   not by peer, since the kernel forwards\n',
    );
    expect(renderMatrix([{ ...report, ok: false }])).toBe(`\
      subnet       public address  name  underlay  full size  overlay  full size  round trip
FAIL  10.5.2.0/24  192.0.2.2             3/3       3/3        1/2      0/3        0.3 ms
192.0.2.2: fine
        mend it: do
1 of 1 peer fails
`);
    expect(renderMatrix([])).toContain('there are no peers');
  });
});
