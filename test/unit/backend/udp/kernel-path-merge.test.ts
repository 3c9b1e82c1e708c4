/** What the keeper of the kernel path makes of merging: what it says of it, what it counts, and what it removes that was left. */
import { EventEmitter } from 'node:events';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { KernelPathKeeper, type KernelPathTools } from '../../../../src/backend/udp/kernel-path-keeper.js';
import type { KernelPathWish } from '../../../../src/backend/udp/options.js';
import { silentLogger } from '../../../../src/base/log.js';
import type { Run } from '../../../../src/kernel-path/attachment.js';
import type { MergingStatus } from '../../../../src/kernel-path/merging.js';
import { FakeLinks } from '../../kernel-path/support/fake-links.js';
import { address, leaseOf, prefix } from '../support.js';

const into = 'tweed8285-in';
const out = 'tweed8285-out';

let merging: MergingStatus;
let refuse: string;
let host: FakeLinks;
/** How many packets each device has dropped on its way out, by its name. */
let dropped: Readonly<Record<string, number>>;
let statistics: string[];
let unreadable: string;
let events: string[];
let now: number;
beforeEach(() => {
  merging = { into: '', reason: '' };
  refuse = '';
  host = new FakeLinks();
  host.add('eth0', '');
  dropped = {};
  statistics = [];
  unreadable = '';
  events = [];
  now = 0;
});

/** As /proc/net/dev has it: sixteen columns, names to the right. */
function procNetDev(): string {
  const lines = [...host.links.keys()].map((name, i) => {
    const columns = Array.from({ length: 16 }, (_, column) =>
      column === 11 ? (dropped[name] ?? 0) : 1000 * i + column,
    );
    return `${name.padStart(6)}: ${columns.join(' ')}`;
  });
  return [
    'Inter-|   Receive                                                |  Transmit',
    ' face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed',
    ...lines,
    '',
  ].join('\n');
}

const run: Run = async (argv, tolerate) => {
  if (argv[0] === 'ip' && argv.includes(into)) return host.run(argv, tolerate);
  return { status: 0, stdout: '[]', stderr: '' };
};
const path = {
  setPeers: () => [],
  setContainers: () => [],
  keepBridges: async () => [],
  mend: async () => [],
  stop: async () => {
    merging = { into: '', reason: '' };
  },
  counters: () => ({ totals: { tx_packets: 5 }, drops: { rx_ttl_zero: 1 }, pastBridge: 0 }),
  status: () => ({ bridges: { spared: [], reason: '' }, merging }),
};
const tools: KernelPathTools = {
  start: async () => {
    if (refuse !== '') throw new Error(refuse);
    events.push('start');
    return path as unknown as Awaited<ReturnType<KernelPathTools['start']>>;
  },
  run,
  firewall: async () => ({ rules: '', liberal: false }),
  pathMtu: () => 0,
  now: () => now,
  readStatistics: (file) => {
    statistics.push(file);
    if (unreadable !== '') throw new Error(unreadable);
    return procNetDev();
  },
  monitor: () => Object.assign(new EventEmitter(), { stdout: null, unref: () => {}, kill: () => true }) as never,
};

interface Changes {
  readonly wanted?: KernelPathWish;
  readonly merge?: boolean;
  readonly checkSenders?: boolean;
  readonly sole?: boolean;
  readonly port?: number;
  readonly former?: { end(): Promise<void> };
}
const keeperOf = ({ wanted = 'route', merge, checkSenders = true, sole = true, port = 8285, former }: Changes = {}) =>
  new KernelPathKeeper(
    {
      wanted,
      checkSenders,
      log: silentLogger(),
      underlayMtu: 1500,
      former: former ?? null,
      sole,
      path: {
        underlay: { name: 'eth0', index: 2, address: address('192.0.2.1') },
        tun: { name: 'flannel0', index: 3 },
        network: prefix('10.5.0.0/16'),
        subnet: prefix('10.5.1.0/24'),
        port,
        ...(merge === undefined ? {} : { merge }),
      },
    },
    tools,
  );
const leases = [leaseOf('10.5.2.0/24', '192.0.2.2')];
/** What was removed, and nothing else changed. */
const removed = () => host.log.filter((line) => line.startsWith('ip link '));
const REMOVED = [`ip link del ${into}`];

describe('the feature', () => {
  const feature = (keeper: KernelPathKeeper) => keeper.features().find(({ name }) => name === 'kernel_path_merge');

  it.each<[string, MergingStatus, boolean | undefined, unknown]>([
    ['on', { into, reason: '' }, true, { wanted: 'auto', inForce: 'on', reason: '' }],
    ['on where nothing is said', { into, reason: '' }, undefined, { wanted: 'auto', inForce: 'on', reason: '' }],
    [
      'off, with the reason',
      { into: '', reason: 'no veth' },
      true,
      { wanted: 'auto', inForce: 'off', reason: 'no veth' },
    ],
    ['off, as wanted', { into: '', reason: '' }, false, { wanted: 'off', inForce: 'off', reason: '' }],
  ])('is %s', async (_, status, merge, expected) => {
    merging = status;
    const keeper = keeperOf(merge === undefined ? {} : { merge });
    await keeper.keep(leases);
    expect(feature(keeper)).toEqual({ name: 'kernel_path_merge', ...(expected as object) });
  });

  it('follows what becomes of it', async () => {
    const keeper = keeperOf();
    await keeper.keep(leases);
    expect(feature(keeper)).toMatchObject({ inForce: 'off' });
    merging = { into, reason: '' };
    expect(feature(keeper)).toMatchObject({ inForce: 'on' });
  });

  it('is not told where there is no kernel path', async () => {
    const keeper = keeperOf({ wanted: 'off' });
    await keeper.keep(leases);
    expect(feature(keeper)).toBeUndefined();
    refuse = 'EPERM';
    const refused = keeperOf();
    await refused.keep(leases);
    expect(feature(refused)).toBeUndefined();
  });

  it('comes behind those of the path and its bridges', async () => {
    const keeper = keeperOf();
    await keeper.keep(leases);
    expect(keeper.features().map(({ name }) => name)).toEqual([
      'kernel_path',
      'kernel_path_bridges',
      'kernel_path_merge',
    ]);
  });
});

describe('what the queue of the device has dropped', () => {
  const full = (keeper: KernelPathKeeper) => keeper.counted().drops.rx_merge_queue_full;

  it('is counted among the drops, of that device and of no other', async () => {
    host.addPair(into, out);
    dropped = { eth0: 1, [into]: 7, [out]: 500 };
    merging = { into, reason: '' };
    const keeper = keeperOf();
    await keeper.keep(leases);
    expect(keeper.counted().drops).toEqual({ rx_ttl_zero: 1, rx_merge_queue_full: 7 });
    dropped = { [into]: 9 };
    expect(full(keeper)).toBe(9);
    expect([...new Set(statistics)]).toEqual(['dev']);
  });

  it.each<[string, MergingStatus]>([
    ['nothing is merged', { into: '', reason: '' }],
    ['it cannot be had', { into: '', reason: 'no veth' }],
  ])('is 0 where %s, whoever’s device that is', async (_, status) => {
    merging = status;
    const keeper = keeperOf({ sole: false });
    host.addPair(into, out);
    dropped = { [into]: 7 };
    await keeper.keep(leases);
    expect(full(keeper)).toBe(0);
  });

  it('is 0 where there is no kernel path, and where the device has just gone', async () => {
    expect(full(keeperOf({ wanted: 'off' }))).toBe(0);
    merging = { into, reason: '' };
    const keeper = keeperOf();
    await keeper.keep(leases);
    expect(full(keeper)).toBe(0);
  });

  it('is that of the port’s own device', async () => {
    host.addPair('tweed8300-in', 'tweed8300-out');
    host.addPair(into, out);
    dropped = { [into]: 7, 'tweed8300-in': 3 };
    merging = { into: 'tweed8300-in', reason: '' };
    const keeper = keeperOf({ port: 8300 });
    await keeper.keep(leases);
    expect(full(keeper)).toBe(3);
  });
});

describe('a pair that a killed process left', () => {
  beforeEach(() => host.addPair(into, out));

  it.each<[string, Changes]>([
    ['no kernel path is wanted', { wanted: 'off' }],
    ['there may be none', { checkSenders: false }],
    ['nothing is to be merged', { merge: false }],
    ['merging cannot be had', {}],
  ])('goes where %s, once', async (_, changes) => {
    const keeper = keeperOf(changes);
    await keeper.keep(leases);
    await vi.waitFor(() => expect(removed()).toEqual(REMOVED));
    expect([...host.links.keys()]).toEqual(['eth0']);
    host.addPair(into, out); // another one’s
    await keeper.keep(leases);
    await keeper.keep(leases);
    expect(removed()).toEqual(REMOVED);
  });

  it('goes where the kernel path is refused', async () => {
    refuse = 'EPERM';
    const keeper = keeperOf();
    await keeper.keep(leases);
    await vi.waitFor(() => expect(removed()).toEqual(REMOVED));
  });

  it('goes after the programs that sent into it', async () => {
    const former = {
      end: async () => {
        await Promise.resolve();
        events.push(`end former, pair there: ${host.links.has(into)}`);
      },
    };
    await keeperOf({ merge: false, former }).keep(leases);
    await vi.waitFor(() => expect(removed()).toEqual(REMOVED));
    expect(events).toEqual(['start', 'end former, pair there: true']);
  });

  it('is in use again where merging is in force', async () => {
    merging = { into, reason: '' };
    const keeper = keeperOf();
    await keeper.keep(leases);
    await keeper.keep(leases);
    expect(host.log).toEqual([]);
  });

  it('goes, and not that of another port which is in use', async () => {
    host.addPair('tweed8300-in', 'tweed8300-out');
    await keeperOf({ merge: false }).keep(leases);
    expect([...host.links.keys()]).toEqual(['eth0', 'tweed8300-in', 'tweed8300-out']);
  });

  it.each<Changes>([{ wanted: 'off' }, { merge: false }])(
    'stays where another daemon may use it: %j',
    async (changes) => {
      await keeperOf({ ...changes, sole: false }).keep(leases);
      await new Promise((resolve) => setImmediate(resolve));
      expect(host.log).toEqual([]);
      expect(statistics).toEqual([]);
    },
  );

  it('disturbs nothing where it cannot be looked for', async () => {
    unreadable = 'no descriptor is left';
    const keeper = keeperOf({ merge: false });
    await keeper.keep(leases);
    expect(keeper.features()[0]).toMatchObject({ inForce: 'route', reason: '' });
    expect(host.log).toEqual([]);
  });
});

describe('no such pair', () => {
  it.each<Changes>([{ wanted: 'off' }, { merge: false }, {}])(
    'is looked for without a command: %j',
    async (changes) => {
      await keeperOf(changes).keep(leases);
      await new Promise((resolve) => setImmediate(resolve));
      expect(statistics).toEqual(['dev']);
      expect(host.log).toEqual([]);
    },
  );

  it('is a device of somebody else’s that has the name: it stays', async () => {
    host.addPair(into, 'other');
    await keeperOf({ wanted: 'off' }).keep(leases);
    await vi.waitFor(() => expect(host.log).not.toEqual([]));
    await new Promise((resolve) => setImmediate(resolve));
    expect(removed()).toEqual([]);
    expect(host.links.has(into)).toBe(true);
  });
});
