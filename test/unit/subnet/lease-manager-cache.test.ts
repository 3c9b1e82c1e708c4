import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLogger } from '../../../src/base/log.js';
import { StateOutdatedError } from '../../../src/subnet/errors.js';
import { subnetName } from '../../../src/subnet/lease.js';
import type { LeaseManagerOptions } from '../../../src/subnet/leases/lease-manager.js';
import { PeerCache } from '../../../src/subnet/leases/peer-cache.js';
import type { NetworkConfig } from '../../../src/subnet/network-config/config.js';
import { type FakeClock, settle } from '../../support/fake-clock.js';
import { HOUR, ManagerHarness, SELF } from '../../support/manager-harness.js';
import type { MemoryStore } from '../../support/memory-registry.js';
import { host } from '../../support/registry-suite.js';

let harness: ManagerHarness;
let clock: FakeClock;
let store: MemoryStore;

beforeEach(() => {
  harness = new ManagerHarness();
  ({ clock, store } = harness);
});

describe('the last known state on disk', () => {
  let directory: string;
  let cache: PeerCache;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tweed-cache-'));
    cache = new PeerCache(join(directory, 'state.json'), silentLogger());
  });

  afterEach(async () => {
    await harness.close(); // a manager saves its state when it ends
    await rm(directory, { recursive: true });
  });

  /** Lets a first daemon run and save what it knows. */
  async function firstRun(): Promise<void> {
    harness.putPeer('10.5.7.0/24', '192.0.2.7');
    const { manager } = await harness.running({ cache });
    await manager.close();
  }

  async function startFromCache() {
    store.goDown('connection refused');
    return harness.running({ cache });
  }

  /** Waits for the configuration while the registry is down; null when that is in vain. */
  async function configWithoutRegistry(options: Partial<LeaseManagerOptions>): Promise<NetworkConfig | null> {
    store.goDown('connection refused');
    const manager = harness.manage({ cache, ...options });
    const waiting = manager.waitForConfig().catch(() => null);
    for (let i = 0; i < 20; i++) {
      await clock.advance(1_000);
      await new Promise((resolve) => setTimeout(resolve, 2)); // the cache is read from a real disk
    }
    await manager.close();
    return waiting;
  }

  it('begins with the last known state before it has asked the registry, and renews the lease then', async () => {
    await firstRun();
    await clock.advance(HOUR);
    store.calls.length = 0;
    const manager = harness.manage({ cache });
    const lease = await manager.acquire(await manager.waitForConfig(), host(SELF));
    expect(subnetName(lease)).toBe('10.5.1.0/24');
    expect(manager.peers).toMatchObject({ complete: false, leases: [{ attributes: host('192.0.2.7') }] });
    expect(store.calls).toEqual([]);
    manager.follow();
    await settle();
    expect(manager.peers.complete).toBe(true);
    expect(manager.status().fromCache).toBe(false);
    expect(store.entries.get('10.5.1.0-24')?.expiresAt).toBe(clock.now() + 24 * HOUR);
    expect(harness.warnings).toEqual([]);
  });

  it('does not begin with a lease that has run out, unless told to, and then only without a registry', async () => {
    await firstRun();
    await clock.advance(25 * HOUR);
    expect(await configWithoutRegistry({})).toBeNull();
    expect(await configWithoutRegistry({ startFromCacheAfterMs: 5_000 })).not.toBeNull();
    store.comeBack();
    const { events } = await harness.running({ cache, startFromCacheAfterMs: 5_000 });
    expect(events).not.toContain('re-acquired'); // it was leased anew, not compared
  });

  it.each(['another registry', 'the future'])('does not begin with a state from %s', async (origin) => {
    await firstRun();
    if (origin === 'the future') clock.jump(-2 * HOUR);
    else cache = new PeerCache(cache.path, silentLogger(), 'another');
    expect(await configWithoutRegistry({})).toBeNull();
  });

  it('asks the registry when nothing can be made of the last known configuration', async () => {
    await firstRun();
    const manager = harness.manage({ cache });
    await manager.waitForConfig();
    store.calls.length = 0;
    await manager.waitForConfig();
    expect(store.calls).toEqual(['getConfig']);
  });

  it('begins with the configuration that was changed while it ran', async () => {
    harness.putPeer('10.5.7.0/24', '192.0.2.7');
    const { manager } = await harness.running({ cache });
    store.setConfig('{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}');
    await settle();
    await manager.close();
    const second = await harness.running({ cache });
    expect(second.manager.status().config?.backend.type).toBe('vxlan');
    expect(second.lost).toEqual([]);
  });

  it.each(['{"Network":"10.9.0.0/16"}', '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'])(
    'is to begin anew when the configuration is %s by now, and forgets the state',
    async (json) => {
      await firstRun();
      store.setConfig(json);
      const second = await harness.running({ cache });
      expect(second.lost).toEqual([expect.any(StateOutdatedError)]);
      await second.manager.close();
      expect(await cache.load()).toBeNull();
    },
  );

  it('lets a daemon start while the registry is down, and is compared when it is back', async () => {
    await firstRun();
    const second = await startFromCache();
    expect(subnetName(second.lease)).toBe('10.5.1.0/24');
    expect([...second.peers]).toEqual([['10.5.7.0/24', '192.0.2.7']]);
    expect(second.manager.status()).toMatchObject({ fromCache: true, phase: 'following' });
    harness.putPeer('10.5.8.0/24', '192.0.2.8');
    store.delete('10.5.7.0-24');
    store.comeBack();
    await clock.advance(10_000);
    expect([...second.peers.keys()]).toEqual(['10.5.8.0/24']);
    expect(second.manager.status().fromCache).toBe(false);
    expect(second.events).toContain('renewed');
    expect(second.lost).toEqual([]);
  });

  it('takes the subnet again when it expired meanwhile', async () => {
    await firstRun();
    store.delete('10.5.1.0-24');
    const second = await startFromCache();
    store.comeBack();
    await clock.advance(10_000);
    expect(second.events).toContain('re-acquired');
    expect(store.entries.has('10.5.1.0-24')).toBe(true);
  });

  it('gives up when another host took the subnet, and forgets the state', async () => {
    await firstRun();
    harness.putPeer('10.5.1.0/24', '192.0.2.66');
    const second = await startFromCache();
    store.comeBack();
    await clock.advance(10_000);
    expect(second.lost[0]?.reason).toMatch(/192\.0\.2\.66/);
    await second.manager.close();
    expect(await cache.load()).toBeNull();
  });

  it('is not used by a host with another address', async () => {
    await firstRun();
    const stranger = host('192.0.2.99');
    expect(await configWithoutRegistry({ startFromCacheAfterMs: 5_000, host: stranger })).toBeNull();
    expect(harness.warnings.map((line) => line.message)).toContainEqual(expect.stringContaining('another address'));
  });
});
