import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { silentLogger } from '../../../src/base/log.js';
import { DirectoryRegistry } from '../../../src/subnet/directory/directory-registry.js';
import { subnetName } from '../../../src/subnet/lease.js';
import { LeaseManager } from '../../../src/subnet/leases/lease-manager.js';
import { networkName } from '../../../src/subnet/network-config/config.js';
import type { Registry } from '../../../src/subnet/registry.js';
import { peersOf } from '../../support/manager-harness.js';
import { host } from '../../support/registry-suite.js';

let directory: string;
const managers: LeaseManager[] = [];
const registries: Registry[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tweed-manager-'));
});

afterEach(async () => {
  for (const manager of managers.splice(0)) await manager.close();
  for (const registry of registries.splice(0)) await registry.close();
  await rm(directory, { recursive: true });
});

function open(): Registry {
  const registry = new DirectoryRegistry({ directory }, silentLogger());
  registries.push(registry);
  return registry;
}

function manage(address: string): LeaseManager {
  const manager = new LeaseManager({ registry: open(), log: silentLogger(), host: host(address) });
  managers.push(manager);
  return manager;
}

it('three hosts on one directory get different subnets and see each other come and go', async () => {
  const waiting = manage('192.0.2.1').waitForConfig();
  await open().setConfig('{"Network":"10.5.0.0/16"}', null);
  expect(networkName(await waiting)).toBe('10.5.0.0/16');

  const hosts = await Promise.all(
    ['192.0.2.1', '192.0.2.2', '192.0.2.3'].map(async (address) => {
      const manager = manage(address);
      const lease = await manager.acquire(await manager.waitForConfig(), host(address));
      manager.follow();
      return { manager, subnet: subnetName(lease) };
    }),
  );
  const subnets = hosts.map(({ subnet }) => subnet);
  expect(new Set(subnets).size).toBe(3);
  for (const { manager, subnet } of hosts) {
    await vi.waitFor(() =>
      expect([...peersOf(manager).keys()].sort()).toEqual(subnets.filter((other) => other !== subnet).sort()),
    );
  }
  await hosts[2]?.manager.release();
  await vi.waitFor(() => expect([...peersOf(hosts[0]!.manager).keys()]).toEqual([subnets[1]]));
});
