import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { parseIpv4 } from '../../../src/base/ipv4.js';
import { unforeseen } from '../../../src/base/unforeseen.js';
import { LeaseGoneError, LeaseLostError } from '../../../src/subnet/errors.js';
import { type FakeClock, settle } from '../../support/fake-clock.js';
import { HOUR, ManagerHarness, MINUTE } from '../../support/manager-harness.js';
import { MemoryRegistry, type MemoryStore } from '../../support/memory-registry.js';
import { host } from '../../support/registry-suite.js';

let harness: ManagerHarness;
let clock: FakeClock;
let store: MemoryStore;

beforeEach(() => {
  harness = new ManagerHarness();
  ({ clock, store } = harness);
});

afterEach(() => harness.close());

describe('keeping the own lease', () => {
  it('renews it an hour before its end', async () => {
    const { events } = await harness.running();
    await clock.advance(22.9 * HOUR);
    expect(events.filter((event) => event === 'renewed')).toHaveLength(0);
    await clock.advance(0.2 * HOUR);
    expect(events.filter((event) => event === 'renewed')).toHaveLength(1);
    expect(store.entries.get('10.5.1.0-24')?.expiresAt).toBeGreaterThan(clock.now() + 23 * HOUR);
  });

  it('renews a short lease when half of it is over', async () => {
    const { events, lost } = await harness.running({ ttlSeconds: 4 });
    await clock.advance(60_000);
    const renewals = events.filter((event) => event === 'renewed').length;
    expect(renewals).toBeGreaterThanOrEqual(29);
    expect(renewals).toBeLessThanOrEqual(30);
    expect(events).not.toContain('re-acquired');
    expect(lost).toEqual([]);
  });

  it('renews in time although the clock of the machine was set back', async () => {
    const { events } = await harness.running();
    clock.jump(-10 * HOUR);
    await clock.advance(23.1 * HOUR);
    expect(events.filter((event) => event === 'renewed')).toHaveLength(1);
  });

  it('keeps trying while the registry is away, with one line in the log now and then', async () => {
    const { events } = await harness.running();
    await clock.advance(22.5 * HOUR);
    store.goDown('connection refused');
    harness.lines.length = 0;
    await clock.advance(HOUR);
    expect(harness.lines.filter((line) => line.message.includes('cannot renew')).length).toBeLessThan(60);
    expect(harness.lines.filter((line) => line.message.startsWith('cannot renew'))).toHaveLength(1);
    store.comeBack();
    await clock.advance(2 * MINUTE);
    expect(events).toContain('renewed');
  });

  it('takes the same subnet again after it expired during an outage', async () => {
    const { events, lost, manager } = await harness.running();
    store.goDown('connection refused');
    await clock.advance(30 * HOUR);
    expect(store.entries.size).toBe(0);
    store.comeBack();
    await clock.advance(2 * MINUTE);
    expect([...store.entries.keys()]).toEqual(['10.5.1.0-24']);
    expect(events).toContain('re-acquired');
    expect(lost).toEqual([]);
    expect(manager.status().lease?.expiresAt).toBeGreaterThan(clock.now() + 23 * HOUR);
  });

  it('takes its subnet again at once when somebody deletes the key', async () => {
    const { events } = await harness.running();
    store.delete('10.5.1.0-24');
    await clock.advance(100);
    expect(store.entries.has('10.5.1.0-24')).toBe(true);
    expect(events).toContain('re-acquired');
  });

  it('puts itself back after the registry lost all its data', async () => {
    for (let i = 0; i < 20; i++) harness.putPeer('10.5.9.0/24', '192.0.2.9');
    const running = await harness.running();
    store.wipe();
    harness.putPeer('10.5.3.0/24', '192.0.2.3');
    await clock.advance(10_000);
    expect([...store.entries.keys()].sort()).toEqual(['10.5.1.0-24', '10.5.3.0-24']);
    expect([...running.peers.keys()]).toEqual(['10.5.3.0/24']);
    expect(running.lost).toEqual([]);
    expect(harness.warnings.map((line) => line.message)).toContainEqual(expect.stringContaining('config was deleted'));
  });

  it('gives up when another host took its subnet meanwhile, without touching that lease', async () => {
    const { lost, manager } = await harness.running();
    store.goDown('connection refused');
    await clock.advance(30 * HOUR);
    harness.putPeer('10.5.1.0/24', '192.0.2.66');
    store.comeBack();
    store.calls.length = 0;
    await clock.advance(2 * MINUTE);
    expect(lost).toHaveLength(1);
    expect(lost[0]).toBeInstanceOf(LeaseLostError);
    expect(lost[0]?.message).toBe(
      'the lease of 10.5.1.0/24 is lost: host 192.0.2.66 holds it now; start again to get another subnet',
    );
    expect(manager.status().phase).toBe('lost');
    expect(store.entries.get('10.5.1.0-24')?.value).toContain('192.0.2.66');
    await clock.advance(HOUR);
    expect(store.calls.filter((call) => call.startsWith('create'))).toEqual([]);
  });

  it('gives up at once when another host writes over its key', async () => {
    const { lost } = await harness.running();
    harness.putPeer('10.5.1.0/24', '192.0.2.66');
    await settle();
    expect(lost).toHaveLength(1);
  });

  it('gives up when another host is faster to take its vanished subnet', async () => {
    const registry = new MemoryRegistry(store);
    vi.spyOn(store, 'watch').mockReturnValue(new Promise(() => {})); // and the watch is too slow to tell
    vi.spyOn(registry, 'renew').mockImplementationOnce(async (lease) => {
      store.delete(lease.key);
      harness.putPeer('10.5.1.0/24', '192.0.2.66');
      throw new LeaseGoneError(lease.key);
    });
    const { lost } = await harness.running({ registry, ttlSeconds: 60 });
    await clock.advance(MINUTE);
    expect(lost[0]?.reason).toMatch(/192\.0\.2\.66 holds it now/);
    expect(store.entries.get('10.5.1.0-24')?.value).toContain('192.0.2.66');
  });

  it('gives up when a larger lease of another host covers its vanished one', async () => {
    const { lost } = await harness.running();
    harness.putPeer('10.5.0.0/20', '192.0.2.66');
    store.delete('10.5.1.0-24');
    await clock.advance(100);
    expect(lost[0]?.reason).toMatch(/another host holds 10\.5\.0\.0\/20/);
  });

  it('writes over garbage under its own key when it renews', async () => {
    const { lost } = await harness.running();
    store.put('10.5.1.0-24', 'garbage', 86_400);
    store.disconnect('list again');
    await clock.advance(10_000);
    expect(store.entries.get('10.5.1.0-24')?.value).toBe('{"PublicIP":"192.0.2.1","PublicIPv6":null}');
    expect(lost).toEqual([]);
  });

  it.each([
    ['garbage', 'garbage'],
    ['another backend', '{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan"}'],
  ])('writes its value again at once when somebody puts %s in its place', async (_, value) => {
    const { lost, events } = await harness.running();
    store.put('10.5.1.0-24', value, 86_400);
    await clock.advance(100);
    expect(store.entries.get('10.5.1.0-24')?.value).toBe('{"PublicIP":"192.0.2.1","PublicIPv6":null}');
    expect(events.filter((event) => event === 'restored')).toHaveLength(1);
    expect(lost).toEqual([]);
  });

  it('does not fight for ever at full speed with somebody who writes over its value again and again', async () => {
    await harness.running();
    const put = store.put.bind(store);
    const rival = '{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan"}';
    vi.spyOn(store, 'put').mockImplementation((key, value, ttl) => {
      const revision = put(key, value, ttl);
      if (value !== rival) void clock.sleep(1, new AbortController().signal).then(() => put(key, rival, 86_400));
      return revision;
    });
    put('10.5.1.0-24', rival, 86_400);
    await clock.advance(HOUR);
    const renewals = store.calls.filter((call) => call.startsWith('renew')).length;
    expect(renewals).toBeGreaterThan(50);
    expect(renewals).toBeLessThan(90);
  });

  it('says once that another host writes its lease with the same public address', async () => {
    const { lost } = await harness.running();
    const own = '{"PublicIP":"192.0.2.1","PublicIPv6":null}';
    store.put('10.5.1.0-24', own, 86_400);
    await clock.advance(23.5 * HOUR); // a renewal of its own lies between
    store.put('10.5.1.0-24', own, 86_400);
    await clock.advance(HOUR);
    const twins = harness.warnings.filter((line) => line.message.includes('the same public address'));
    expect(twins).toHaveLength(1);
    expect(lost).toEqual([]);
  });

  it('writes in answer to another host with the same public address, so that it notices too, and both stay calm', async () => {
    const [one, other] = [await harness.running(), await harness.running()];
    await clock.advance(MINUTE);
    expect([one, other].map(({ manager }) => manager.status().hasTwin)).toEqual([true, true]);
    const before = store.revision;
    await clock.advance(HOUR);
    expect(store.revision).toBe(before);
    await other.manager.close();
    await clock.advance(3 * 24 * HOUR);
    expect(one.manager.status().hasTwin).toBe(false);
    expect([...one.lost, ...other.lost]).toEqual([]);
  });

  it('takes none of its own renewals for somebody else’s', async () => {
    await harness.running({ ttlSeconds: 60 });
    await clock.advance(HOUR);
    store.disconnect('list again');
    await clock.advance(HOUR);
    expect(harness.warnings.map((line) => line.message)).not.toContainEqual(expect.stringContaining('same public'));
  });

  it('writes a new public address into the same key, in one write', async () => {
    const { lost, events, manager } = await harness.running();
    store.calls.length = 0;
    const before = store.revision;
    manager.announce(host('192.0.2.200'));
    await clock.advance(100);
    expect([...store.entries.keys()]).toEqual(['10.5.1.0-24']);
    expect(store.entries.get('10.5.1.0-24')?.value).toContain('192.0.2.200');
    expect(store.revision).toBe(before + 1);
    expect(events).toContain('announced');
    expect(manager.status().lease?.attributes.publicIp).toBe(parseIpv4('192.0.2.200'));
    await clock.advance(24 * HOUR);
    expect(lost).toEqual([]);
    expect(store.entries.get('10.5.1.0-24')?.value).toContain('192.0.2.200');
  });

  it('writes a new public address as soon as the registry answers, whatever happened to the key meanwhile', async () => {
    const { lost, manager } = await harness.running();
    store.goDown('connection refused');
    manager.announce(host('192.0.2.200'));
    await clock.advance(30 * HOUR);
    expect(store.entries.size).toBe(0);
    store.comeBack();
    await clock.advance(2 * MINUTE);
    expect(store.entries.get('10.5.1.0-24')?.value).toContain('192.0.2.200');
    expect(lost).toEqual([]);
  });

  it('gives up when a host that has its former address took the subnet before the new one could be written', async () => {
    const { lost, manager } = await harness.running();
    store.goDown('connection refused');
    manager.announce(host('192.0.2.200'));
    harness.putPeer('10.5.1.0/24', '192.0.2.66');
    store.comeBack();
    await clock.advance(MINUTE);
    expect(lost).toHaveLength(1);
    expect(store.entries.get('10.5.1.0-24')?.value).toContain('192.0.2.66');
  });

  it('releases on request', async () => {
    const { manager } = await harness.running();
    await manager.release();
    expect(store.entries.size).toBe(0);
    expect(manager.status().phase).toBe('closed');
  });

  it('closes without waiting for a registry that does not answer', async () => {
    const { manager } = await harness.running();
    vi.spyOn(MemoryRegistry.prototype, 'remove').mockReturnValue(new Promise(() => {}));
    const released = manager.release();
    await clock.advance(3_000);
    await released;
    vi.restoreAllMocks();
    expect(harness.warnings.at(-1)?.message).toMatch(/cannot release/);
  });
});

describe('an error that nobody foresaw', () => {
  it('costs the session in which it came: it is counted, and lease and peers are followed again', async () => {
    const registry = new MemoryRegistry(store);
    const running = await harness.running({ registry });
    const { manager, lost } = running;
    const before = unforeseen.count;
    const list = vi.spyOn(registry, 'list').mockRejectedValue(new TypeError('undefined is not a lease'));
    store.goDown('connection refused');
    store.comeBack();
    await clock.advance(MINUTE);
    expect(unforeseen.count).toBeGreaterThan(before);
    expect(manager.status()).toMatchObject({
      phase: 'following',
      connection: { state: 'down', reason: 'undefined is not a lease' },
    });
    list.mockRestore();
    harness.putPeer('10.5.8.0/24', '192.0.2.2');
    await clock.advance(MINUTE);
    expect(manager.status().connection.state).toBe('up');
    expect(running.manager.peers.leases).toHaveLength(1);
    await clock.advance(48 * HOUR);
    expect(store.entries.has('10.5.1.0-24')).toBe(true);
    expect(lost).toEqual([]);
  });
});
