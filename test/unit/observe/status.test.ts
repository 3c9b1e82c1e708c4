import { describe, expect, it } from 'vitest';
import { splitTotals } from '../../../src/observe/histograms.js';
import { renderMetrics } from '../../../src/observe/metrics.js';
import type { DaemonStatus } from '../../../src/observe/status.js';
import { formatBytes, formatCount, formatDuration } from '../../../src/operator/format.js';
import { renderStatus } from '../../../src/operator/status-text.js';

const now = Date.parse('2026-03-01T12:00:00Z');

const waiting: DaemonStatus = {
  schema: 1,
  version: '1.2.3',
  process: 4711,
  networkNamespace: 0,
  startedAt: '2026-03-01T11:59:30Z',
  phase: 'waiting',
  detail: 'waiting for the network configuration',
  ready: false,
  logLevel: 'info',
  network: null,
  networkV6: null,
  port: null,
  portV6: null,
  lease: null,
  underlay: null,
  registry: { kind: 'etcd', endpoints: ['http://10.0.0.9:2379'], connected: false, error: 'connection refused' },
  backend: null,
  warnings: [],
  repairs: 0,
  unforeseenErrors: 0,
  log: { lost: 0, waiting: 0, error: '' },
};

const running: DaemonStatus = {
  ...waiting,
  startedAt: '2026-03-01T09:00:00Z',
  phase: 'running',
  detail: '',
  ready: true,
  network: '100.96.0.0/16',
  networkV6: null,
  lease: {
    subnet: '100.96.42.0/24',
    subnetV6: null,
    publicIp: '203.0.113.7',
    publicIpv6: null,
    expiresAt: '2026-03-02T11:00:00Z',
    secondsLeft: 82_800,
    fromCache: false,
  },
  underlay: { interface: 'eth0', address: '192.168.77.1', addressV6: null, mtu: 1500 },
  registry: { kind: 'etcd', endpoints: ['http://10.0.0.9:2379'], connected: true, error: '' },
  backend: {
    type: 'udp',
    device: 'flannel0',
    mtu: 1472,
    peers: [
      {
        subnet: '100.96.100.0/24',
        subnetV6: null,
        publicIp: '192.168.77.3',
        publicIpv6: null,
        txPackets: 0,
        txBytes: 0,
        rxPackets: 0,
        rxBytes: 0,
        lastReceived: null,
      },
      {
        subnet: '100.96.96.0/24',
        subnetV6: null,
        publicIp: '192.168.77.2',
        publicIpv6: null,
        txPackets: 1200,
        txBytes: 1_500_000,
        rxPackets: 3,
        rxBytes: 252,
        lastReceived: now - 4200,
      },
    ],
    refused: [],
    features: [
      { name: 'udp_gso', wanted: 'auto', inForce: 'off', reason: 'the kernel "refused" it\\EIO' },
      { name: 'udp_gro', wanted: 'auto', inForce: 'on', reason: '' },
    ],
    totals: {
      tx_packets: 1200,
      tx_bytes: 1_500_000,
      rx_reads: 0,
      tx_segments_le_1: 7,
      tx_segments_le_2: 0,
      tx_segments_more: 2,
    },
    drops: { tx_no_route: 5, rx_short: 0 },
  },
  repairs: 2,
  unforeseenErrors: 1,
  log: { lost: 0, waiting: 0, error: '' },
};

describe('the status on a screen', () => {
  it('shows a running host', () => {
    expect(renderStatus(running, now, { verbose: true })).toBe(`\
tweed 1.2.3, process 4711, up 3 h, ready
  bugs       1, survived; see the log
  lease      100.96.42.0/24 of 100.96.0.0/16, 23 h left
  interface  flannel0, udp, MTU 1472
  underlay   eth0, 192.168.77.1, MTU 1500, public address 203.0.113.7
  registry   etcd http://10.0.0.9:2379, connected
  repairs    2

peers: 2
  subnet           public address  received          sent                     last packet
  100.96.96.0/24   192.168.77.2    3 packets  252 B  1,200 packets  1.43 MiB  4 s ago
  100.96.100.0/24  192.168.77.3    0 packets  0 B    0 packets      0 B       never

totals:
  tx packets  1,200
  tx bytes    1.43 MiB
  tx segments: 7 × ≤ 1, 2 × more

drops:
  tx no route  5

features:
  name     wanted  in force
  udp_gso  auto    off       the kernel "refused" it\\EIO
  udp_gro  auto    on
`);
  });

  it('keeps the inside for those who ask for it, and tells of what is not as wanted', () => {
    const text = renderStatus(running, now);
    expect(text).not.toContain('totals');
    expect(text).toContain('udp_gso  auto');
    expect(text).not.toContain('udp_gro');
    expect(text).toContain('drops:\n  tx no route  5');
  });

  it('names what it can name, and the port', () => {
    const text = renderStatus({ ...running, port: 8285 }, now, { names: new Map([['192.168.77.2', 'two']]) });
    expect(text).toContain('flannel0, udp, UDP port 8285, MTU 1472');
    expect(text).toMatch(/100\.96\.96\.0\/24 +192\.168\.77\.2 +two +3 packets/);
  });

  it('shows rates where there is an earlier one', () => {
    const backend = running.backend!;
    const [first, ...others] = backend.peers;
    const later = {
      ...first!,
      rxPackets: first!.rxPackets! + 20,
      rxBytes: first!.rxBytes! + 25_000,
      txPackets: 0,
      txBytes: 0,
    };
    const status = { ...running, backend: { ...backend, peers: [later, ...others] } };
    const text = renderStatus(status, now, { earlier: { status: running, milliseconds: 2000 } });
    expect(text).toMatch(/10 packets\/s +100 kbit\/s +0 packets\/s +0 bit\/s/);
  });

  it('shows what a host waits for', () => {
    expect(renderStatus(waiting, now)).toBe(`\
tweed 1.2.3, process 4711, up 30 s, waiting: waiting for the network configuration
  registry  etcd http://10.0.0.9:2379, NOT connected: connection refused
`);
  });

  it('tells of a lease that has expired, and of what else is amiss', () => {
    const expired = { ...running, lease: { ...running.lease!, secondsLeft: 0 }, warnings: ['no way; make one'] };
    const text = renderStatus(expired, now);
    expect(text).toContain('100.96.0.0/16, expired\n');
    expect(text).toContain('  warning    no way; make one\n');
  });

  it('tells of a reservation and of a lease from the cache', () => {
    const reserved = { ...running, lease: { ...running.lease!, expiresAt: null, secondsLeft: null, fromCache: true } };
    expect(renderStatus(reserved, now)).toContain('100.96.0.0/16, reserved, does not expire, from the cache\n');
  });
});

/** The kernel forwards for vxlan and host-gw, and does not count by peer. */
const uncounted: DaemonStatus = {
  ...running,
  backend: {
    type: 'vxlan',
    device: 'flannel.1',
    mtu: 1450,
    peers: [
      {
        subnet: '100.96.96.0/24',
        subnetV6: null,
        publicIp: '192.168.77.2',
        publicIpv6: null,
        txPackets: null,
        txBytes: null,
        rxPackets: null,
        rxBytes: null,
        lastReceived: null,
      },
    ],
    refused: [],
    features: [],
    totals: { tx_packets: 7 },
    drops: { tx_dropped: 0 },
  },
};

describe('peers that nobody counts for', () => {
  it('are shown without numbers', () => {
    const [, table = ''] = renderStatus(uncounted, now).split('\n\n');
    expect(table).toBe(`\
peers: 1
  subnet          public address  received    sent    last packet
  100.96.96.0/24  192.168.77.2    –           –       –`);
  });

  it('say what the few drops are that every host has', () => {
    const backend = uncounted.backend as NonNullable<DaemonStatus['backend']>;
    const shown = renderStatus({ ...uncounted, backend: { ...backend, drops: { tx_dropped: 12, rx_errors: 3 } } }, now);
    expect(shown).toMatch(/^ {2}tx dropped {2}12 {2}nothing is wrong with a few: .*multicast/m);
    expect(shown).toMatch(/^ {2}rx errors {3}3$/m);
  });

  it('are counted as peers, and have no other metrics', async () => {
    const metrics = await renderMetrics(uncounted);
    expect(metrics).toContain('tweed_peers 1');
    expect(metrics).toContain('# HELP tweed_peers Subnets of other hosts that packets can be sent to.');
    expect(metrics).toContain('tweed_tx_packets_total 7');
    expect(metrics).not.toContain('tweed_peer_');
  });
});

describe('the metrics', () => {
  it('say what the status says', async () => {
    const lines = (await renderMetrics(running)).split('\n');
    for (const line of [
      'tweed_info{version="1.2.3"} 1',
      'tweed_ready 1',
      'tweed_phase_info{phase="running"} 1',
      'tweed_lease_from_cache 0',
      `tweed_start_time_seconds ${Date.parse('2026-03-01T09:00:00Z') / 1000}`,
      'tweed_registry_connected{kind="etcd"} 1',
      'tweed_repairs_total 2',
      'tweed_warnings 0',
      'tweed_unforeseen_errors_total 1',
      'tweed_lease_info{subnet="100.96.42.0/24",subnet_v6="",public_ip="203.0.113.7",public_ipv6="",network="100.96.0.0/16",network_v6=""} 1',
      `tweed_lease_expiry_time_seconds ${Date.parse('2026-03-02T11:00:00Z') / 1000}`,
      'tweed_device_mtu_bytes{device="flannel0",backend="udp"} 1472',
      'tweed_tx_packets_total 1200',
      'tweed_rx_reads_total 0',
      'tweed_dropped_packets_total{reason="tx_no_route"} 5',
      'tweed_dropped_packets_total{reason="rx_short"} 0',
      'tweed_peers 2',
      'tweed_peer_transmit_bytes_total{peer="192.168.77.2",subnet="100.96.96.0/24"} 1500000',
      'tweed_peer_receive_packets_total{peer="192.168.77.3",subnet="100.96.100.0/24"} 0',
      `tweed_peer_last_receive_time_seconds{peer="192.168.77.2",subnet="100.96.96.0/24"} ${(now - 4200) / 1000}`,
      'tweed_feature_info{feature="udp_gro",wanted="auto",in_force="on",reason=""} 1',
      'tweed_feature_info{feature="udp_gso",wanted="auto",in_force="off",reason="the kernel \\"refused\\" it\\\\EIO"} 1',
      '# TYPE tweed_tx_segments histogram',
      'tweed_tx_segments_bucket{le="1"} 7',
      'tweed_tx_segments_bucket{le="2"} 7',
      'tweed_tx_segments_bucket{le="+Inf"} 9',
      'tweed_tx_segments_count 9',
    ]) {
      expect(lines).toContain(line);
    }
    expect(lines.some((line) => line.startsWith('tweed_peer_last_receive_time_seconds{peer="192.168.77.3"'))).toBe(
      false,
    );
  });

  it('are in a form that Prometheus reads: every sample has a name by its rules and a declared type', async () => {
    for (const status of [running, waiting]) {
      const text = await renderMetrics(status);
      const types = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name, type]));
      for (const line of text.split('\n')) {
        if (line === '' || line.startsWith('#')) continue;
        const [, name = ''] =
          /^([a-z][a-z0-9_]*)(?:\{(?:[a-z][a-z0-9_]*="(?:[^"\\]|\\.)*",?)*\})? \S+$/.exec(line) ?? [];
        const type = types.get(name) ?? types.get(name.replace(/_(bucket|count)$/, ''));
        expect([line, type]).toEqual([line, expect.any(String)]);
        expect(name.endsWith('_total')).toBe(type === 'counter');
      }
    }
  });

  it('of a waiting host are there too', async () => {
    const text = await renderMetrics(waiting);
    expect(text).toContain('tweed_ready 0');
    expect(text).toContain('tweed_registry_connected{kind="etcd"} 0');
    expect(text).not.toContain('tweed_lease');
  });
});

describe('totals', () => {
  it('give up their buckets, cumulated in order', () => {
    expect(splitTotals({ a: 1, b_le_4: 2, b_le_1: 3, b_more: 4, c_more: 0 })).toEqual({
      counters: [['a', 1]],
      histograms: [
        {
          name: 'b',
          buckets: [
            { upTo: 1, count: 3 },
            { upTo: 4, count: 5 },
          ],
          count: 9,
        },
        { name: 'c', buckets: [], count: 0 },
      ],
    });
  });
});

describe('numbers for people', () => {
  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.00 KiB'],
    [123_456_789, '118 MiB'],
    [2 ** 53, '8.00 PiB'],
  ])('%d bytes are %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  it.each([
    [-5, '0 s'],
    [0.9, '0 s'],
    [59, '59 s'],
    [60, '1 min'],
    [3661, '1 h 1 min'],
    [86_399, '23 h 59 min'],
    [90_000, '1 d 1 h'],
    [86_460, '1 d'],
  ])('%d seconds are %s', (seconds, text) => expect(formatDuration(seconds)).toBe(text));

  it('counts in groups of three', () => expect(formatCount(1_234_567)).toBe('1,234,567'));
});
