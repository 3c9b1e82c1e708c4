import { describe, expect, it } from 'vitest';
import { parseIpv6Prefix } from '../../../src/base/ipv6.js';
import { ControlBlock, THREADS } from '../../../src/encap/forwarding/control-block.js';
import {
  COUNTER_WORDS,
  Counters,
  RX_DROPS,
  Rx,
  RxDrop,
  readDrops,
  readTotals,
  SEGMENT_BUCKETS,
  TX_DROPS,
  Tx,
  TxDrop,
} from '../../../src/encap/forwarding/counters.js';
import {
  CAPACITY,
  CONTROL_BYTES,
  LOOP_BYTES,
  planLayout,
  RX_BYTES,
  TX_BYTES,
} from '../../../src/encap/forwarding/layout.js';
import { ENDPOINT_V6_BYTES, PEER_BYTES } from '../../../src/encap/forwarding/peer-record.js';
import { rootShift } from '../../../src/encap/forwarding/prefix-table.js';
import { senderEntries } from '../../../src/encap/forwarding/sender-set.js';
import { prefix } from './support/workbench.js';

describe('ControlBlock', () => {
  const block = () => {
    const words = new Int32Array(new SharedArrayBuffer(8192));
    return { words, block: new ControlBlock(words, 4096), other: new ControlBlock(words, 4096) };
  };

  it('starts with nothing asked, failed or turned off', () => {
    const { block: one } = block();
    expect(one.stopRequested).toBe(false);
    expect([one.failed('tx'), one.failed('rx')]).toEqual([0, 0]);
    expect([one.turnedOff('udp_gso'), one.turnedOff('merge_tcp'), one.turnedOff('merge_udp')]).toEqual([0, 0, 0]);
  });

  it('shows in every view of the memory what one of them said, and nothing else', () => {
    const { block: one, other, words } = block();
    one.requestStop();
    one.setFailed('rx', 5);
    one.turnOff('merge_udp', 22, false);
    expect(other.stopRequested).toBe(true);
    expect([other.failed('tx'), other.failed('rx')]).toEqual([0, 5]);
    expect([other.turnedOff('udp_gso'), other.turnedOff('merge_tcp'), other.turnedOff('merge_udp')]).toEqual([
      0, 0, 22,
    ]);
    expect(words.subarray(0, 1024).every((word) => word === 0)).toBe(true);
  });

  it('says whether what is off may be turned on again', () => {
    const { block: one, other } = block();
    expect(one.offForGood('udp_gso')).toBe(false);
    one.turnOff('udp_gso', 22, false);
    expect([other.turnedOff('udp_gso'), other.offForGood('udp_gso')]).toEqual([22, false]);
    other.turnOn('udp_gso');
    expect(one.turnedOff('udp_gso')).toBe(0);
    one.turnOff('udp_gso', 5, true);
    expect([other.turnedOff('udp_gso'), other.offForGood('udp_gso')]).toEqual([5, true]);
  });

  it('has a beat for each thread that is odd inside a turn, and another one in each', () => {
    const { block: one, other, words } = block();
    const beats = () => [other.beat(0), other.beat(1)];
    const seen = new Set<number>();
    for (let turn = 0; turn < 5; turn++) {
      one.enterTurn(1);
      const [idle, busy] = beats();
      expect([idle, busy! & 1]).toEqual([0, 1]);
      seen.add(busy!);
      one.leaveTurn(1);
      expect(beats()[1]! & 1).toBe(0);
    }
    expect(seen.size).toBe(5);
    // and at the end of the numbers
    words.fill(0x7fff_fffe, 1024);
    one.enterTurn(0);
    expect(one.beat(0) & 1).toBe(1);
    one.leaveTurn(0);
    one.enterTurn(0);
    expect(one.beat(0)).toBe(-0x7fff_ffff);
  });

  it('knows no peers until it is told that they are all there', () => {
    const { block: one, other } = block();
    expect(other.peersComplete).toBe(false);
    one.peersComplete = true;
    expect(other.peersComplete).toBe(true);
  });
});

describe('Counters', () => {
  it('hold counters and drops apart, all of them in the words they were given', () => {
    const f64 = new Float64Array(3 * COUNTER_WORDS);
    const tx = new Counters(f64, COUNTER_WORDS * 8);
    for (const counter of Object.values(Tx)) tx.add(counter, 1);
    for (const reason of Object.values(TxDrop)) tx.drop(reason, 2);
    expect(Object.values(Tx).map((counter) => tx.get(counter))).toEqual(Array(Object.keys(Tx).length).fill(1));
    expect(Object.values(TxDrop).map((reason) => tx.dropped(reason))).toEqual(TX_DROPS.map(() => 2));
    expect(f64.subarray(0, COUNTER_WORDS).every((word) => word === 0)).toBe(true);
    expect(f64.subarray(2 * COUNTER_WORDS).every((word) => word === 0)).toBe(true);
  });

  it('have room for every name: counters end before the drops begin', () => {
    for (const names of [Tx, Rx]) expect(Object.keys(names).length).toBeLessThanOrEqual(32);
    for (const names of [TxDrop, RxDrop]) expect(Object.keys(names).length).toBeLessThanOrEqual(COUNTER_WORDS - 32);
  });

  it('count beyond 32 bits', () => {
    const counters = new Counters(new Float64Array(COUNTER_WORDS), 0);
    counters.add(Tx.bytes, 2 ** 52);
    counters.add(Tx.bytes, 1);
    expect(counters.get(Tx.bytes)).toBe(2 ** 52 + 1);
  });

  it('are read by name, those that never counted too', () => {
    const tx = new Counters(new Float64Array(COUNTER_WORDS), 0);
    const rx = new Counters(new Float64Array(COUNTER_WORDS), 0);
    tx.add(Tx.packets, 7);
    rx.add(Rx.packets, 8);
    tx.drop(TxDrop.no_route, 3);
    rx.drop(RxDrop.spoofed_source, 4);
    const totals = readTotals(tx, rx);
    const drops = readDrops(tx, rx);
    expect(totals).toMatchObject({ tx_packets: 7, rx_packets: 8, tx_bytes: 0, rx_writes: 0 });
    expect(drops).toMatchObject({ tx_no_route: 3, rx_spoofed_source: 4, tx_short: 0, rx_short: 0 });
    expect(Object.keys(totals).length).toBe(Object.keys(Tx).length + Object.keys(Rx).length);
    expect(Object.keys(drops).length).toBe(TX_DROPS.length + RX_DROPS.length);
    for (const name of [...Object.keys(totals), ...Object.keys(drops)]) expect(name).toMatch(/^[tr]x_[a-z0-9_]+$/);
  });

  it('have a name for every size of super-packet', () => {
    const names = Object.keys(Tx).filter((name) => name.startsWith('segments_'));
    expect(names).toEqual([...SEGMENT_BUCKETS.map((most) => `segments_le_${most}`), 'segments_more']);
  });
});

describe('planLayout', () => {
  it.each(['10.0.0.0/8', '10.5.0.0/16', '10.5.128.0/17', '10.5.1.0/24'])(
    'gives every part its own room, %s',
    (network) => {
      const layout = planLayout({ ipv4: prefix(network), ipv6: parseIpv6Prefix('fd00:5::/48') });
      const parts = [
        [layout.control, CONTROL_BYTES],
        [layout.loops, THREADS * LOOP_BYTES],
        [layout.txCounters, COUNTER_WORDS * 8],
        [layout.rxCounters, COUNTER_WORDS * 8],
        [layout.peers, CAPACITY.peers * PEER_BYTES],
        [layout.subnets, CAPACITY.subnetNodes * 1024],
        [layout.senders, CAPACITY.senderNodes * 1024],
        [layout.subnetsV6, CAPACITY.subnetNodes * 1024],
        [layout.endpointsV6, 2 * CAPACITY.peers * ENDPOINT_V6_BYTES],
        [layout.sendersV6, senderEntries(CAPACITY.peers) * 4],
        [layout.tx, TX_BYTES],
        [layout.rx, RX_BYTES],
        [layout.rxV6, RX_BYTES],
      ] as const;
      const offsets = Object.entries(layout).filter(
        ([name, at]) => typeof at === 'number' && !/Shift$|OctetV6$|CountV6$|EntriesV6$|^bytes$/.test(name),
      );
      expect(offsets.map(([, at]) => at)).toEqual(parts.map(([at]) => at));
      for (const [i, [at, bytes]] of parts.entries()) {
        expect(at % 64).toBe(0);
        expect(at).toBeGreaterThan(0);
        expect(at + bytes).toBeLessThanOrEqual(parts[i + 1]?.[0] ?? layout.bytes);
      }
      expect(layout.subnetShift).toBe(rootShift(prefix(network)));
      expect(layout.senderShift).toBe(24);
      expect(layout.subnetOctetV6).toBe(6);
    },
  );

  it('keeps what different threads write apart by a page', () => {
    const { txCounters, rxCounters, tx, rx } = planLayout({ ipv4: prefix('10.5.0.0/16'), ipv6: null });
    for (const at of [txCounters, rxCounters, tx, rx]) expect(at % 4096).toBe(0);
  });
});
