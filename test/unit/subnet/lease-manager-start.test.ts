import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Subnets, subnetName } from '../../../src/subnet/lease.js';
import { networkName } from '../../../src/subnet/network-config/config.js';
import { type FakeClock, settle } from '../../support/fake-clock.js';
import { CONFIG, HOUR, ManagerHarness, SELF } from '../../support/manager-harness.js';
import { MemoryRegistry, type MemoryStore } from '../../support/memory-registry.js';
import { subnets } from '../../support/registry-suite.js';

let harness: ManagerHarness;
let clock: FakeClock;
let store: MemoryStore;

beforeEach(() => {
  harness = new ManagerHarness();
  ({ clock, store } = harness);
});

afterEach(() => harness.close());

describe('waiting for the config', () => {
  it('says once what it waits for, reminds now and then, and goes on when it is there', async () => {
    const waiting = harness.manage().waitForConfig();
    await clock.advance(50_000);
    expect(harness.warnings.map((line) => line.message)).toEqual([expect.stringContaining('tweed network set')]);
    await clock.advance(20_000);
    expect(harness.warnings[1]?.message).toMatch(/^still: waiting for the network config/);
    store.setConfig(CONFIG);
    await clock.advance(6_000);
    expect(networkName(await waiting)).toBe('10.5.0.0/16');
    expect(harness.lines.at(-1)?.message).toBe('the network config is there');
  });

  it('logs every new reason: unreachable, absent, wrong', async () => {
    store.goDown('connection refused');
    const waiting = harness.manage().waitForConfig();
    await clock.advance(10_000);
    store.comeBack();
    await clock.advance(10_000);
    store.setConfig('{"Network":"10.5.0.0/30"}');
    await clock.advance(10_000);
    store.setConfig(CONFIG);
    await clock.advance(10_000);
    await waiting;
    expect(harness.warnings.map((line) => line.fields.reason)).toEqual([
      'connection refused',
      'absent',
      expect.stringContaining('Network: 10.5.0.0/30 is too small'),
    ]);
  });

  it('backs off from 100 ms to 5 s', async () => {
    const waiting = harness.manage().waitForConfig();
    await clock.advance(1_000);
    expect(store.calls.length).toBeGreaterThanOrEqual(4);
    await clock.advance(60_000);
    store.calls.length = 0;
    await clock.advance(60_000);
    expect(store.calls.length).toBeGreaterThanOrEqual(11);
    expect(store.calls.length).toBeLessThanOrEqual(17);
    store.setConfig(CONFIG);
    await clock.advance(6_000);
    await waiting;
  });

  it('ends with an error when it is closed meanwhile', async () => {
    const manager = harness.manage();
    const waiting = expect(manager.waitForConfig()).rejects.toThrow(/closed/);
    await settle();
    await manager.close();
    await waiting;
  });

  it('warns of what it does not know', async () => {
    store.setConfig('{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48","Extra":1}');
    await harness.manage().waitForConfig();
    expect(harness.warnings.map((line) => line.message)).toEqual([expect.stringContaining('"Extra"')]);
  });
});

describe('acquiring', () => {
  it('takes the first of the free subnets that the random source picks', async () => {
    harness.putPeer('10.5.1.0/24', '192.0.2.2');
    const { lease } = await harness.running();
    expect(subnetName(lease)).toBe('10.5.2.0/24');
    expect(store.entries.get('10.5.2.0-24')?.value).toBe('{"PublicIP":"192.0.2.1","PublicIPv6":null}');
    expect(store.entries.get('10.5.2.0-24')?.expiresAt).toBe(clock.now() + 24 * HOUR);
  });

  it('reuses the lease that stands under its address', async () => {
    harness.putPeer('10.5.77.0/24', SELF, 100);
    const { lease } = await harness.running();
    expect(subnetName(lease)).toBe('10.5.77.0/24');
    expect(store.entries.get('10.5.77.0-24')?.expiresAt).toBe(clock.now() + 24 * HOUR);
  });

  it('deletes its lease of another length and takes its previous subnet', async () => {
    harness.putPeer('10.5.64.0/20', SELF);
    const { lease } = await harness.running({ previous: subnets('10.5.66.0/24') });
    expect(subnetName(lease)).toBe('10.5.66.0/24');
    expect([...store.entries.keys()]).toEqual(['10.5.66.0-24']);
  });

  it('of several leases under its address takes the previous one, and leaves the others', async () => {
    harness.putPeer('10.5.70.0/24', SELF);
    harness.putPeer('10.5.77.0/24', SELF);
    const { lease } = await harness.running({ previous: subnets('10.5.77.0/24') });
    expect(subnetName(lease)).toBe('10.5.77.0/24');
    expect([...store.entries.keys()].sort()).toEqual(['10.5.70.0-24', '10.5.77.0-24']);
    expect(harness.warnings.map((line) => line.message)).toContainEqual(expect.stringContaining('one more lease'));
  });

  it('leaves a reservation alone that does not fit the config', async () => {
    harness.putPeer('10.5.64.0/20', SELF, null);
    const { lease } = await harness.running();
    expect(subnetName(lease)).toBe('10.5.1.0/24');
    expect(store.entries.has('10.5.64.0-20')).toBe(true);
    expect(harness.warnings.map((line) => line.message)).toContainEqual(expect.stringContaining('does not fit'));
  });

  it.each([
    ['held by another host', '10.5.66.0/24'],
    ['covered by a longer lease', '10.5.64.0/20'],
  ])('passes over a previous subnet that is %s', async (_, taken) => {
    harness.putPeer(taken, '192.0.2.2');
    const { lease } = await harness.running({ previous: subnets('10.5.66.0/24') });
    expect(subnetName(lease)).toBe('10.5.1.0/24');
  });

  it('passes over a previous subnet of another network', async () => {
    const { lease } = await harness.running({ previous: subnets('10.6.66.0/24') });
    expect(subnetName(lease)).toBe('10.5.1.0/24');
  });

  it('keeps a reservation without a time to live', async () => {
    harness.putPeer('10.5.9.0/24', SELF, null);
    const { lease, manager } = await harness.running();
    expect(subnetName(lease)).toBe('10.5.9.0/24');
    expect(lease.expiresAt).toBeNull();
    await clock.advance(48 * HOUR);
    expect(store.entries.get('10.5.9.0-24')?.expiresAt).toBeNull();
    await manager.release();
    expect(store.entries.has('10.5.9.0-24')).toBe(true);
  });

  it('does not take a subnet whose lease cannot be read', async () => {
    store.put('10.5.1.0-24', 'garbage');
    const { lease } = await harness.running();
    expect(subnetName(lease)).toBe('10.5.2.0/24');
  });

  it('tries another subnet when it loses the race', async () => {
    const registry = new MemoryRegistry(store);
    const create = registry.create.bind(registry);
    vi.spyOn(registry, 'create').mockImplementationOnce((subnets: Subnets, attributes, ttl) => {
      harness.putPeer(subnetName(subnets), '192.0.2.2');
      return create(subnets, attributes, ttl);
    });
    const { lease } = await harness.running({ registry });
    expect(subnetName(lease)).toBe('10.5.2.0/24');
  });

  it('gives a subnet back when one of another length that overlaps came at the same moment', async () => {
    const registry = new MemoryRegistry(store);
    const create = registry.create.bind(registry);
    vi.spyOn(registry, 'create').mockImplementationOnce(async (subnets: Subnets, attributes, ttl) => {
      const created = await create(subnets, attributes, ttl);
      harness.putPeer('10.5.0.0/22', '192.0.2.2');
      return created;
    });
    const starting = harness.running({ registry });
    await clock.advance(1_000);
    expect(subnetName((await starting).lease)).toBe('10.5.4.0/24');
    expect(store.entries.has('10.5.1.0-24')).toBe(false);
  });

  it('waits while there is no free subnet', async () => {
    store.setConfig('{"Network":"10.5.0.0/28"}');
    for (let i = 1; i < 4; i++) harness.putPeer(`10.5.0.${i * 4}/30`, `192.0.2.${i + 1}`);
    const starting = harness.running();
    await clock.advance(10_000);
    expect(harness.warnings.at(-1)?.fields.reason).toMatch(/no free subnet left/);
    store.delete('10.5.0.8-30');
    await clock.advance(10_000);
    expect(subnetName((await starting).lease)).toBe('10.5.0.8/30');
  });
});
