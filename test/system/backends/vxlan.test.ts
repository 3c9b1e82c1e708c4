import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Lease, subnetName } from '../../../src/subnet/lease.js';
import { parseNetworkConfig } from '../../../src/subnet/network-config/config.js';
import { families, type TestFamily } from '../../support/families.js';
import {
  address,
  type Host,
  introduce,
  inventedPeers,
  leasesOf,
  makeNetwork,
  type Network,
  remembered,
  tell,
} from './network.js';

const vxlan = { Type: 'vxlan' };
let hosts: readonly [Host, Host, Host];

/** A network for each test, or one for all tests of a group. */
function useNetwork(
  before: typeof beforeEach | typeof beforeAll,
  after: typeof afterEach | typeof afterAll,
  family?: TestFamily,
): void {
  let network: Network;
  before(async () => {
    network = await makeNetwork(family);
    ({ hosts } = network);
  });
  after(() => network.remove());
}

async function startAll(member: Parameters<Host['start']>[0] = vxlan): Promise<void> {
  for (const host of hosts) await host.start(member);
  for (const host of hosts) await introduce(host, hosts);
}

async function expectFullMesh(): Promise<void> {
  const pairs = hosts.flatMap((from) => hosts.filter((to) => to !== from).map((to) => ({ from, to })));
  const reached = await Promise.all(pairs.map(({ from, to }) => from.reaches(to)));
  expect(pairs.filter((_, index) => !reached[index]).map(({ from, to }) => `${from.number} to ${to.number}`)).toEqual(
    [],
  );
}

function macOf({ lease }: Host): string {
  const data = lease?.attributes.backendData ?? lease?.attributes.backendV6Data;
  return (data as { readonly VtepMAC: string } | undefined)?.VtepMAC ?? 'none';
}
const link = async (host: Host) =>
  JSON.parse(await host.ip('-json', '-details', 'address', 'show', 'dev', 'flannel.1'))[0];
const everything = async (host: Host) => ({
  routes: await host.routes(),
  neighbours: await host.neighbours(),
  forwarding: await host.forwarding(),
});

describe('three hosts', () => {
  useNetwork(beforeEach, afterEach);

  it('reach each other through a device as flannel makes it, and count packets', async () => {
    await startAll();
    await expectFullMesh();
    const [first, second, third] = hosts;
    expect(await link(first)).toMatchObject({
      mtu: 1450,
      address: macOf(first),
      linkinfo: {
        info_kind: 'vxlan',
        info_data: { id: 1, link: 'eth0', local: '192.0.2.1', port: 8472, learning: false },
      },
      addr_info: expect.arrayContaining([
        expect.objectContaining({ local: '10.5.1.0', prefixlen: 32, scope: 'global' }),
      ]),
    });
    expect(await everything(first)).toEqual({
      routes: [
        '10.5.2.0/24 via 10.5.2.0 dev flannel.1 proto 84 onlink',
        '10.5.3.0/24 via 10.5.3.0 dev flannel.1 proto 84 onlink',
      ],
      neighbours: expect.arrayContaining([
        `10.5.2.0 lladdr ${macOf(second)} PERMANENT`,
        `10.5.3.0 lladdr ${macOf(third)} PERMANENT`,
      ]),
      forwarding: [
        `${macOf(second)} dst 192.0.2.2 self permanent`,
        `${macOf(third)} dst 192.0.2.3 self permanent`,
      ].sort(),
    });
    const status = first.backend?.status();
    expect(status).toMatchObject({ type: 'vxlan', device: 'flannel.1', mtu: 1450, drops: { host_udp_checksum: 0 } });
    expect(status?.peers.map(({ subnet, publicIp }) => [subnet, publicIp])).toEqual([
      ['10.5.2.0/24', '192.0.2.2'],
      ['10.5.3.0/24', '192.0.2.3'],
    ]);
    expect(status?.totals.tx_packets).toBeGreaterThanOrEqual(4);
    expect(hosts.flatMap(({ warnings }) => warnings)).toEqual([]);
  });

  it('have their peers in place as soon as they are up, and lose none that is only remembered', async () => {
    await startAll();
    const [first, second, third] = hosts;
    const before = await everything(first);
    await first.ip('link', 'del', 'flannel.1');
    await first.start(vxlan, {}, { leases: leasesOf([second, third]), complete: true });
    expect(await everything(first)).toEqual(before);
    await first.start(vxlan, {}, remembered(leasesOf([third])));
    expect(await everything(first)).toEqual(before);
    await expectFullMesh();
  });

  it('of two networks keep out of each other’s way', async () => {
    const other = { config: parseNetworkConfig('{"Network":"10.6.0.0/16","Backend":{"Type":"vxlan","VNI":2}}') };
    await startAll();
    const [first, second] = hosts;
    const one = { leases: leasesOf([second]), complete: true };
    const before = await link(first);
    const rival = first.make(vxlan, other);
    const lease: Lease = {
      subnet: { address: address('10.6.1.0'), length: 24 },
      subnetV6: null,
      attributes: await rival.attributes(),
      expiresAt: null,
    };
    await rival.start(lease, { leases: [], complete: true });
    await first.start(vxlan, {}, one);
    expect(await rival.setPeers({ leases: [], complete: true })).toEqual([]);
    expect(await first.backend?.setPeers(one)).toEqual([]);
    expect((await link(first)).ifindex).toBe(before.ifindex);
    expect(await first.ip('-brief', 'address', 'show', 'dev', 'flannel.2')).toContain('10.6.1.0/32');
    expect(await first.reaches(second)).toBe(true);
  });

  it('that were told of no peer at all remove what is left of former ones', async () => {
    await startAll();
    const [first] = hosts;
    await first.start(vxlan);
    await tell(first, []);
    expect(await everything(first)).toEqual({ routes: [], neighbours: [], forwarding: [] });
  });

  it('follow a peer to another MAC and to another address, and forget it', async () => {
    await startAll();
    const [first, second] = hosts;
    const old = second.lease as Lease;
    await second.ip('link', 'del', 'flannel.1');
    const data = { VNI: 1, VtepMAC: '02:00:00:00:00:77' };
    await second.ip('address', 'add', '192.0.2.77/24', 'dev', 'eth0');
    const fresh: Lease = {
      ...old,
      attributes: { ...old.attributes, publicIp: address('192.0.2.77'), backendData: data },
    };
    const underlay = {
      name: 'eth0',
      index: 2,
      address: address('192.0.2.77'),
      prefixLength: 24,
      ipv6: null,
      mtu: 1500,
    };
    second.backend = second.make(vxlan, { underlay, publicIp: underlay.address });
    // a lease that goes on, as from the cache: the MAC in it is kept
    await second.backend.start(fresh, remembered(leasesOf([first])));
    expect((await link(second)).address).toBe('02:00:00:00:00:77');
    await introduce(second, hosts);
    await tell(first, [...leasesOf([hosts[2]]), fresh]);
    expect(await first.neighbours()).toContain('10.5.2.0 lladdr 02:00:00:00:00:77 PERMANENT');
    expect(await first.forwarding()).toContain('02:00:00:00:00:77 dst 192.0.2.77 self permanent');
    expect(await first.forwarding()).toHaveLength(2);
    expect(await first.reaches(second)).toBe(true);
    await tell(first, leasesOf([hosts[2]]));
    expect(await everything(first)).toEqual({
      routes: ['10.5.3.0/24 via 10.5.3.0 dev flannel.1 proto 84 onlink'],
      neighbours: [`10.5.3.0 lladdr ${macOf(hosts[2])} PERMANENT`],
      forwarding: [`${macOf(hosts[2])} dst 192.0.2.3 self permanent`],
    });
  });

  it('are not disturbed by leases that are none of theirs', async () => {
    const [first, second] = hosts;
    await first.start(vxlan);
    await second.start(vxlan);
    const [empty, wrong, twin] = inventedPeers(3, () => ({})) as [Lease, Lease, Lease];
    const withType = (lease: Lease, backendType: string, backendData?: unknown): Lease => ({
      ...lease,
      attributes: { ...lease.attributes, backendType, ...(backendData !== undefined && { backendData }) },
    });
    const strangers = [
      withType(empty, 'vxlan'),
      withType(wrong, 'vxlan', { VNI: 1, VtepMAC: 'nonsense' }),
      withType(twin, 'vxlan', first.lease?.attributes.backendData),
    ];
    const leases = [...strangers, second.lease as Lease];
    await tell(first, leases);
    await introduce(second, [first]);
    expect(await first.reaches(second)).toBe(true);
    expect(await first.routes()).toHaveLength(1);
    expect(first.backend?.status().peers).toHaveLength(1);
    expect(first.backend?.status().refused.map(({ subnet }) => subnet)).toEqual([
      '10.5.10.0/28',
      '10.5.10.16/28',
      '10.5.10.32/28',
    ]);
    await tell(first, leases);
    expect(first.warnings).toEqual([
      '10.5.10.0/28: peer refused: its lease has no BackendData with a VtepMAC',
      '10.5.10.16/28: peer refused: "nonsense" in its lease is no MAC address of a host',
      expect.stringMatching(/^10\.5\.10\.32\/28: peer refused: its VtepMAC is this host’s own/),
    ]);
  });
});

describe.each(families)('three hosts with IPv$family', (family) => {
  const { say } = family;
  useNetwork(beforeEach, afterEach, family);

  it('go on while a daemon is dead, and a new one finds everything as it is', async () => {
    await startAll();
    const [first, second, third] = hosts;
    const before = { device: await link(first), ...(await everything(first)) };
    // What flannel would have made of the third host, which goes while nobody looks; and what somebody else made.
    const entry = 'bridge fdb add 02:ff:00:00:00:01 dev flannel.1 dst 192.0.2.77 self permanent';
    await first.run(say(entry).split(' '));
    for (const command of [
      'route add 198.51.100.0/24 dev flannel.1',
      'neigh add 198.51.100.1 lladdr 02:ff:00:00:00:02 dev flannel.1 nud permanent',
      'address add 198.51.100.9/32 dev flannel.1',
    ]) {
      await first.ip(...command.split(' '));
    }

    await first.start(vxlan, {}, remembered(leasesOf([second])));
    expect(await first.backend?.setPeers(remembered(leasesOf([second])))).toEqual([]);
    expect((await link(first)).ifindex).toBe(before.device.ifindex);
    expect(await first.routes()).toEqual(before.routes);
    await expectFullMesh();

    await introduce(first, [second]);
    expect(await first.routes()).toEqual(say(['10.5.2.0/24 via 10.5.2.0 dev flannel.1 proto 84 onlink']));
    expect(await first.neighbours()).toEqual(
      say([`10.5.2.0 lladdr ${macOf(second)} PERMANENT`, '198.51.100.1 lladdr 02:ff:00:00:00:02 PERMANENT']).sort(),
    );
    expect(await first.forwarding()).toEqual(
      say(['02:ff:00:00:00:01 dst 192.0.2.77 self permanent', `${macOf(second)} dst 192.0.2.2 self permanent`]).sort(),
    );
    expect(await first.ip('route', 'show', 'dev', 'flannel.1')).toContain(say('198.51.100.0/24'));
    expect(await first.ip('address', 'show', 'dev', 'flannel.1')).toContain(say('198.51.100.9/32'));
    expect([await first.reaches(second), await first.reaches(third)]).toEqual([true, false]);
  });
});

describe.each(families)('what was done by hand to IPv$family', (family) => {
  useNetwork(beforeAll, afterAll, family);
  beforeAll(() => startAll());

  it.each([
    ['the address removed', 'address del 10.5.1.0/32 dev flannel.1'],
    ['all addresses flushed', 'address flush dev flannel.1'],
    ['a route removed', 'route del 10.5.2.0/24'],
    ['all routes flushed', 'route flush dev flannel.1'],
    ['a route bent', 'route replace 10.5.2.0/24 via 192.0.2.3 dev eth0'],
    ['the neighbours flushed', 'neigh flush dev flannel.1 nud permanent'],
    ['a neighbour changed', 'neigh replace 10.5.2.0 lladdr 02:00:00:00:00:99 dev flannel.1 nud permanent'],
    ['a forwarding entry removed', 'fdb'],
    ['the MTU changed', 'link set flannel.1 mtu 1300'],
    ['the MAC changed', 'link set flannel.1 address 02:00:00:00:00:98'],
    ['the device set down', 'link set flannel.1 down'],
    ['the device removed', 'link del flannel.1'],
  ])('%s: is put right', async (_name, vandalism) => {
    const [first, second] = hosts;
    const before = await everything(first);
    if (vandalism === 'fdb')
      await first.run(family.say(['bridge', 'fdb', 'del', macOf(second), 'dev', 'flannel.1', 'self']));
    else await first.ip(...vandalism.split(' '));
    expect((await introduce(first, hosts)).length).toBeGreaterThan(0);
    expect(await introduce(first, hosts)).toEqual([]);
    expect(await everything(first)).toEqual(before);
    expect((await link(first)).address).toBe(macOf(first));
    expect(await first.reaches(second)).toBe(true);
    expect(first.warnings).toEqual([]);
  });
});

describe('a device that is there', () => {
  useNetwork(beforeEach, afterEach);

  it('with another port is made anew, and keeps its MAC', async () => {
    const [first] = hosts;
    await first.start(vxlan);
    const mac = macOf(first);
    const { ifindex } = await link(first);
    await first.start({ Type: 'vxlan', Port: 4789, GBP: true, Learning: true });
    const after = await link(first);
    expect(after).toMatchObject({ address: mac, linkinfo: { info_data: { port: 4789, gbp: true, learning: true } } });
    expect(after.ifindex).not.toBe(ifindex);
    await first.start({ Type: 'vxlan', Port: 4789, GBP: true });
    expect(await link(first)).toMatchObject({ ifindex: after.ifindex, linkinfo: { info_data: { learning: false } } });
    expect(macOf(first)).toBe(mac);
  });

  it('is kept with its MAC when flanneld made it', async () => {
    const [first] = hosts;
    const made =
      'link add flannel.1 address c6:d2:32:6f:8f:44 type vxlan id 1 dev eth0 local 192.0.2.1 dstport 8472 nolearning';
    await first.ip(...made.split(' '));
    await first.ip('address', 'add', '10.5.9.0/32', 'dev', 'flannel.1');
    const { ifindex } = await link(first);
    await first.start(vxlan);
    expect(macOf(first)).toBe('c6:d2:32:6f:8f:44');
    expect(await link(first)).toMatchObject({ ifindex, addr_info: [{ local: '10.5.1.0' }, { family: 'inet6' }] });
  });

  it('or was there, gives its MAC to the next one', async () => {
    const [first] = hosts;
    await first.start(vxlan);
    const mac = macOf(first);
    await first.backend?.stop({ cleanUp: true });
    await first.start(vxlan);
    expect(macOf(first)).toBe(mac);
  });

  it('but is no VXLAN device is left alone and named', async () => {
    const [first] = hosts;
    await first.ip('link', 'add', 'flannel.1', 'type', 'bridge');
    await expect(first.start(vxlan)).rejects.toThrow(
      /flannel\.1 is there, but no VXLAN device; remove it with: ip link del/,
    );
    expect((await link(first)).linkinfo.info_kind).toBe('bridge');
  });

  it('and has our VNI under another name is named, and nothing is left', async () => {
    const [first] = hosts;
    const rival = 'link add rival type vxlan id 1 dev eth0 local 192.0.2.1 dstport 8472 nolearning';
    await first.ip(...rival.split(' '));
    await expect(first.start(vxlan)).rejects.toThrow(/VNI already exists; find the other device with VNI 1/);
    await expect(link(first)).rejects.toThrow(/does not exist/);
  });

  it('goes with everything on it when clean-up is asked for, and else stays', async () => {
    await startAll();
    const [first] = hosts;
    await first.backend?.stop({ cleanUp: false });
    expect((await first.routes()).length).toBe(2);
    await first.start(vxlan);
    await first.backend?.stop({ cleanUp: true });
    expect(await first.routes()).toEqual([]);
    await expect(link(first)).rejects.toThrow(/does not exist/);
  });
});

describe.each(families)('with DirectRouting by IPv$family', (family) => {
  const { say } = family;
  useNetwork(beforeEach, afterEach, family);

  it('a peer on the same link gets a plain route, for as long as it is there', async () => {
    await startAll({ Type: 'vxlan', DirectRouting: true });
    await expectFullMesh();
    const [first] = hosts;
    const direct = say(['10.5.2.0/24 via 192.0.2.2 dev eth0 proto 84', '10.5.3.0/24 via 192.0.2.3 dev eth0 proto 84']);
    expect(await everything(first)).toEqual({ routes: direct, neighbours: [], forwarding: [] });
    await first.ip('route', 'add', '192.0.2.3/32', 'via', '192.0.2.2');
    await introduce(first, hosts);
    expect(await first.routes()).toEqual([direct[0], say('10.5.3.0/24 via 10.5.3.0 dev flannel.1 proto 84 onlink')]);
    expect(await first.forwarding()).toEqual([`${macOf(hosts[2])} dst ${say('192.0.2.3')} self permanent`]);
    await first.ip('route', 'del', '192.0.2.3/32');
    await introduce(first, hosts);
    expect(await everything(first)).toEqual({ routes: direct, neighbours: [], forwarding: [] });
    await first.backend?.stop({ cleanUp: true });
    expect(await first.routes()).toEqual([]);
  });
});

describe('two thousand peers', () => {
  useNetwork(beforeEach, afterEach);

  it('are set up, restored and removed in a few processes each time', async () => {
    const [first] = hosts;
    await first.start(vxlan);
    const mac = (index: number) =>
      `02:00:00:00:${(index >> 8).toString(16).padStart(2, '0')}:${(index & 255).toString(16).padStart(2, '0')}`;
    const peers = inventedPeers(2000, (index) => ({
      backendType: 'vxlan',
      backendData: { VNI: 1, VtepMAC: mac(index) },
    }));
    const counts = async () => [
      (await first.routes()).length,
      (await first.neighbours()).length,
      (await first.forwarding()).length,
    ];
    await tell(first, []);
    first.started.length = 0;
    await tell(first, peers);
    expect(first.started.length).toBeLessThanOrEqual(6);
    expect(await counts()).toEqual([2000, 2000, 2000]);
    expect(await tell(first, peers)).toEqual([]);
    await first.ip('link', 'del', 'flannel.1');
    first.started.length = 0;
    expect(await tell(first, peers)).toEqual(['made flannel.1', 'gave flannel.1 its 2000 peers']);
    expect(first.started.length).toBeLessThanOrEqual(10);
    expect(await counts()).toEqual([2000, 2000, 2000]);
    await tell(first, peers.slice(0, 1));
    expect(await counts()).toEqual([1, 1, 1]);
    expect(await first.routes()).toEqual([expect.stringContaining(subnetName(peers[0] as Lease))]);
    expect(first.warnings).toEqual([]);
  });
});
