import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { patient } from '../../../src/lab/patience.js';
import { type EtcdServer, makeEtcdCluster, whyNoEtcd } from '../support/etcd.js';
import { ManagedHost } from '../support/managed-host.js';

const PREFIX = '/coreos.com/network';
const PATIENCE = { timeout: patient(30_000), interval: 50 };
const reason = whyNoEtcd();

interface Status {
  readonly Status: { readonly header: { readonly member_id: number }; readonly leader: number };
}

describe.skipIf(reason !== '')(`a cluster of three ${reason}`, () => {
  let cluster: EtcdServer[];
  const hosts: ManagedHost[] = [];

  beforeEach(async () => {
    cluster = await makeEtcdCluster(3);
    (cluster[0] as EtcdServer).control(['put', `${PREFIX}/config`, '{"Network":"10.5.0.0/16"}']);
  });

  afterEach(async () => {
    await Promise.all(hosts.splice(0).map((one) => one.close()));
    await Promise.all(cluster.map((server) => server.destroy()));
  });

  async function start(address: string, endpoints: readonly EtcdServer[]): Promise<ManagedHost> {
    const one = new ManagedHost(address, { endpoints: endpoints.map((server) => server.endpoint) }, { ttlSeconds: 10 });
    hosts.push(one);
    return one.start();
  }

  function isLeader(server: EtcdServer): boolean {
    const [status] = JSON.parse(server.control(['endpoint', 'status', '-w', 'json'])) as [Status];
    return status.Status.leader === status.Status.header.member_id;
  }

  it('goes on when the leader is killed, for hosts that talked to it and hosts that did not', async () => {
    const leader = cluster.find(isLeader) as EtcdServer;
    const others = cluster.filter((server) => server !== leader);
    const a = await start('192.0.2.1', [leader, ...others]);
    const b = await start('192.0.2.2', [...others, leader]);
    await vi.waitFor(() => expect([a.peers.size, b.peers.size]).toEqual([1, 1]), PATIENCE);
    await leader.kill();
    const c = await start('192.0.2.3', [leader, ...others]); // the dead one first
    await vi.waitFor(() => {
      expect([...a.peers.keys()].sort()).toEqual([b.subnet, c.subnet].sort());
      expect([...b.peers.keys()].sort()).toEqual([a.subnet, c.subnet].sort());
      expect(hosts.map((one) => one.connection)).toEqual(['up', 'up', 'up']);
    }, PATIENCE);
    for (const one of hosts) one.events.length = 0;
    await vi.waitFor(() => expect(hosts.every((one) => one.events.includes('renewed'))).toBe(true), PATIENCE);
    expect(hosts.flatMap((one) => one.lost)).toEqual([]);
    expect(hosts.flatMap((one) => one.events)).not.toContain('re-acquired');
  });

  it('leaves a member that is cut off from its leader', async () => {
    const [lonely, ...others] = cluster as [EtcdServer, EtcdServer, EtcdServer];
    const a = await start('192.0.2.1', [lonely]);
    await Promise.all(others.map((server) => server.kill()));
    // Its member runs and answers pings, but cannot serve: a watch that stayed there would be deaf.
    await vi.waitFor(() => expect(a.connection).toBe('down'), PATIENCE);
    for (const server of others) server.launch();
    await vi.waitFor(() => expect(a.connection).toBe('up'), PATIENCE);
    expect(a.lost).toEqual([]);
  });
});
