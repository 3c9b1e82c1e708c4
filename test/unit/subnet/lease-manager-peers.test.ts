import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { CompactedError } from '../../../src/subnet/errors.js';
import { type NetworkConfig, networkName } from '../../../src/subnet/network-config/config.js';
import { type FakeClock, settle } from '../../support/fake-clock.js';
import { HOUR, ManagerHarness, MINUTE } from '../../support/manager-harness.js';
import type { MemoryStore } from '../../support/memory-registry.js';

let harness: ManagerHarness;
let clock: FakeClock;
let store: MemoryStore;

beforeEach(() => {
  harness = new ManagerHarness();
  ({ clock, store } = harness);
});

afterEach(() => harness.close());

describe('following the peers', () => {
  it('knows all that are there once it has a lease, without itself and without an announcement', async () => {
    harness.putPeer('10.5.1.0/24', '192.0.2.2');
    harness.putPeer('10.5.2.0/24', '192.0.2.3');
    const { announcements, peers, manager } = await harness.running();
    expect(announcements).toEqual([]);
    expect(manager.peers.complete).toBe(true);
    expect([...peers]).toEqual([
      ['10.5.1.0/24', '192.0.2.2'],
      ['10.5.2.0/24', '192.0.2.3'],
    ]);
  });

  it('knows that there are none, and announces nothing as long as that stays so', async () => {
    const { announcements, manager } = await harness.running();
    const { peers } = manager;
    store.goDown('connection refused');
    await clock.advance(HOUR);
    store.comeBack();
    await clock.advance(HOUR);
    expect(announcements).toEqual([]);
    expect(manager.peers).toBe(peers);
    expect(peers).toEqual({ leases: [], complete: true });
  });

  it('announces thousands of changes at once', async () => {
    const { announcements } = await harness.running();
    for (let i = 0; i < 200; i++) harness.putPeer(`10.5.${i + 50}.0/24`, `192.0.3.${i}`);
    await clock.advance(100);
    expect(announcements).toEqual([200]);
    for (let i = 0; i < 200; i++) store.delete(`10.5.${i + 50}.0-24`);
    await clock.advance(100);
    expect(announcements).toEqual([200, 0]);
  });

  it('announces a changed address, but not a renewal', async () => {
    harness.putPeer('10.5.1.0/24', '192.0.2.2');
    const running = await harness.running();
    harness.putPeer('10.5.1.0/24', '192.0.2.2');
    await clock.advance(100);
    expect(running.announcements).toEqual([]);
    harness.putPeer('10.5.1.0/24', '192.0.2.7');
    await clock.advance(100);
    expect(running.announcements).toEqual([1]);
    expect([...running.peers.values()]).toEqual(['192.0.2.7']);
  });

  it('has the peers in the order in which they changed', async () => {
    for (const number of [1, 2, 3]) harness.putPeer(`10.5.${number}.0/24`, `192.0.2.${number + 1}`);
    const running = await harness.running();
    harness.putPeer('10.5.2.0/24', '192.0.2.3'); // a renewal is no change
    harness.putPeer('10.5.1.0/24', '192.0.2.9');
    await clock.advance(100);
    expect([...running.peers.keys()]).toEqual(['10.5.2.0/24', '10.5.3.0/24', '10.5.1.0/24']);
  });

  it('keeps the peers while the registry is away and announces the full difference after it', async () => {
    harness.putPeer('10.5.1.0/24', '192.0.2.2');
    harness.putPeer('10.5.2.0/24', '192.0.2.3');
    const running = await harness.running();
    const { manager, announcements } = running;
    store.goDown('connection refused');
    await clock.advance(HOUR);
    expect(running.peers.size).toBe(2);
    expect(manager.status().connection).toMatchObject({ state: 'down', reason: 'connection refused' });
    store.delete('10.5.1.0-24');
    harness.putPeer('10.5.2.0/24', '192.0.2.8');
    harness.putPeer('10.5.4.0/24', '192.0.2.4');
    store.comeBack();
    await clock.advance(10_000);
    expect(announcements).toHaveLength(1);
    expect([...running.peers]).toEqual([
      ['10.5.2.0/24', '192.0.2.8'],
      ['10.5.4.0/24', '192.0.2.4'],
    ]);
    expect(manager.status().connection.state).toBe('up');
  });

  it('lists again after a compaction, without calling that a lost connection', async () => {
    const running = await harness.running();
    store.compact();
    harness.putPeer('10.5.4.0/24', '192.0.2.4');
    await clock.advance(10_000);
    expect([...running.peers.keys()]).toEqual(['10.5.4.0/24']);
    expect(running.events).not.toContain('down');
  });

  it('does not spin when every watch ends at once', async () => {
    await harness.running();
    vi.spyOn(store, 'watch').mockImplementation((options) => {
      options.onEstablished?.();
      return Promise.reject(new CompactedError(options.after));
    });
    store.disconnect('once');
    store.calls.length = 0;
    await clock.advance(MINUTE);
    expect(store.calls.filter((call) => call === 'list').length).toBeLessThan(25);
  });

  it('logs one malformed lease once, leaves the others alone and what it knew of that key', async () => {
    harness.putPeer('10.5.1.0/24', '192.0.2.2');
    harness.putPeer('10.5.2.0/24', '192.0.2.3');
    const running = await harness.running();
    const { manager } = running;
    store.put('10.5.1.0-24', 'garbage');
    store.put('nonsense', '{}');
    await clock.advance(100);
    store.disconnect('gone');
    await clock.advance(10_000);
    store.disconnect('gone');
    await clock.advance(10_000);
    expect(running.peers.size).toBe(2);
    expect(running.announcements).toEqual([]);
    expect(
      harness.warnings.filter((line) => line.message.includes('cannot be read')).map((line) => line.fields.key),
    ).toEqual(['10.5.1.0-24', 'nonsense']);
    expect(manager.status().malformed.map(({ key }) => key)).toEqual(['10.5.1.0-24', 'nonsense']);
    store.delete('nonsense');
    harness.putPeer('10.5.1.0/24', '192.0.2.9');
    await clock.advance(100);
    expect(manager.status().malformed).toEqual([]);
    expect(running.peers.get('10.5.1.0/24')).toBe('192.0.2.9');
  });
});

describe('a changed config', () => {
  it('is announced, and the one in force stays', async () => {
    const { manager } = await harness.running();
    const seen: string[] = [];
    manager.on('config', (config) => seen.push(networkName(config)));
    store.setConfig('{"Network":"10.9.0.0/16"}');
    await settle();
    store.setConfig('{"Network":"10.9.0.0/31"}');
    await settle();
    store.disconnect('again');
    await clock.advance(10_000);
    expect(seen).toEqual(['10.9.0.0/16']);
    expect(networkName(manager.status().config as NetworkConfig)).toBe('10.5.0.0/16');
    expect(harness.warnings.filter((line) => line.message.includes('config was changed'))).toHaveLength(2);
  });
});
