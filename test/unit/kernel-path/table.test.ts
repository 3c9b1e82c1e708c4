import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { formatIpv4, parseIpv4 } from '../../../src/base/ipv4.js';
import { COUNTER_WORDS, Counters, readDrops, readTotals } from '../../../src/encap/forwarding/counters.js';
import { BpfError } from '../../../src/kernel-path/bpf-error.js';
import {
  COUNTER_BYTES,
  closeMaps,
  createMaps,
  Drop,
  type Maps,
  PAST_BRIDGE,
  PEER_COUNTER_BYTES,
  PEER_INDEX,
  PEER_MAX_PACKET,
  PeerCount,
  STATE_BYTES,
  STATE_COMPLETE,
  STATE_MERGE_INTO,
  STATE_TENDED_UNTIL,
  Total,
} from '../../../src/kernel-path/maps.js';
import { type KernelContainer, type KernelPeer, KernelTable } from '../../../src/kernel-path/table.js';
import { BPF_MAP_DELETE_ELEM, BPF_MAP_UPDATE_ELEM } from '../../../src/linux/bpf.js';
import { ENOMEM, ENOSPC } from '../../../src/linux/constants.js';
import { FakeBpf, PROCESSORS } from './support/fake-bpf.js';

const CAPACITY = 6;
const address = (text: string) => parseIpv4(text)!;
const peer = (n: number, changes: Partial<KernelPeer> = {}): KernelPeer => ({
  subnet: { address: address(`10.5.${n}.0`), length: 24 },
  publicIp: address(`192.0.2.${n}`),
  pathMtu: 1500,
  ...changes,
});

let fake: FakeBpf;
let maps: Maps;
let table: KernelTable;
beforeEach(() => {
  fake = new FakeBpf();
  maps = createMaps(fake.thin, { peers: CAPACITY, containers: 3, flows: 4 });
  table = new KernelTable(fake.thin, maps, {
    address: address('192.0.2.1'),
    port: 8285,
    capacity: CAPACITY,
    processors: PROCESSORS,
  });
});

/** What the maps say: subnet → address and longest packet; and the senders. */
function written() {
  const subnets = [...fake.map('subnets').entries].map(([key, record]) => {
    const bytes = Buffer.from(key, 'hex');
    const view = new DataView(record.buffer);
    return [
      `${formatIpv4(bytes.readUInt32BE(4))}/${bytes.readUInt32LE(0)}`,
      `${formatIpv4(view.getUint32(16))} ${view.getUint32(PEER_MAX_PACKET, true)}`,
    ];
  });
  const senders = [...fake.map('senders').entries.keys()].map((key) =>
    formatIpv4(Buffer.from(key, 'hex').readUInt32BE(0)),
  );
  return { subnets: Object.fromEntries(subnets.sort()), senders: senders.sort() };
}

const indexOf = (n: number) => {
  const key = Buffer.alloc(8);
  key.writeUInt32LE(24);
  key.writeUInt32BE(address(`10.5.${n}.0`), 4);
  const record = fake.map('subnets').entries.get(key.toString('hex'));
  return record === undefined ? -1 : new DataView(record.buffer).getUint32(PEER_INDEX, true);
};

const complete = () => (fake.map('state').entries.get('00000000')?.[0] ?? 0) === 1;

describe('replaceAll', () => {
  it('writes peers, and nothing the second time', () => {
    expect(table.replaceAll([peer(2), peer(3, { pathMtu: 1400 })])).toEqual([]);
    expect(written()).toEqual({
      subnets: { '10.5.2.0/24': '192.0.2.2 1472', '10.5.3.0/24': '192.0.2.3 1372' },
      senders: ['192.0.2.2', '192.0.2.3'],
    });
    expect(complete()).toBe(true);
    fake.log.length = 0;
    table.replaceAll([peer(3, { pathMtu: 1400 }), peer(2)]);
    expect(fake.log).toEqual([]);
  });

  it('says until when it is kept so, whatever else changes', () => {
    const state = () => fake.map('state').entries.get('00000000') as Uint8Array;
    const until = () => new DataView(state().buffer).getBigUint64(STATE_TENDED_UNTIL, true);
    table.tend(7n);
    table.replaceAll([peer(2)]);
    expect([complete(), until()]).toEqual([true, 7n]);
    const before = process.hrtime.bigint();
    table.tend();
    expect(until()).toBeGreaterThan(before + 2_000_000_000n);
    expect(until()).toBeLessThan(process.hrtime.bigint() + 10_000_000_000n);
    table.abandon();
    expect([complete(), until()]).toEqual([true, 0n]);
    table.replaceAll([peer(3)]);
    expect(until()).toBe(0n);
  });

  it('makes the outer headers ready but for lengths and checksum', () => {
    table.replaceAll([peer(2)]);
    const [record] = fake.map('subnets').entries.values();
    expect(Buffer.from(record!.subarray(0, 28)).toString('hex')).toBe(
      '4500000000004000401100' + '00' + 'c0000201c0000202' + '205d205d00000000',
    );
  });

  it('keeps the place of a peer’s counters while it is a peer, and clears a place before another gets it', () => {
    table.replaceAll([peer(2), peer(3)]);
    const before = indexOf(3);
    table.replaceAll([peer(3, { publicIp: address('192.0.2.33'), pathMtu: 900 })]);
    expect(indexOf(3)).toBe(before);
    const used = fake.map('peer_counters').entries;
    for (const value of used.values()) value.fill(7);
    // as many newcomers as make the places go round
    for (let n = 10; n < 20; n++) table.replaceAll([peer(3), peer(n)]);
    table.replaceAll([peer(3), peer(99)]);
    const key = Buffer.alloc(4);
    key.writeUInt32LE(indexOf(99));
    expect(used.get(key.toString('hex'))).toEqual(new Uint8Array(PEER_COUNTER_BYTES * PROCESSORS));
    expect(indexOf(99)).not.toBe(indexOf(3));
  });

  it('keeps a sender as long as one of its subnets is there', () => {
    const both = [peer(2), peer(4, { publicIp: address('192.0.2.2') })];
    table.replaceAll(both);
    expect(written().senders).toEqual(['192.0.2.2']);
    table.replaceAll(both.slice(1));
    expect(written().senders).toEqual(['192.0.2.2']);
    table.replaceAll([]);
    expect(written()).toEqual({ subnets: {}, senders: [] });
    expect(complete()).toBe(true);
  });

  it('leaves to user space what does not fit, and lets user space judge strangers until it does', () => {
    const many = Array.from({ length: CAPACITY + 2 }, (_, n) => peer(n + 2));
    const refused = table.replaceAll(many);
    expect(refused.map(({ index }) => index)).toEqual([CAPACITY, CAPACITY + 1]);
    expect(complete()).toBe(false);
    expect(table.peers).toBe(CAPACITY);
    expect(table.replaceAll(many.slice(3))).toEqual([]);
    expect(complete()).toBe(true);
  });

  it('takes a peer out that cannot be moved, rather than send to where it was', () => {
    table.replaceAll([peer(2), peer(3)]);
    fake.refuse = (command, about) =>
      command === BPF_MAP_UPDATE_ELEM && about.startsWith('tweed_subnets') ? ENOMEM : 0;
    const refused = table.replaceAll([peer(2, { publicIp: address('192.0.2.22') }), peer(3)]);
    expect(refused).toMatchObject([{ index: 0, reason: expect.stringMatching(/ENOMEM/) }]);
    expect(written()).toEqual({ subnets: { '10.5.3.0/24': '192.0.2.3 1472' }, senders: ['192.0.2.3'] });
    expect(complete()).toBe(false);
    fake.refuse = () => 0;
    expect(table.replaceAll([peer(2, { publicIp: address('192.0.2.22') }), peer(3)])).toEqual([]);
    expect(complete()).toBe(true);
  });

  it('does not use up counters by refusals', () => {
    fake.refuse = (command, about) =>
      command === BPF_MAP_UPDATE_ELEM && about.startsWith('tweed_subnets') ? ENOSPC : 0;
    for (let i = 0; i < 50; i++) expect(table.replaceAll([peer(2)])).toHaveLength(1);
    fake.refuse = () => 0;
    expect(table.replaceAll(Array.from({ length: CAPACITY }, (_, n) => peer(n + 2)))).toEqual([]);
  });

  it('says so when the kernel takes nothing away any more', () => {
    table.replaceAll([peer(2)]);
    fake.refuse = (command) => (command === BPF_MAP_DELETE_ELEM ? ENOMEM : 0);
    expect(() => table.replaceAll([])).toThrow(BpfError);
  });

  it('ends with what was asked for last, whatever was refused on the way', () => {
    const list = fc.uniqueArray(
      fc.record({
        n: fc.integer({ min: 2, max: 9 }),
        at: fc.integer({ min: 2, max: 4 }),
        mtu: fc.constantFrom(1500, 1400),
      }),
      { selector: ({ n }) => n, maxLength: CAPACITY },
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(list, fc.nat(9)), { minLength: 1, maxLength: 6 }), list, (former, last) => {
        const wanted = (entries: typeof last) =>
          entries.map(({ n, at, mtu }) => peer(n, { publicIp: address(`192.0.2.${at}`), pathMtu: mtu }));
        for (const [entries, refusals] of former) {
          let updates = 0;
          fake.refuse = (command) => (command === BPF_MAP_UPDATE_ELEM && updates++ % 10 < refusals ? ENOMEM : 0);
          try {
            table.replaceAll(wanted(entries));
          } catch (error) {
            expect(error).toBeInstanceOf(BpfError); // the state word itself
          }
          fake.refuse = () => 0;
        }
        expect(table.replaceAll(wanted(last))).toEqual([]);
        expect(complete()).toBe(true);
        expect(written()).toEqual({
          subnets: Object.fromEntries(
            last.map(({ n, at, mtu }) => [`10.5.${n}.0/24`, `192.0.2.${at} ${mtu - 28}`]).sort(),
          ),
          senders: [...new Set(last.map(({ at }) => `192.0.2.${at}`))].sort(),
        });
      }),
      { numRuns: 300 },
    );
  });
});

describe('the device for merging', () => {
  const state = () => {
    const bytes = fake.map('state').entries.get('00000000') as Uint8Array;
    const view = new DataView(bytes.buffer);
    return {
      complete: bytes[STATE_COMPLETE],
      into: view.getUint32(STATE_MERGE_INTO, true),
      until: view.getBigUint64(STATE_TENDED_UNTIL, true),
    };
  };
  const refuseState = () => {
    fake.refuse = (command, about) => (command === BPF_MAP_UPDATE_ELEM && about.startsWith('tweed_state') ? ENOMEM : 0);
  };

  it('has a place of its own in the state', () => {
    const places = [
      { at: STATE_COMPLETE, bytes: 1 },
      { at: STATE_MERGE_INTO, bytes: 4 },
      { at: STATE_TENDED_UNTIL, bytes: 8 },
    ];
    for (const [i, { at, bytes }] of places.entries()) {
      expect(at % bytes).toBe(0);
      expect(at + bytes).toBeLessThanOrEqual(places[i + 1]?.at ?? STATE_BYTES);
    }
  });

  it('is written where the programs look, byte by byte', () => {
    table.replaceAll([peer(2)]);
    table.tend(0x0102030405060708n);
    table.setMergeInto(0xa1b2c3d4);
    expect(Buffer.from(fake.map('state').entries.get('00000000')!).toString('hex')).toBe(
      '01000000' + 'd4c3b2a1' + '0807060504030201',
    );
  });

  it('leaves the rest of the state as it is, and stays when that changes', () => {
    table.setMergeInto(11);
    expect(state()).toEqual({ complete: 0, into: 11, until: 0n });
    table.replaceAll([peer(2)]);
    expect(state()).toEqual({ complete: 1, into: 11, until: 0n });
    table.tend(7n);
    expect(state()).toEqual({ complete: 1, into: 11, until: 7n });
    table.setMergeInto(12);
    expect(state()).toEqual({ complete: 1, into: 12, until: 7n });
    table.suspend();
    expect(state()).toEqual({ complete: 0, into: 12, until: 7n });
    table.setMergeInto(0);
    expect(state()).toEqual({ complete: 0, into: 0, until: 7n });
  });

  it('is not written twice', () => {
    table.setMergeInto(0);
    expect(fake.log.filter((line) => line.startsWith(`${BPF_MAP_UPDATE_ELEM} `))).toEqual([]);
    table.setMergeInto(11);
    fake.log.length = 0;
    table.setMergeInto(11);
    expect(fake.log).toEqual([]);
    table.setMergeInto(0);
    table.setMergeInto(0);
    expect(fake.log).toHaveLength(1);
  });

  it('is written by the next call where the kernel refused it', () => {
    table.tend(7n);
    refuseState();
    expect(() => table.setMergeInto(11)).toThrow(BpfError);
    fake.refuse = () => 0;
    table.tend(8n);
    expect(state()).toEqual({ complete: 0, into: 0, until: 8n });
    table.setMergeInto(11);
    expect(state()).toEqual({ complete: 0, into: 11, until: 8n });
  });

  it('is none any more when nobody keeps the maps, and may be one again', () => {
    table.replaceAll([peer(2)]);
    table.tend(7n);
    table.setMergeInto(11);
    fake.log.length = 0;
    table.abandon();
    expect(fake.log).toHaveLength(1); // at once: no packet goes where nobody takes it
    expect(state()).toEqual({ complete: 1, into: 0, until: 0n });
    table.tend(8n);
    expect(state()).toEqual({ complete: 1, into: 0, until: 8n });
    table.setMergeInto(11);
    expect(state()).toEqual({ complete: 1, into: 11, until: 8n });
  });

  it('says so when it cannot be abandoned', () => {
    table.setMergeInto(11);
    refuseState();
    expect(() => table.abandon()).toThrow(BpfError);
  });
});

describe('containers', () => {
  const container = (n: number, ifindex = n): KernelContainer => ({
    address: address(`10.5.1.${n}`),
    ifindex,
    bridge: 3,
    mac: Uint8Array.of(2, 0, 0, 0, 0, n),
    gatewayMac: Uint8Array.of(2, 0, 0, 0, 1, 1),
  });

  it('are written as they differ, what is gone first', () => {
    table.setContainers([container(2), container(3), container(4)]);
    fake.log.length = 0;
    expect(table.setContainers([container(3), container(4, 44), container(5)])).toEqual([]);
    expect(fake.log.map((line) => line.split(' ')).map(([command, , key]) => `${command} ${key}`)).toEqual([
      `${BPF_MAP_DELETE_ELEM} 0a050102`,
      `${BPF_MAP_UPDATE_ELEM} 0a050104`,
      `${BPF_MAP_UPDATE_ELEM} 0a050105`,
    ]);
    expect(Buffer.from(fake.map('containers').entries.get('0a050104')!).toString('hex')).toBe(
      '2c000000' + '020000000004' + '020000000101' + '03000000',
    );
    fake.log.length = 0;
    table.setContainers([container(5), container(4, 44), container(3)]);
    expect(fake.log).toEqual([]);
  });

  it('that do not fit are refused, and reached by route', () => {
    expect(table.setContainers([2, 3, 4, 5].map((n) => container(n)))).toMatchObject([{ index: 3 }]);
    expect(table.containers).toBe(3);
  });
});

describe('counters', () => {
  it('are named as those of user space', () => {
    const words = new Float64Array(2 * COUNTER_WORDS);
    const [tx, rx] = [new Counters(words, 0), new Counters(words, COUNTER_WORDS * 8)];
    expect(Object.keys(readTotals(tx, rx))).toEqual(expect.arrayContaining(Object.keys(Total)));
    expect(Object.keys(readDrops(tx, rx))).toEqual(expect.arrayContaining(Object.keys(Drop)));
  });

  it('lie apart', () => {
    const offsets = [...Object.values(Total), ...Object.values(Drop), PAST_BRIDGE].sort((a, b) => a - b);
    expect(offsets).toEqual(offsets.map((_, i) => i * 8));
    expect(COUNTER_BYTES).toBe(offsets.length * 8);
  });

  it('are the sum of all processors', () => {
    const value = new Uint8Array(COUNTER_BYTES * PROCESSORS);
    const view = new DataView(value.buffer);
    view.setBigUint64(Total.tx_bytes, 5n, true);
    view.setBigUint64(COUNTER_BYTES + Total.tx_bytes, 2n ** 40n, true);
    view.setBigUint64(COUNTER_BYTES + Drop.rx_spoofed_source, 3n, true);
    view.setBigUint64(COUNTER_BYTES + PAST_BRIDGE, 4n, true);
    fake.map('counters').entries.set('00000000', value);
    const { totals, drops, pastBridge } = table.counters();
    expect(pastBridge).toBe(4);
    expect(totals).toMatchObject({ tx_bytes: 2 ** 40 + 5, tx_packets: 0 });
    expect(drops).toMatchObject({ rx_spoofed_source: 3, rx_ttl_zero: 0 });
  });

  it('of a peer hold what the programs note of super-packets, in words of their own', () => {
    const offsets = Object.values(PeerCount).sort((a, b) => a - b);
    expect(offsets).toEqual(offsets.map((_, i) => i * 8));
    expect(PEER_COUNTER_BYTES).toBe(offsets.length * 8);
    table.replaceAll([peer(2)]);
    const value = new Uint8Array(PEER_COUNTER_BYTES * PROCESSORS);
    new DataView(value.buffer).setBigUint64(PeerCount.lastSuperPacket, 4_000_000_000n, true);
    fake.map('peer_counters').entries.set('00000000', value);
    // that is nothing that came by itself
    expect([...table.entries(5_000_000_000n)]).toMatchObject([{ rxPackets: 0, rxBytes: 0, silentForMs: null }]);
  });

  it('of a peer tell how long it has been silent', () => {
    table.replaceAll([peer(2), peer(3)]);
    const value = new Uint8Array(PEER_COUNTER_BYTES * PROCESSORS);
    const view = new DataView(value.buffer);
    view.setBigUint64(PeerCount.rxPackets, 5n, true);
    view.setBigUint64(PEER_COUNTER_BYTES + PeerCount.rxPackets, 6n, true);
    view.setBigUint64(PeerCount.lastReceived, 1_000_000_000n, true);
    view.setBigUint64(PEER_COUNTER_BYTES + PeerCount.lastReceived, 3_000_000_000n, true);
    fake.map('peer_counters').entries.set('00000000', value);
    expect([...table.entries(5_000_000_000n)]).toMatchObject([
      { publicIp: address('192.0.2.2'), rxPackets: 11, txPackets: 0, silentForMs: 2000 },
      { publicIp: address('192.0.2.3'), rxPackets: 0, silentForMs: null },
    ]);
  });
});

it('closes its maps, and those made so far when one is refused', () => {
  closeMaps(fake.thin, maps);
  expect(fake.open.size).toBe(0);
  fake.refuse = (_, about) => (about === 'tweed_counters' ? ENOMEM : 0);
  expect(() => createMaps(fake.thin)).toThrow(/ENOMEM/);
  expect(fake.open.size).toBe(0);
});
