import { describe, expect, it } from 'vitest';
import type { PeerStatus } from '../../../src/backend/backend.js';
import type { DaemonStatus } from '../../../src/observe/status.js';
import { renderTop } from '../../../src/operator/top.js';
import { daemonStatus } from './status.js';

const now = Date.parse('2026-03-01T12:00:00Z');

function peer(host: number, counts: Partial<PeerStatus> = {}): PeerStatus {
  return {
    subnet: `100.96.${host}.0/24`,
    subnetV6: null,
    publicIp: `192.0.2.${host}`,
    publicIpv6: null,
    txPackets: 0,
    txBytes: 0,
    rxPackets: 0,
    rxBytes: 0,
    lastReceived: null,
    ...counts,
  };
}

function status(peers: readonly PeerStatus[], more: Partial<DaemonStatus> = {}): DaemonStatus {
  const one = daemonStatus(more);
  return one.backend === null ? one : { ...one, backend: { ...one.backend, peers } };
}

function withCounts(one: DaemonStatus, totals: Record<string, number>, drops: Record<string, number>): DaemonStatus {
  return { ...one, backend: one.backend === null ? null : { ...one.backend, totals, drops } };
}

describe('the page of what flows now', () => {
  const before = {
    at: 1000,
    status: withCounts(
      status([peer(7), peer(8, { rxPackets: 1000, rxBytes: 10_000 })]),
      { rx_packets: 0 },
      { tx_no_route: 4 },
    ),
  };
  const after = {
    at: 3000,
    status: withCounts(
      status([
        peer(7, { txPackets: 10, txBytes: 1500 }),
        peer(8, { rxPackets: 3000, rxBytes: 2_510_000, lastReceived: now - 2500 }),
      ]),
      { rx_packets: 2000 },
      { tx_no_route: 10, rx_short: 900, rx_never: 0 },
    ),
  };

  it('has the rates of each peer, the busiest first, and the drops, the fastest first', () => {
    const names = new Map([['192.0.2.8', 'host-eight']]);
    expect(renderTop({ before, after, names, size: null }, now).split('\n')).toEqual([
      'tweed 1.2.3, up 1 h, ready, flannel0 by udp',
      'received 1,000 pkt/s, –; sent –, –',
      '',
      'peer        subnet         received                  sent                  last packet',
      'host-eight  100.96.8.0/24  1,000 pkt/s  10.0 Mbit/s  0 pkt/s  0 bit/s      2 s ago',
      '192.0.2.7   100.96.7.0/24  0 pkt/s      0 bit/s      5 pkt/s  6.00 kbit/s  never',
      '',
      'drops        now      since the start',
      'tx no route  3 pkt/s  10',
      'rx short     –        900',
      '',
    ]);
  });

  it('has no rates before there were two looks, nor over the start of another daemon', () => {
    const rates = /\d pkt\/s/;
    expect(renderTop({ before: null, after, size: null }, now)).not.toMatch(rates);
    const other = { ...after, status: { ...after.status, process: 4712 } };
    expect(renderTop({ before, after: other, size: null }, now)).not.toMatch(rates);
    const again = { ...after, status: { ...after.status, startedAt: '2026-03-01T11:30:00Z' } };
    expect(renderTop({ before, after: again, size: null }, now)).not.toMatch(rates);
  });

  it('has none for a counter that went back, as of a peer that left and came again', () => {
    const less = { at: 3000, status: status([peer(8, { rxPackets: 3, rxBytes: 300 })]) };
    expect(renderTop({ before, after: less, size: null }, now)).toMatch(
      /^192\.0\.2\.8 +100\.96\.8\.0\/24 +– +– +0 pkt\/s/m,
    );
  });

  it('shows that nobody counts by peer where the kernel forwards', () => {
    const counts = { txPackets: null, txBytes: null, rxPackets: null, rxBytes: null };
    const look = (at: number) => ({ at, status: status([peer(7, counts)]) });
    expect(renderTop({ before: look(0), after: look(1000), size: null }, now)).toMatch(
      /^192\.0\.2\.7 +100\.96\.7\.0\/24( +–){5}$/m,
    );
  });

  it('fits a screen of any size, and says how much it left out', () => {
    const many = status(Array.from({ length: 200 }, (_, index) => peer(index)));
    for (const [columns, rows] of [
      [80, 24],
      [40, 12],
      [20, 5],
      [200, 50],
    ] as const) {
      const lines = renderTop({ before: null, after: { at: 0, status: many }, size: { columns, rows } }, now).split(
        '\n',
      );
      expect(lines.length).toBeLessThanOrEqual(rows);
      expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(columns);
    }
    const screen = renderTop({ before: null, after: { at: 0, status: many }, size: { columns: 80, rows: 24 } }, now);
    const [, left] = /… and (\d+) more/.exec(screen) ?? [];
    expect(screen.match(/^192\.0\.2\./gm)).toHaveLength(200 - Number(left));
    expect(screen).toMatch(/q quits$/);
  });

  it('says what a daemon without a device waits for, and that there are warnings', () => {
    const waiting = status([], {
      backend: null,
      ready: false,
      phase: 'waiting',
      detail: 'waiting for the registry',
      warnings: ['x'],
    });
    const text = renderTop({ before: null, after: { at: 0, status: waiting }, size: null }, now);
    expect(text).toContain('waiting: waiting for the registry, warnings: 1 (tweed status)');
    expect(text).toContain('no peers');
  });

  it('has nothing in it that commands a terminal', () => {
    const evil = { at: 0, status: status([peer(7)], { detail: 'a\x1b[2Jb', ready: false }) };
    expect(renderTop({ before: null, after: evil, size: null }, now)).not.toContain('\x1b');
  });
});
