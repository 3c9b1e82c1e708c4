/** Where packets are spared a bridge, and where they are not; the kernel and its tools are scripted. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { Device, Run } from '../../../src/kernel-path/attachment.js';
import { Bridges, obstacleOfRules } from '../../../src/kernel-path/bridges.js';
import { FakeBpf, numberOf } from './support/fake-bpf.js';

const PROGRAM = 7;
const FOREIGN = 55;
const br0: Device = { name: 'br0', index: 3 };
const br1: Device = { name: 'br1', index: 4 };

let fake: FakeBpf;
let tables: string;
let filters: string;
let refuse: (device: Device) => boolean;
/** Numbers of the programs on each bridge's way out, in order. */
let hooks: Map<number, number[]>;
let events: string[];
let bridges: Bridges;
beforeEach(() => {
  fake = new FakeBpf();
  fake.hook = (ifindex) => hooks.get(ifindex) ?? [];
  tables = '';
  filters = '';
  refuse = () => false;
  hooks = new Map();
  events = [];
  bridges = new Bridges(fake.thin, PROGRAM, run, async (device) => {
    if (refuse(device)) throw new Error(`${device.name} has gone`);
    const hook = hooks.get(device.index) ?? [];
    hooks.set(device.index, [...hook, numberOf(PROGRAM)]);
    events.push(`on ${device.name}`);
    const detach = async () => {
      hooks.set(
        device.index,
        (hooks.get(device.index) ?? []).filter((id) => id !== numberOf(PROGRAM)),
      );
      events.push(`off ${device.name}`);
    };
    return {
      way: 'tcx',
      hold: null,
      isThere: async () => hooks.get(device.index)?.includes(numberOf(PROGRAM)) ?? false,
      detach,
      letGo: detach,
    };
  });
});
const run: Run = async (argv) => ({ status: 0, stdout: argv[0] === 'nft' ? tables : filters, stderr: '' });

describe('a bridge', () => {
  it('is spared while containers are behind it', async () => {
    expect(await bridges.keep([br0, br1])).toEqual([]);
    expect(await bridges.keep([br0, br1])).toEqual([]);
    expect(bridges.status()).toEqual({ spared: ['br0', 'br1'], reason: '' });
    await bridges.keep([br1]);
    expect(bridges.status()).toEqual({ spared: ['br1'], reason: '' });
    await bridges.stop();
    await bridges.keep([br0]);
    expect(events).toEqual(['on br0', 'on br1', 'off br0', 'off br1']);
  });

  it('has its program put back when somebody took it off', async () => {
    await bridges.keep([br0]);
    hooks.clear();
    expect(await bridges.keep([br0])).toEqual(["the kernel path's program on the egress of br0"]);
    expect(await bridges.keep([br0])).toEqual([]);
  });

  it('has it behind those of others, which see every packet', async () => {
    hooks.set(3, [FOREIGN]);
    await bridges.keep([br0]);
    hooks.set(3, [...(hooks.get(3) ?? []), FOREIGN + 1]);
    expect(await bridges.keep([br0])).toEqual([]);
    expect(await bridges.keep([br0])).toEqual([]);
    expect(hooks.get(3)).toEqual([FOREIGN, FOREIGN + 1, numberOf(PROGRAM)]);
    expect(events).toEqual(['on br0', 'off br0', 'on br0']);
  });

  it.each<[string, () => void, RegExp]>([
    ['has rules of its family', () => (tables = 'table bridge filter\n'), /^table bridge filter may have rules/],
    [
      'has a program of somebody else’s on a filter',
      () => (filters = 'filter pref 1 bpf chain 0 handle 0x1 direct-action id 5 name policy tag 0\n'),
      /^the filter policy hangs on the way out of br0/,
    ],
    [
      'has another filter',
      () => (filters = 'filter protocol ip pref 1 u32 chain 0\nfilter protocol ip pref 1 u32 chain 0 fh 800: ht\n'),
      /u32 chain 0 fh 800/,
    ],
  ])('is passed as ever where it %s, and spared when that has gone', async (_, happen, reason) => {
    await bridges.keep([br0]);
    happen();
    await bridges.keep([br0]);
    expect(bridges.status()).toEqual({ spared: [], reason: expect.stringMatching(reason) });
    tables = '';
    filters = 'filter pref 8285 bpf chain 0 handle 0x1 direct-action id 9 name tweed_deliver tag 0\n';
    await bridges.keep([br0]);
    expect(bridges.status()).toEqual({ spared: ['br0'], reason: '' });
    expect(events).toEqual(['on br0', 'off br0', 'on br0']);
  });

  it('that refuses disturbs no other, and is tried again', async () => {
    refuse = ({ name }) => name === 'br0';
    await bridges.keep([br0, br1]);
    expect(bridges.status()).toEqual({ spared: ['br1'], reason: 'br0 has gone' });
    refuse = () => false;
    await bridges.keep([br0, br1]);
    expect(bridges.status()).toEqual({ spared: ['br1', 'br0'], reason: '' });
  });

  it('gets one call after the other', async () => {
    await Promise.all([bridges.keep([br0]), bridges.keep([]), bridges.keep([br0])]);
    expect(events).toEqual(['on br0', 'off br0', 'on br0']);
  });
});

describe('rules of bridges', () => {
  it('may be those of ebtables, which nobody lists', async () => {
    expect(await obstacleOfRules(run, 'veth 45056 0\nebtable_filter 12288 1\n')).toMatch(/^ebtables may have rules/);
    expect(await obstacleOfRules(run, 'veth 45056 0\n')).toBe('');
  });

  it('are none where there is no nft', async () => {
    const missing: Run = () => Promise.reject(new Error('nft: not found'));
    expect(await obstacleOfRules(missing, '')).toBe('');
  });
});
