/** What becomes of the kernel path when it is wanted, refused, put back and doubted; the kernel itself is scripted. */
import { EventEmitter } from 'node:events';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { KernelPathKeeper, type KernelPathTools } from '../../../../src/backend/udp/kernel-path-keeper.js';
import { takesUnfinished, unfinishedData } from '../../../../src/backend/udp/lease-data.js';
import type { KernelPathWish } from '../../../../src/backend/udp/options.js';
import { silentLogger } from '../../../../src/base/log.js';
import type { Device, Run } from '../../../../src/kernel-path/attachment.js';
import type { Firewall } from '../../../../src/kernel-path/firewall.js';
import type { KernelPathOptions, PathPeer } from '../../../../src/kernel-path/kernel-path.js';
import { address, leaseOf, prefix } from '../support.js';

const CLEAR: Firewall = { rules: '', liberal: false };
const STATES: Firewall = { rules: '-A FORWARD -m conntrack --ctstate INVALID -j DROP', liberal: false };
const FILTER: Firewall = { rules: ':FORWARD DROP', liberal: false };

/** What happened to the kernel path, in order. */
let events: string[];
let told: readonly PathPeer[];
let firewall: Firewall;
let refuse: (mode: string) => string;
let refusePeers: string;
let takenOff: readonly string[];
let now: number;
/** Each call about bridges. */
let bridges: string[];
beforeEach(() => {
  events = [];
  told = [];
  firewall = CLEAR;
  refuse = () => '';
  refusePeers = '';
  takenOff = [];
  now = 0;
  bridges = [];
  printed = {};
});

/** What `ip` and `bridge` print, by their second last word; tables are empty otherwise. */
let printed: Readonly<Record<string, unknown>>;
const run: Run = async (argv) => ({
  status: 0,
  stdout: JSON.stringify(printed[argv.at(-2) ?? ''] ?? []),
  stderr: '',
});
/** A bridge and a container behind it. */
const BEHIND_BRIDGE = {
  link: [
    {
      ...{ ifindex: 8, ifname: 'br0', flags: ['UP'], qdisc: 'noqueue', address: '02:00:00:00:00:01' },
      linkinfo: { info_kind: 'bridge' },
    },
    {
      ...{ ifindex: 9, ifname: 'vc', flags: ['UP', 'LOWER_UP'], qdisc: 'noqueue', master: 'br0', link_netnsid: 0 },
      linkinfo: { info_kind: 'veth', info_slave_data: { state: 'forwarding' } },
    },
  ],
  neighbour: [{ dst: '10.5.1.2', dev: 'br0', lladdr: '02:00:00:00:00:02', state: ['STALE'] }],
  fdb: [{ mac: '02:00:00:00:00:02', ifname: 'vc', master: 'br0' }],
};
const path = (mode: string) => ({
  setPeers: (peers: readonly PathPeer[]) => {
    if (refusePeers !== '') throw new Error(refusePeers);
    told = peers;
    return [];
  },
  setContainers: () => [],
  keepBridges: async (devices: readonly Device[]) => {
    bridges.push(devices.map(({ name, index }) => `${name} ${index}`).join());
    return [];
  },
  forgetFlows: () => void events.push('forget flows'),
  mend: async () => takenOff,
  stop: async () => void events.push(`stop ${mode}`),
  leave: async () => void events.push(`leave ${mode}`),
  holds: () => new Map([[mode, 5]]),
  counters: () => ({ totals: { tx_packets: 5, rx_packets: 7 }, drops: { rx_ttl_zero: 1 }, pastBridge: 2 }),
  peers: () => [],
  status: () => ({ bridges: { spared: ['br0'], reason: '' }, merging: { into: '', reason: '' } }),
});
const tools: KernelPathTools = {
  start: async ({ mode }: KernelPathOptions) => {
    const reason = refuse(mode);
    if (reason !== '') throw new Error(reason);
    events.push(`start ${mode}`);
    return path(mode) as unknown as Awaited<ReturnType<KernelPathTools['start']>>;
  },
  run,
  firewall: async () => firewall,
  pathMtu: (to) => (to === address('192.0.2.3') ? 1400 : 0),
  now: () => now,
  readStatistics: () => '',
  monitor: () => Object.assign(new EventEmitter(), { stdout: null, unref: () => {}, kill: () => true }) as never,
};

const keeperOf = (wanted: KernelPathWish, checkSenders = true, former: { end(): Promise<void> } | null = null) =>
  new KernelPathKeeper(
    {
      wanted,
      checkSenders,
      log: silentLogger(),
      underlayMtu: 1500,
      former,
      sole: true,
      path: {
        underlay: { name: 'eth0', index: 2, address: address('192.0.2.1') },
        tun: { name: 'flannel0', index: 3 },
        network: prefix('10.5.0.0/16'),
        subnet: prefix('10.5.1.0/24'),
        port: 8285,
      },
    },
    tools,
  );
const leases = [
  leaseOf('10.5.2.0/24', '192.0.2.2', { backendData: unfinishedData }),
  leaseOf('10.5.3.0/24', '192.0.2.3'),
];
const state = (keeper: KernelPathKeeper) => {
  const { inForce, reason } = keeper.features()[0]!;
  return [inForce, reason];
};

describe('the kernel path', () => {
  it.each<[KernelPathWish, string[]]>([
    ['off', []],
    ['route', ['start route']],
    ['direct', ['start direct']],
    ['auto', ['start direct']],
  ])('is as it is wanted: %s', async (wanted, started) => {
    const keeper = keeperOf(wanted);
    await keeper.keep(leases);
    await keeper.keep(leases);
    expect(events).toEqual(started);
    expect(state(keeper)).toEqual([started[0]?.slice(6) ?? 'off', '']);
    await keeper.stop();
    await keeper.keep(leases);
    expect(events).toEqual([...started, ...started.map((event) => event.replace('start', 'stop'))]);
  });

  it('is told each peer with the width of its path, and whether it takes what is unfinished', async () => {
    await keeperOf('route').keep(leases);
    expect(told).toEqual([
      { subnet: prefix('10.5.2.0/24'), publicIp: address('192.0.2.2'), pathMtu: 1500, kernelPath: true },
      { subnet: prefix('10.5.3.0/24'), publicIp: address('192.0.2.3'), pathMtu: 1400, kernelPath: false },
    ]);
  });

  it('is not there where senders are not checked', async () => {
    const keeper = keeperOf('route', false);
    await keeper.keep(leases);
    expect(events).toEqual([]);
    expect(state(keeper)).toEqual(['off', expect.stringMatching(/checks senders/)]);
  });

  it('is counted with what user space counts, and its share by itself', async () => {
    const keeper = keeperOf('route');
    expect(keeper.counted()).toEqual({
      totals: { kernel_tx_packets: 0, kernel_rx_packets: 0, kernel_past_bridge: 0 },
      drops: { rx_merge_queue_full: 0 },
    });
    await keeper.keep(leases);
    expect(keeper.counted()).toEqual({
      totals: { tx_packets: 5, rx_packets: 7, kernel_tx_packets: 5, kernel_rx_packets: 7, kernel_past_bridge: 2 },
      drops: { rx_ttl_zero: 1, rx_merge_queue_full: 0 },
    });
  });

  it('is told the bridges that containers are behind, at once and with every resync', async () => {
    const keeper = keeperOf('route');
    await keeper.keep(leases);
    expect(bridges).toEqual(['']);
    printed = BEHIND_BRIDGE;
    await keeper.keep(leases);
    await keeper.keep(leases);
    expect(bridges).toEqual(['', 'br0 8', 'br0 8', 'br0 8']);
    expect(keeper.features()[1]).toEqual({ name: 'kernel_path_bridges', wanted: 'auto', inForce: 'br0', reason: '' });
  });

  it('says what had to be put back', async () => {
    const keeper = keeperOf('route');
    takenOff = ['a program'];
    expect(await keeper.keep(leases)).toEqual(['a program']);
  });
});

describe('what a former process left', () => {
  const former = () => ({ end: async () => void events.push(`end former, peers told: ${told.length}`) });

  it('goes when its own programs know the peers, once', async () => {
    const keeper = keeperOf('route', true, former());
    await keeper.keep(leases);
    await keeper.keep(leases);
    expect(events).toEqual(['start route', 'end former, peers told: 2']);
  });

  it.each<[string, KernelPathWish, boolean]>([
    ['is not wanted', 'off', true],
    ['may not be there', 'route', false],
    ['is refused', 'route', true],
  ])('goes where a kernel path %s', async (_, wanted, checkSenders) => {
    refuse = () => 'EPERM';
    const keeper = keeperOf(wanted, checkSenders, former());
    await keeper.keep(leases);
    await keeper.keep(leases);
    await vi.waitFor(() => expect(events).toEqual(['end former, peers told: 0']));
  });

  it('may be what this one leaves: only its end says so', async () => {
    const keeper = keeperOf('route');
    expect([...keeper.holds()]).toEqual([]);
    await keeper.keep(leases);
    expect([...keeper.holds()]).toEqual([['route', 5]]);
    await keeper.stop(true);
    expect([...keeper.holds()]).toEqual([]);
    expect(events).toEqual(['start route', 'leave route']);
  });
});

describe('when the kernel refuses', () => {
  it('it says why, and tries again after a minute', async () => {
    refuse = () => 'EPERM; give it the right';
    const keeper = keeperOf('route');
    await keeper.keep(leases);
    expect(state(keeper)).toEqual(['off', 'EPERM; give it the right']);
    refuse = () => '';
    now = 59_000;
    await keeper.keep(leases);
    expect(state(keeper)).toEqual(['off', 'EPERM; give it the right']);
    now = 60_000;
    await keeper.keep(leases);
    expect(state(keeper)).toEqual(['route', '']);
  });

  it.each(['direct', 'auto'] as const)('%s goes by route instead, with the reason', async (wanted) => {
    refuse = (mode) => (mode === 'direct' ? 'no types' : '');
    const keeper = keeperOf(wanted);
    await keeper.keep(leases);
    await keeper.keep(leases);
    expect(events).toEqual(['start route']);
    expect(state(keeper)).toEqual(['route', 'no types']);
  });

  it('even to delete a peer, it is stopped, and user space has all', async () => {
    const keeper = keeperOf('route');
    await keeper.keep(leases);
    refusePeers = 'cannot delete';
    await keeper.keep(leases);
    expect(events).toEqual(['start route', 'stop route']);
    expect(state(keeper)).toEqual(['off', 'cannot delete']);
  });
});

describe('the rules of the host', () => {
  it.each([
    ['direct', STATES, 'route', /asks for the state/],
    ['auto', STATES, 'route', /asks for the state/],
    ['auto', FILTER, 'route', /filters forwarded packets/],
    ['direct', FILTER, 'direct', /^$/],
    ['route', STATES, 'route', /^$/],
  ] as const)('decide about %s', async (wanted, rules, mode, reason) => {
    firewall = rules;
    const keeper = keeperOf(wanted);
    await keeper.keep(leases);
    expect(state(keeper)).toEqual([mode, expect.stringMatching(reason)]);
  });

  it('may change: flows begin anew, and the mode follows', async () => {
    const keeper = keeperOf('auto');
    await keeper.keep(leases);
    firewall = { rules: '-A INPUT -j ACCEPT', liberal: false };
    await keeper.keep(leases);
    expect(events).toEqual(['start direct']);
    now = 30_000;
    await keeper.keep(leases);
    expect(events).toEqual(['start direct', 'forget flows']);
    firewall = STATES;
    now = 60_000;
    await keeper.keep(leases);
    expect(events).toEqual(['start direct', 'forget flows', 'forget flows', 'stop direct', 'start route']);
    firewall = CLEAR;
    now = 90_000;
    await keeper.keep(leases);
    expect(state(keeper)).toEqual(['direct', '']);
  });
});

it.each([
  [unfinishedData, true],
  [{ takesunfinished: true }, true],
  [undefined, false],
  [null, false],
  ['yes', false],
  [{ TakesUnfinished: 'true' }, false],
  [{ VNI: 1 }, false],
])('a lease that says %j takes what is unfinished: %s', (backendData, takes) => {
  expect(takesUnfinished({ publicIp: 1, publicIpv6: null, backendData })).toBe(takes);
});
