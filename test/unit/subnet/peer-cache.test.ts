import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type CachedState, CacheWriter, PeerCache } from '../../../src/subnet/leases/peer-cache.js';
import { parseNetworkConfig } from '../../../src/subnet/network-config/config.js';
import { FakeClock } from '../../support/fake-clock.js';
import { recordingLogger } from '../../support/manager-harness.js';
import { host, subnet, subnets } from '../../support/registry-suite.js';

const CONFIG = '{"Network":"10.5.0.0/16"}';
const state: CachedState = {
  configJson: CONFIG,
  config: parseNetworkConfig(CONFIG),
  own: {
    key: '10.5.1.0-24',
    subnet: subnet('10.5.1.0/24'),
    subnetV6: null,
    attributes: host('192.0.2.1'),
    reservation: false,
    version: '',
    expiresAt: 1_700_000_000_000,
  },
  peers: [
    {
      key: '10.5.2.0-24',
      subnet: subnet('10.5.2.0/24'),
      subnetV6: null,
      attributes: host('192.0.2.2'),
      expiresAt: null,
    },
    {
      key: '10.5.3.0-24&fd00::-64',
      ...subnets('10.5.3.0/24', 'fd00::/64'),
      attributes: { ...host('192.0.2.3'), publicIpv6: 5n, backendType: 'vxlan', backendData: { VNI: 1 } },
      expiresAt: null,
    },
    {
      key: 'fd00:0:0:1::-64',
      ...subnets(null, 'fd00:0:0:1::/64'),
      attributes: { publicIp: 0, publicIpv6: 7n },
      expiresAt: null,
    },
  ],
  savedAt: 1_700_000_000_123,
  ofThisRegistry: true,
};

let directory: string;
let path: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tweed-cache-'));
  path = join(directory, 'deep', 'state.json');
});

afterEach(() => rm(directory, { recursive: true }));

it('gives back what was saved, to root only', async () => {
  const { log, lines } = recordingLogger();
  const cache = new PeerCache(path, log);
  await cache.save(state);
  expect(await cache.load()).toEqual(state);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  await cache.clear();
  await cache.clear();
  expect(await cache.load()).toBeNull();
  expect(lines).toEqual([]);
});

it('logs why a file cannot be used, whatever stands in it, and never throws', async () => {
  const { log, lines } = recordingLogger();
  const file = join(directory, 'state.json');
  const cache = new PeerCache(file, log);
  const good = new PeerCache(join(directory, 'good.json'), log);
  await good.save(state);
  const text = await readFile(good.path, 'utf8');
  const value = JSON.parse(text) as Record<string, unknown>;
  for (const bad of [
    '',
    'garbage',
    'null',
    '[]',
    text.slice(0, text.length / 2),
    JSON.stringify({ ...value, format: 99 }),
    JSON.stringify({ ...value, config: '{"Network":"10.5.0.0/31"}' }),
    JSON.stringify({ ...value, config: 7 }),
    JSON.stringify({ ...value, own: null }),
    JSON.stringify({ ...value, own: { ...(value.own as object), expiresAt: 'soon' } }),
    JSON.stringify({ ...value, own: { ...(value.own as object), subnet: '10.5.1.0' } }),
    JSON.stringify({ ...value, peers: {} }),
    JSON.stringify({ ...value, peers: [{ key: 'a', subnet: '10.5.1.0/24', value: '[]' }] }),
    JSON.stringify({ ...value, peers: [7] }),
    JSON.stringify({ ...value, savedAt: null }),
  ]) {
    lines.length = 0;
    await writeFile(file, bad);
    expect(await cache.load(), bad).toBeNull();
    expect(lines.map((line) => line.message)).toEqual(['the saved last known state cannot be used']);
  }
  await fc.assert(
    fc.asyncProperty(fc.jsonValue(), async (garbage) => {
      await writeFile(file, JSON.stringify(garbage));
      expect(await cache.load()).toBeNull();
    }),
    { numRuns: 30 },
  );
});

it('only logs when it cannot save', async () => {
  const { log, lines } = recordingLogger();
  await writeFile(join(directory, 'deep'), 'a file where a directory should be');
  const cache = new PeerCache(path, log);
  expect([await cache.save(state), await cache.save(state)]).toEqual([false, false]);
  await rm(join(directory, 'deep'));
  expect(await cache.save(state)).toBe(true);
  const what = `saving the last known state in ${path}`;
  expect(lines.map((line) => line.message)).toEqual([
    expect.stringMatching(`^${what}: EEXIST.*\\(will be tried again\\)$`),
    `${what}: works again`,
  ]);
});

it('saves a little later, once for many changes, and at the end what is left', async () => {
  const clock = new FakeClock();
  const saved: number[] = [];
  let savedAt = 0;
  const cache = {
    save: async (present: { savedAt: number }) => {
      saved.push(present.savedAt);
      return true;
    },
  } as unknown as PeerCache;
  const writer = new CacheWriter(cache, clock, () => ({ ...state, savedAt }));
  for (savedAt = 1; savedAt <= 100; savedAt++) {
    writer.touch();
    await clock.advance(10);
  }
  await clock.advance(5_000);
  expect(saved).toEqual([101]);
  savedAt = 200;
  writer.touch();
  await writer.close();
  expect(saved).toEqual([101, 200]);
});

it('tries again to save what could not be saved, also when nothing changes any more', async () => {
  const clock = new FakeClock();
  let room = false;
  let saves = 0;
  const cache = {
    save: async () => {
      saves++;
      return room;
    },
  } as unknown as PeerCache;
  const writer = new CacheWriter(cache, clock, () => state);
  writer.touch();
  for (let i = 0; i < 30; i++) await clock.advance(1_000);
  const failed = saves;
  expect(failed).toBeGreaterThan(1);
  room = true;
  for (let i = 0; i < 60; i++) await clock.advance(1_000);
  expect(saves).toBe(failed + 1);
  room = false;
  writer.touch();
  await writer.close(); // ends although there is no room
});
