import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { removeFormerDevices, removeFormerRoutes } from '../../../src/backend/kernel/former-life.js';
import type { RouteOwnership } from '../../../src/routes/route-table.js';
import type { Lease } from '../../../src/subnet/lease.js';
import { families, type TestFamily } from '../../support/families.js';
import {
  address,
  type Host,
  introduce,
  inventedPeers,
  leaseOf,
  leasesOf,
  makeNetwork,
  type Network,
  prefix,
  publicAddress,
  remembered,
  tell,
} from './network.js';

const hostGw = { Type: 'host-gw' };
const vxlan = { Type: 'vxlan' };
let network: Network;
let hosts: readonly [Host, Host, Host];

/** A network for each test of a group. */
function useNetwork(family?: TestFamily): void {
  beforeEach(async () => {
    network = await makeNetwork(family);
    ({ hosts } = network);
  });
  afterEach(() => network.remove());
}

async function startAll(member: Parameters<Host['start']>[0] = hostGw): Promise<void> {
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

const toSecond = '10.5.2.0/24 via 192.0.2.2 dev eth0 proto 84';
const toThird = '10.5.3.0/24 via 192.0.2.3 dev eth0 proto 84';

describe('three hosts', () => {
  useNetwork();

  it('reach each other by plain routes, with the whole MTU', async () => {
    await startAll();
    await expectFullMesh();
    const [first] = hosts;
    expect(await first.routes()).toEqual([toSecond, toThird]);
    expect(first.backend?.mtu).toBe(1500);
    expect(first.backend?.status()).toMatchObject({
      type: 'host-gw',
      device: 'eth0',
      peers: [{ subnet: '10.5.2.0/24', publicIp: '192.0.2.2', txPackets: null }, { subnet: '10.5.3.0/24' }],
      totals: { underlay_tx_packets: expect.any(Number) },
    });
    expect(first.backend?.status().totals.underlay_tx_packets).toBeGreaterThan(0);
    expect(hosts.flatMap(({ warnings }) => warnings)).toEqual([]);
  });

  it('follow a peer to another address', async () => {
    await startAll();
    const [first, second] = hosts;
    const old = second.lease as Lease;
    await second.ip('address', 'add', '192.0.2.77/24', 'dev', 'eth0');
    const moved: Lease = { ...old, attributes: { ...old.attributes, publicIp: address('192.0.2.77') } };
    await tell(first, [...leasesOf([hosts[2]]), moved]);
    expect(await first.routes()).toEqual(['10.5.2.0/24 via 192.0.2.77 dev eth0 proto 84', toThird]);
    expect(await first.reaches(second)).toBe(true);
  });

  it('are two thousand in three processes', async () => {
    const [first] = hosts;
    await first.start(hostGw);
    first.started.length = 0;
    const peers = inventedPeers(2000, () => ({ backendType: 'host-gw' }));
    await tell(first, []);
    first.started.length = 0;
    await tell(first, peers);
    expect(first.started).toHaveLength(3);
    expect(await first.routes()).toHaveLength(2000);
    first.started.length = 0;
    expect(await tell(first, peers)).toEqual([]);
    expect(first.started).toHaveLength(2);
  });
});

describe.each(families)('three hosts with IPv$family', (family) => {
  const { say } = family;
  useNetwork(family);

  it.each([
    ['a route removed', ['route del 10.5.2.0/24']],
    ['all routes flushed', ['route flush root 10.5.0.0/16 proto 84']],
    ['a route bent', ['route replace 10.5.2.0/24 via 192.0.2.3 dev eth0']],
    // by IPv6 the kernel forgets the address with it
    ['the link down and up again', ['link set eth0 down', 'link set eth0 up', 'address replace 192.0.2.1/24 dev eth0']],
  ])('get back %s', async (_name, vandalism) => {
    await startAll();
    const [first] = hosts;
    for (const command of vandalism) await first.ip(...command.split(' '));
    expect((await introduce(first, hosts)).length).toBeGreaterThan(0);
    expect(await introduce(first, hosts)).toEqual([]);
    expect(await first.routes()).toEqual(say([toSecond, toThird]));
    await expectFullMesh();
  });

  it('keep their routes while a daemon is dead; a new one removes those that no lease backs, and only those', async () => {
    await startAll();
    const [first, second] = hosts;
    const foreign = [
      '10.5.99.0/25 via 192.0.2.3 dev eth0',
      '10.5.98.0/24 via 192.0.2.3 dev eth0 metric 50',
      '10.5.97.0/24 via 192.0.2.3 dev eth0 proto static',
      '10.6.96.0/24 via 192.0.2.3 dev eth0',
    ];
    for (const route of foreign) await first.ip('route', 'add', ...route.split(' '));
    // As flannel makes them: the second host's, and one of a host that is gone.
    await first.ip('route', 'replace', '10.5.2.0/24', 'via', '192.0.2.2', 'dev', 'eth0');
    await first.ip('route', 'add', '10.5.95.0/24', 'via', '192.0.2.95', 'dev', 'eth0');

    await first.start(hostGw, {}, remembered(leasesOf([second])));
    expect(await first.backend?.setPeers(remembered(leasesOf([second])))).toEqual([]);
    await expectFullMesh();
    expect(await introduce(first, [second])).toEqual([]);
    const kept = [
      toSecond,
      '10.5.97.0/24 via 192.0.2.3 dev eth0 proto static',
      '10.5.98.0/24 via 192.0.2.3 dev eth0 metric 50',
      '10.5.99.0/25 via 192.0.2.3 dev eth0',
    ];
    expect(await first.routes()).toEqual(say(kept));
    expect(await first.ip('route', 'show', '10.6.96.0/24')).toContain(say('192.0.2.3'));
    // From now on only what is marked as ours is ours.
    await first.ip('route', 'add', '10.5.95.0/24', 'via', '192.0.2.95', 'dev', 'eth0');
    expect(await introduce(first, [second])).toEqual([]);
    await first.backend?.stop({ cleanUp: true });
    expect(await first.routes()).toHaveLength(4);
    expect(await first.routes()).not.toContain(say(toSecond));
  });

  it('refuse a peer that is not on the link, without harm to the others, until it is', async () => {
    const [first, second] = hosts;
    await first.start(hostGw);
    await second.start(hostGw);
    const attributes = { ...publicAddress(family, '203.0.113.9'), backendType: 'host-gw' };
    const far = leaseOf(family, '10.5.9.0/24', attributes);
    const look = () => tell(first, [far, second.lease as Lease]);
    await look();
    await introduce(second, [first]);
    expect(await first.routes()).toEqual(say([toSecond]));
    expect(await first.reaches(second)).toBe(true);
    await look();
    await first.ip('route', 'add', '203.0.113.0/24', 'via', '192.0.2.3');
    await look();
    const told = [
      '10.5.9.0/24: peer refused: 203.0.113.9 cannot be reached (Network is unreachable)',
      'behind the router 192.0.2.3, not on the link of eth0; host-gw needs all hosts on one link',
    ];
    expect(first.warnings).toEqual(say(told).map((text) => expect.stringContaining(text)));
    const { peers, refused } = first.backend?.status() ?? {};
    expect(peers).toMatchObject(say([{ subnet: '10.5.2.0/24' }]));
    expect(refused).toMatchObject(say([{ subnet: '10.5.9.0/24', publicIp: '203.0.113.9' }]));
    expect(refused?.[0]?.reason).toMatch(/behind the router/);
    await first.ip('route', 'replace', '203.0.113.0/24', 'dev', 'eth0');
    expect(await look()).toEqual([]);
    expect(await first.routes()).toEqual(say([toSecond, '10.5.9.0/24 via 203.0.113.9 dev eth0 proto 84']));
    expect(first.backend?.status().refused).toEqual([]);
    await first.ip('route', 'del', '203.0.113.0/24');
    expect(await look()).toEqual([]);
    expect(await first.routes()).toEqual(say([toSecond]));
  });

  it("leave a foreign route in a peer's place, and say so once", async () => {
    const [first, second] = hosts;
    await first.ip('route', 'add', '10.5.2.0/24', 'dev', 'br0');
    await first.start(hostGw);
    await second.start(hostGw);
    await introduce(first, [second]);
    await introduce(first, [second]);
    const told = ['10.5.2.0/24: peer refused: a route through br0 is there already; remove it'];
    expect(first.warnings).toEqual(say(told));
    expect(await first.ip('route', 'show', '10.5.2.0/24')).toContain('dev br0');
    expect(first.backend?.status().peers).toEqual([]);
  });

  it('go from host-gw to vxlan, and their routes into the tunnel', async () => {
    await startAll();
    await startAll(vxlan);
    const [first] = hosts;
    const tunnelled = [
      '10.5.2.0/24 via 10.5.2.0 dev flannel.1 proto 84 onlink',
      '10.5.3.0/24 via 10.5.3.0 dev flannel.1 proto 84 onlink',
    ];
    expect(await first.routes()).toEqual(say(tunnelled));
    await expectFullMesh();
  });
});

describe('after a change of the backend type', () => {
  useNetwork();
  const ownership: RouteOwnership = {
    networks: [prefix('10.5.0.0/16')],
    ownDevice: null,
    underlay: 'eth0',
    subnetLength: 24,
  };
  const devices = (host: Host) => host.ip('-brief', 'link', 'show', 'type', 'vxlan');

  it('from vxlan, host by host, no device stays, and another overlay keeps its own', async () => {
    await startAll({ Type: 'vxlan', VNI: 7 });
    const [first, second] = hosts;
    const other = 'link add flannel.9 type vxlan id 9 dev eth0 dstport 8472';
    await first.ip(...other.split(' '));
    await first.ip('address', 'add', '10.66.1.0/32', 'dev', 'flannel.9');
    for (const host of hosts) await host.start(hostGw);
    await introduce(first, [second]);
    await introduce(second, [first]);
    expect((await devices(first)).match(/^\S+/gm)).toEqual(['flannel.9']);
    expect(await devices(second)).toBe('');
    expect(await first.routes()).toEqual([toSecond]);
    expect(await first.reaches(second)).toBe(true);
  });

  it('of the VNI, the former device goes', async () => {
    await startAll(vxlan);
    await startAll({ Type: 'vxlan', VNI: 2 });
    const [first] = hosts;
    expect((await devices(first)).match(/^\S+/gm)).toEqual(['flannel.2']);
    await expectFullMesh();
  });

  it('and of the network, what is left of the former one goes', async () => {
    await startAll();
    const [first] = hosts;
    await first.ip('route', 'add', '10.6.3.0/24', 'via', '192.0.2.3', 'dev', 'eth0', 'proto', '84');
    await first.start(hostGw, { formerNetworks: [prefix('10.6.0.0/16')] });
    await introduce(first, hosts);
    expect(await first.ip('route', 'show', 'root', '10.6.0.0/16')).toBe('');
    // From now on it may be another overlay's.
    await first.ip('route', 'add', '10.6.3.0/24', 'via', '192.0.2.3', 'dev', 'eth0', 'proto', '84');
    expect(await introduce(first, hosts)).toEqual([]);
    expect(await first.ip('route', 'show', 'root', '10.6.0.0/16')).toContain('192.0.2.3');
    expect(await first.routes()).toEqual([toSecond, toThird]);
  });

  it('to udp, devices and routes go that would win over its own route', async () => {
    await startAll({ ...vxlan, DirectRouting: true });
    const [first] = hosts;
    await first.ip('route', 'add', '10.5.95.0/24', 'via', '192.0.2.95', 'dev', 'eth0');
    await first.ip('route', 'add', '10.5.0.0/16', 'dev', 'br0');
    expect(await removeFormerDevices(ownership, first.kernel)).toEqual([
      'removed flannel.1, which the vxlan backend had left behind',
    ]);
    expect(await removeFormerRoutes(ownership, first.kernel)).toHaveLength(3);
    expect(await first.ip('route', 'show', 'root', '10.5.0.0/16')).not.toContain('via');
    expect(await first.ip('route', 'show', '10.5.0.0/16')).toContain('dev br0');
  });
});
