import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { formatPrefix, type Prefix } from '../../../src/base/ipv4.js';
import { CompactedError } from '../../../src/subnet/errors.js';
import { type FakeClock, settle } from '../../support/fake-clock.js';
import { HOUR, ManagerHarness, MINUTE, SELF } from '../../support/manager-harness.js';
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
  it('announces all that are there in one batch, without itself', async () => {
    harness.putPeer('10.5.1.0/24', '192.0.2.2');
    harness.putPeer('10.5.2.0/24', '192.0.2.3');
    const { batches, peers } = await harness.running();
    expect(batches).toHaveLength(1);
    expect([...peers]).toEqual([
      ['10.5.1.0/24', '192.0.2.2'],
      ['10.5.2.0/24', '192.0.2.3'],
    ]);
  });

  it('announces that there are none, once', async () => {
    const { batches } = await harness.running();
    expect(batches).toEqual([[]]);
    store.goDown('connection refused');
    await clock.advance(HOUR);
    store.comeBack();
    await clock.advance(HOUR);
    expect(batches).toEqual([[]]);
  });

  it('announces thousands of changes in one batch', async () => {
    const { batches, peers } = await harness.running();
    for (let i = 0; i < 200; i++) harness.putPeer(`10.5.${i + 50}.0/24`, `192.0.3.${i}`);
    await clock.advance(100);
    expect(batches.map((batch) => batch.length)).toEqual([0, 200]);
    for (let i = 0; i < 200; i++) store.delete(`10.5.${i + 50}.0-24`);
    await clock.advance(100);
    expect(batches.map((batch) => batch.length)).toEqual([0, 200, 200]);
    expect(peers.size).toBe(0);
  });

  it('announces a changed address, but not a renewal', async () => {
    harness.putPeer('10.5.1.0/24', '192.0.2.2');
    const { batches } = await harness.running();
    harness.putPeer('10.5.1.0/24', '192.0.2.2');
    await clock.advance(100);
    expect(batches).toHaveLength(1);
    harness.putPeer('10.5.1.0/24', '192.0.2.7');
    await clock.advance(100);
    expect(batches[1]?.map((change) => change.kind)).toEqual(['changed']);
  });

  it('keeps the peers while the registry is away and announces the full difference after it', async () => {
    harness.putPeer('10.5.1.0/24', '192.0.2.2');
    harness.putPeer('10.5.2.0/24', '192.0.2.3');
    const { batches, peers, manager } = await harness.running();
    store.goDown('connection refused');
    await clock.advance(HOUR);
    expect(peers.size).toBe(2);
    expect(manager.status().connection).toMatchObject({ state: 'down', reason: 'connection refused' });
    store.delete('10.5.1.0-24');
    harness.putPeer('10.5.2.0/24', '192.0.2.8');
    harness.putPeer('10.5.4.0/24', '192.0.2.4');
    store.comeBack();
    await clock.advance(10_000);
    expect(batches).toHaveLength(2);
    expect(batches[1]?.map(({ kind, lease }) => `${kind} ${formatPrefix(lease.subnet)}`)).toEqual([
      'removed 10.5.1.0/24',
      'changed 10.5.2.0/24',
      'added 10.5.4.0/24',
    ]);
    expect(manager.status().connection.state).toBe('up');
  });

  it('lists again after a compaction, without calling that a lost connection', async () => {
    const { peers, events } = await harness.running();
    store.compact();
    harness.putPeer('10.5.4.0/24', '192.0.2.4');
    await clock.advance(10_000);
    expect([...peers.keys()]).toEqual(['10.5.4.0/24']);
    expect(events).not.toContain('down');
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
    const { peers, batches, manager } = await harness.running();
    store.put('10.5.1.0-24', 'garbage');
    store.put('nonsense', '{}');
    await clock.advance(100);
    store.disconnect('gone');
    await clock.advance(10_000);
    store.disconnect('gone');
    await clock.advance(10_000);
    expect(peers.size).toBe(2);
    expect(batches).toHaveLength(1);
    expect(
      harness.warnings.filter((line) => line.message.includes('cannot be read')).map((line) => line.fields.key),
    ).toEqual(['10.5.1.0-24', 'nonsense']);
    expect(manager.status().malformed.map(({ key }) => key)).toEqual(['10.5.1.0-24', 'nonsense']);
    store.delete('nonsense');
    harness.putPeer('10.5.1.0/24', '192.0.2.9');
    await clock.advance(100);
    expect(manager.status().malformed).toEqual([]);
    expect(peers.get('10.5.1.0/24')).toBe('192.0.2.9');
  });

  it('never takes a lease under its own address for a peer', async () => {
    const { peers } = await harness.running();
    harness.putPeer('10.5.50.0/24', SELF);
    harness.putPeer('10.5.51.0/24', '192.0.2.2');
    await clock.advance(100);
    expect([...peers.keys()]).toEqual(['10.5.51.0/24']);
    harness.putPeer('10.5.51.0/24', SELF);
    await clock.advance(100);
    expect([...peers.keys()]).toEqual([]);
  });

  it('warns once about a lease that overlaps its own', async () => {
    const { peers } = await harness.running();
    harness.putPeer('10.5.0.0/20', '192.0.2.2');
    await clock.advance(100);
    harness.putPeer('10.5.0.0/20', '192.0.2.2');
    await clock.advance(100);
    expect([...peers.keys()]).toEqual(['10.5.0.0/20']);
    expect(harness.warnings.filter((line) => line.message.includes('overlaps'))).toHaveLength(1);
  });
});

describe('a changed config', () => {
  it('is announced, and the one in force stays', async () => {
    const { manager } = await harness.running();
    const seen: string[] = [];
    manager.on('config', (config) => seen.push(formatPrefix(config.network)));
    store.setConfig('{"Network":"10.9.0.0/16"}');
    await settle();
    store.setConfig('{"Network":"10.9.0.0/31"}');
    await settle();
    store.disconnect('again');
    await clock.advance(10_000);
    expect(seen).toEqual(['10.9.0.0/16']);
    expect(formatPrefix(manager.status().config?.network as Prefix)).toBe('10.5.0.0/16');
    expect(harness.warnings.filter((line) => line.message.includes('config was changed'))).toHaveLength(2);
  });
});
