/** What is left of a kernel path by a process that has ended: what fits goes on for a while, what does not goes. */
import { beforeEach, describe, expect, it } from 'vitest';
import { parseIpv4, parsePrefix } from '../../../src/base/ipv4.js';
import type { Run } from '../../../src/kernel-path/attachment.js';
import {
  FormerPath,
  holdName,
  isOfPlace,
  type PathPlace,
  removeFormerFilters,
} from '../../../src/kernel-path/former-path.js';
import { Inheritance } from '../../../src/linux/inheritance.js';

const prefix = (text: string) => parsePrefix(text)!;
const place: PathPlace = {
  underlay: { index: 2, address: parseIpv4('192.0.2.1')! },
  network: prefix('10.5.0.0/16'),
  subnet: prefix('10.5.1.0/24'),
  port: 8285,
};
const name = holdName(place, 17);

describe('the name of a link', () => {
  it('says what it is good for, in characters that a service manager takes', () => {
    expect(name).toBe('kernel-path,2,192.0.2.1,8285,10.5.0.0/16,10.5.1.0/24,17');
    expect(name).toMatch(/^[!-9;-~]{1,255}$/);
    expect(isOfPlace(name, place)).toBe(true);
  });

  it.each<[string, Partial<PathPlace>]>([
    ['another device', { underlay: { ...place.underlay, index: 3 } }],
    ['a device whose number begins alike', { underlay: { ...place.underlay, index: 22 } }],
    ['another address', { underlay: { ...place.underlay, address: parseIpv4('192.0.2.11')! } }],
    ['another network', { network: prefix('10.0.0.0/8') }],
    ['another subnet', { subnet: prefix('10.5.2.0/24') }],
    ['another port', { port: 828 }],
  ])('is not that of %s', (_, changes) => {
    expect(isOfPlace(name, { ...place, ...changes })).toBe(false);
    expect(isOfPlace(holdName({ ...place, ...changes }, 17), place)).toBe(false);
  });

  it.each(['', 'x', '17x', '-1', '1 7', '12345678901'])('does not end with %j', (end) => {
    expect(isOfPlace(name.replace(/17$/, end), place)).toBe(false);
  });
});

describe('what a former process left', () => {
  let closed: number[];
  let takenOff: number[];
  let notes: string[];
  let inherited: Inheritance;
  beforeEach(() => {
    closed = [];
    takenOff = [];
    notes = [];
    inherited = new Inheritance((fd) => void closed.push(fd));
    inherited.put('tun', 3);
    inherited.put(name, 4);
    inherited.put(holdName(place, 18), 5);
  });
  const inherit = (wanted: PathPlace | null) =>
    FormerPath.inherit(
      inherited,
      wanted,
      (text) => notes.push(text),
      async (descriptors) => void takenOff.push(...descriptors),
    );

  it('goes on where it fits, until it is ended', async () => {
    const former = await inherit(place);
    expect([takenOff, notes]).toEqual([[], [expect.stringMatching(/goes on until/)]]);
    await former.end();
    await former.end();
    inherited.close();
    expect([takenOff, closed]).toEqual([[4, 5], [3]]);
  });

  it.each<[string, PathPlace | null]>([
    ['no kernel path is wanted, or the device is another one', null],
    ['the port is another one', { ...place, port: 8300 }],
  ])('goes at once where %s', async (_, wanted) => {
    const former = await inherit(wanted);
    expect([takenOff, notes]).toEqual([[4, 5], [expect.stringMatching(/does not fit/)]]);
    await former.end();
    expect(takenOff).toEqual([4, 5]);
  });

  it('goes link by link', async () => {
    inherited.put(holdName({ ...place, port: 8300 }, 19), 6);
    await inherit(place);
    expect(takenOff).toEqual([6]);
  });

  it('may be nothing, of which nobody says a word', async () => {
    const former = await FormerPath.inherit(new Inheritance(), place, (text) => notes.push(text));
    await former.end();
    expect([takenOff, notes]).toEqual([[], []]);
  });
});

describe('filters of a former process', () => {
  const path = { underlay: { name: 'eth0' }, tun: { name: 'flannel0' }, port: 8285 };
  let commands: string[];
  const runs =
    (qdiscs: string, filters: Readonly<Record<string, string>> = {}): Run =>
    async (argv) => {
      const line = argv.join(' ');
      commands.push(line);
      const shown = line === 'tc qdisc show' ? qdiscs : (filters[line.replace('tc filter show dev ', '')] ?? '');
      return { status: 0, stdout: shown, stderr: '' };
    };
  beforeEach(() => {
    commands = [];
  });

  it('are looked for by one command where there are none', async () => {
    await removeFormerFilters(path, runs('qdisc noqueue 0: dev lo root refcnt 2\n'));
    expect(commands).toEqual(['tc qdisc show']);
  });

  it('are removed from underlay, device and bridges, with the qdisc that was made for them', async () => {
    const filter = (program: string) => `pref 8285 bpf chain 0 handle 0x2 direct-action id 5 name ${program}`;
    const qdiscs = ['eth0', 'flannel0', 'br0'].map((device) => `qdisc clsact ffff: dev ${device} parent ffff:fff1`);
    const filters = {
      'eth0 ingress pref 8285': filter('tweed_decap'),
      'flannel0 egress pref 8285': filter('tweed_encap'),
      'br0 egress pref 8285': filter('tweed_deliver'),
    };
    await removeFormerFilters(path, runs(qdiscs.join('\n'), filters));
    expect(commands.filter((line) => line.includes(' del '))).toEqual([
      'tc filter del dev eth0 ingress pref 8285',
      'tc qdisc del dev eth0 clsact',
      'tc filter del dev flannel0 egress pref 8285',
      'tc qdisc del dev flannel0 clsact',
      'tc filter del dev br0 egress pref 8285',
      'tc qdisc del dev br0 clsact',
    ]);
  });
});
