import { describe, expect, it } from 'vitest';
import { findContainers, type HostTables, struckOut } from '../../../src/kernel-path/containers.js';

const SUBNET = { address: 0x0a050100, length: 24 };
const MAC = '02:00:00:00:00:02';
const bridge = {
  ifindex: 3,
  ifname: 'br0',
  flags: ['UP', 'LOWER_UP'],
  qdisc: 'noqueue',
  address: '02:00:00:00:00:01',
  linkinfo: { info_kind: 'bridge', info_data: { vlan_filtering: 0 } },
};
const port = {
  ifindex: 7,
  ifname: 'vc',
  flags: ['BROADCAST', 'UP', 'LOWER_UP'],
  master: 'br0',
  qdisc: 'noqueue',
  address: '02:00:00:00:00:09',
  link_netnsid: 0,
  linkinfo: { info_kind: 'veth', info_slave_data: { state: 'forwarding' } },
};
const neighbour = { dst: '10.5.1.2', dev: 'br0', lladdr: MAC, state: ['STALE'] };
const entry = { mac: MAC, ifname: 'vc', master: 'br0', state: '' };
const tables: HostTables = { links: [bridge, port], neighbours: [neighbour], fdb: [entry] };
const found = (changes: Partial<HostTables> = {}) => findContainers({ ...tables, ...changes }, SUBNET);

describe('a container', () => {
  it('is found behind a bridge', () => {
    expect(found()).toEqual([
      {
        address: 0x0a050102,
        ifindex: 7,
        mac: Buffer.from([2, 0, 0, 0, 0, 2]),
        gatewayMac: Buffer.from([2, 0, 0, 0, 0, 1]),
        lladdr: MAC,
        port: 'vc',
        bridge: 3,
        bridgeName: 'br0',
      },
    ]);
  });

  it('is found on a link of its own', () => {
    const { master, ...own } = port;
    expect(found({ links: [own], neighbours: [{ ...neighbour, dev: 'vc' }], fdb: [] })).toMatchObject([
      { ifindex: 7, bridge: 0, gatewayMac: Buffer.from([2, 0, 0, 0, 0, 9]) },
    ]);
  });

  it('may have several addresses', () => {
    expect(found({ neighbours: [neighbour, { ...neighbour, dst: '10.5.1.3' }] })).toHaveLength(2);
  });

  it.each<[string, object, object]>([
    ['shapes traffic', { qdisc: 'htb' }, {}],
    [
      'lets nothing through to the port',
      {},
      { linkinfo: { info_kind: 'veth', info_slave_data: { state: 'blocking' } } },
    ],
    ['does not say what it does', {}, { linkinfo: { info_kind: 'veth' } }],
  ])('is found, and its packets pass the bridge, where that %s', (_, ofBridge, ofPort) => {
    expect(
      found({
        links: [
          { ...bridge, ...ofBridge },
          { ...port, ...ofPort },
        ],
      }),
    ).toMatchObject([{ ifindex: 7, bridge: 0, bridgeName: '' }]);
  });

  const link = (changes: object): Partial<HostTables> => ({ links: [bridge, { ...port, ...changes }] });
  it.each<[string, Partial<HostTables>]>([
    ['whose MAC is not known', { neighbours: [{ dst: '10.5.1.2', dev: 'br0', state: ['INCOMPLETE'] }] }],
    ['that does not answer', { neighbours: [{ ...neighbour, state: ['FAILED'] }] }],
    ['of another subnet', { neighbours: [{ ...neighbour, dst: '10.5.2.2' }] }],
    ['that two devices have', { neighbours: [neighbour, { ...neighbour, dev: 'br1' }] }],
    [
      'that three devices have',
      { neighbours: [neighbour, { ...neighbour, dev: 'br1' }, { ...neighbour, dev: 'br2' }] },
    ],
    ['whose bridge has forgotten it', { fdb: [] }],
    ['whose MAC is at two ports', { fdb: [entry, { ...entry, ifname: 'vd' }] }],
    ['whose MAC is the host’s own', { fdb: [{ ...entry, state: 'permanent' }] }],
    ['whose MAC another bridge knows', { fdb: [{ ...entry, master: 'br1' }] }],
    [
      'behind a bridge that knows VLANs',
      { links: [{ ...bridge, linkinfo: { info_kind: 'bridge', info_data: { vlan_filtering: 1 } } }, port] },
    ],
    ['behind a device that is no bridge', { links: [{ ...bridge, linkinfo: { info_kind: 'macvlan' } }, port] }],
    ['whose link is no veth', link({ linkinfo: { info_kind: 'tun' } })],
    ['whose link ends in this namespace', link({ link_netnsid: undefined })],
    ['whose link is down', link({ flags: ['UP'] })],
    ['whose link was moved to another bridge', link({ master: 'br1' })],
    ['whose link shapes traffic', link({ qdisc: 'tbf' })],
    ['whose link is gone', { links: [bridge] }],
    ['whose bridge has no address that could be read', { links: [{ ...bridge, address: 'none' }, port] }],
  ])('is left to its route: one %s', (_, changes) => {
    expect(found(changes)).toEqual([]);
  });
});

describe('a line about a change', () => {
  const [container] = found();
  it.each([
    ['Deleted 7: vc@if2: <BROADCAST,MULTICAST> mtu 1472 state DOWN', true],
    ['7: vc@if2: <BROADCAST,MULTICAST> mtu 1472 state DOWN group default', true],
    ['7: vc@if2: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1472 state LOWERLAYERDOWN', true],
    ['7: vc@if2: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1472 master br0 state UP', false],
    ['Deleted 17: vc@if2: <BROADCAST,MULTICAST> mtu 1472', false],
    ['10.5.1.2 dev br0 lladdr 02:00:00:00:00:02 REACHABLE', false],
    ['10.5.1.2 dev br0 lladdr 02:00:00:00:00:03 REACHABLE', true],
    ['10.5.1.2 dev br0  FAILED', true],
    ['Deleted 10.5.1.2 dev br0 lladdr 02:00:00:00:00:02 STALE', true],
    ['10.5.1.22 dev br0  FAILED', false],
    ['Deleted dev vc lladdr 02:00:00:00:00:02 REACHABLE', true],
    ['dev vc lladdr 02:00:00:00:00:02 REACHABLE', false],
    ['dev vd lladdr 02:00:00:00:00:02 REACHABLE', true],
    ['dev vd lladdr 02:00:00:00:00:03 REACHABLE', false],
    ['', false],
  ])('%j strikes it out: %s', (line, out) => {
    expect(struckOut(line, container!)).toBe(out);
  });
});
