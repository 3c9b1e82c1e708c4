/** The pair of devices in which packets are merged: made, taken over, refused; `ip` and the switches are scripted. */
import { beforeEach, describe, expect, it } from 'vitest';
import { JsonError } from '../../../src/base/json.js';
import type { Run } from '../../../src/kernel-path/attachment.js';
import { ensureMergePair, mergePairNames, merges, removeMergePair } from '../../../src/kernel-path/merge-pair.js';
import { EPERM } from '../../../src/linux/constants.js';
import { SystemCallError } from '../../../src/linux/errno.js';
import { FakeLinks } from './support/fake-links.js';

const PORT = 8285;
const into = 'tweed8285-in';
const out = 'tweed8285-out';
const SHOW = 'ip -json -details link show dev';
const SHAPE = 'numtxqueues 1 numrxqueues 1 mtu 65535';
/** What is set of a pair, be it new or not. */
const SETTINGS = [
  `tso of ${into} off`,
  `gro of ${out} on`,
  `ip link set ${into} addrgenmode none`,
  `ip link set ${into} up`,
  `ip link set ${out} addrgenmode none`,
  `ip link set ${out} up`,
];

let host: FakeLinks;
beforeEach(() => {
  host = new FakeLinks();
});
const ensure = (run: Run = host.run) => ensureMergePair(PORT, 1, run, host.switches);
/** What changes something. */
const changes = () => host.log.filter((line) => !line.startsWith(SHOW));

describe('the names', () => {
  it.each([1, 8285, 65_535])('of port %i are those of devices, and its own', (port) => {
    const names = mergePairNames(port);
    expect(names).toEqual({ into: `tweed${port}-in`, out: `tweed${port}-out` });
    for (const name of Object.values(names)) expect(name).toMatch(/^[\w-]{1,15}$/);
  });
});

describe('where nothing is', () => {
  it('makes the pair for the longest packet, has it merge, and only then puts it up', async () => {
    expect(await ensure()).toEqual({ into: { name: into, index: 11 }, out: { name: out, index: 12 } });
    expect(host.log).toEqual([
      `${SHOW} ${into}`,
      `ip link add ${into} ${SHAPE} type veth peer ${out} ${SHAPE}`,
      `gro of ${out}?`,
      ...SETTINGS,
      `${SHOW} ${into}`,
      `${SHOW} ${out}`,
    ]);
    expect([...host.links.values()].map(({ up }) => up)).toEqual([true, true]);
  });

  it('does so on a kernel without IPv6, which knows no such addresses', async () => {
    host.fails = [`ip link set ${into} addrgenmode`, `ip link set ${out} addrgenmode`];
    expect(await ensure()).toMatchObject({ into: { index: 11 }, out: { index: 12 } });
  });

  it('says what `ip` says where the kernel makes none', async () => {
    host.fails = ['ip link add'];
    await expect(ensure()).rejects.toThrow(/^ip link add .*: refused$/);
    expect(changes()).toHaveLength(1);
  });

  it('does not get by where something else has the name of the other end', async () => {
    host.add(out, 'dummy');
    await expect(ensure()).rejects.toThrow(/File exists/);
    expect(host.links.get(out)).toMatchObject({ ifindex: 11, kind: 'dummy' });
  });

  it('gives both ends as many queues as it is told', async () => {
    await ensureMergePair(PORT, 8, host.run, host.switches);
    const shape = 'numtxqueues 8 numrxqueues 8 mtu 65535';
    expect(host.log).toContain(`ip link add ${into} ${shape} type veth peer ${out} ${shape}`);
  });

  it('makes another for each port', async () => {
    await ensure();
    await ensureMergePair(8300, 1, host.run, host.switches);
    expect([...host.links.keys()]).toEqual([into, out, 'tweed8300-in', 'tweed8300-out']);
  });
});

describe('where the pair is', () => {
  beforeEach(() => {
    host.add('eth0', '');
    host.addPair(into, out);
  });

  it('takes it as it is, and sets all that it has to be', async () => {
    expect(await ensure()).toEqual({ into: { name: into, index: 12 }, out: { name: out, index: 13 } });
    expect(changes()).toEqual(SETTINGS);
  });

  it('takes the same again', async () => {
    const first = await ensure();
    expect(await ensure()).toEqual(first);
  });

  it('removes it with both ends, and nothing where it is not', async () => {
    expect(await removeMergePair(PORT, host.run)).toBe(true);
    expect([...host.links.keys()]).toEqual(['eth0']);
    expect(await removeMergePair(PORT, host.run)).toBe(false);
    expect(changes()).toEqual([`ip link del ${into}`]);
  });

  it('does not mind that somebody else removes it at the same time', async () => {
    host.fails = ['ip link del'];
    await expect(removeMergePair(PORT, host.run)).resolves.toBe(false);
  });
});

describe('a device with the name that is not the pair', () => {
  it.each<[string, (links: FakeLinks) => void]>([
    ['of another kind', (links) => links.add(into, 'dummy')],
    ['of no kind, as hardware is', (links) => links.add(into, '')],
    ['of another kind upon the other end', (links) => links.add(into, 'macvlan', out)],
    ['a veth whose other end is called otherwise', (links) => links.addPair(into, 'other')],
    ['a veth whose other end is in another namespace', (links) => links.add(into, 'veth')],
  ])('is refused and left alone, at the beginning and at the end: %s', async (_, add) => {
    add(host);
    const before = [...host.links];
    await expect(ensure()).rejects.toThrow(`there is a device ${into} that is not tweed's; remove or rename it`);
    expect(await removeMergePair(PORT, host.run)).toBe(false);
    expect(changes()).toEqual([]);
    expect([...host.links]).toEqual(before);
  });
});

describe('a kernel that does not merge there', () => {
  it.each<[string, () => void]>([
    ['TSO stays on', () => (host.answer = () => true)],
    ['GRO stays off', () => (host.answer = () => false)],
    ['GRO is on from the start', () => (host.ignorant = true)],
  ])('is told by it that %s, before the pair is put up, which goes again', async (_, happen) => {
    happen();
    await expect(ensure()).rejects.toThrow(/^veth devices of this kernel do not merge$/);
    expect(host.log).not.toContainEqual(expect.stringMatching(/ up$/));
    expect(host.links.size).toBe(0);
  });

  it('is not told by what was turned on in a former life', async () => {
    host.addPair(into, out);
    host.ignorant = true;
    await expect(ensure()).resolves.toMatchObject({ into: { name: into } });
  });

  it.each([true, false])('may say so of a pair that was there, which stays: the switches are %s', async (stays) => {
    host.addPair(into, out);
    host.answer = () => stays;
    await expect(ensure()).rejects.toThrow(/do not merge/);
    expect(host.links.size).toBe(2);
  });

  it('may say so itself', async () => {
    host.answer = () => {
      throw new SystemCallError('ioctl SIOCETHTOOL', EPERM, 'have the right');
    };
    await expect(ensure()).rejects.toMatchObject({ code: 'SYSCALL_EPERM' });
    expect(host.log).not.toContainEqual(expect.stringMatching(/ up$/));
  });

  it.each([into, out])('may not put %s up', async (end) => {
    host.fails = [`ip link set ${end} up`];
    await expect(ensure()).rejects.toThrow(/up: refused$/);
  });
});

describe('an index that cannot be read', () => {
  it.each([into, out])('is that of %s, which has gone again', async (end) => {
    const run: Run = async (argv, tolerate) => {
      const ready = host.links.get(out)?.up === true;
      return ready && argv.at(-1) === end ? { status: 1, stdout: '', stderr: 'gone' } : host.run(argv, tolerate);
    };
    await expect(ensure(run)).rejects.toThrow(`${end} has gone again`);
  });

  it.each([
    ['no link', '[]'],
    ['a link without one', `[{"ifname":"${into}"}]`],
  ])('is that of %s', async (_, stdout) => {
    const run: Run = async (argv, tolerate) =>
      host.links.get(out)?.up === true && argv[1] === '-json'
        ? { status: 0, stdout, stderr: '' }
        : host.run(argv, tolerate);
    await expect(ensure(run)).rejects.toThrow(`${into} has gone again`);
  });

  it('is that of a text that is no JSON', async () => {
    const run: Run = async () => ({ status: 0, stdout: 'Device info', stderr: '' });
    await expect(ensure(run)).rejects.toBeInstanceOf(JsonError);
  });
});

describe('a pair', () => {
  it.each<[string, (links: FakeLinks) => unknown]>([
    ['an end was put down', ({ links }) => Object.assign(links.get(out) ?? {}, { up: false })],
    ['its first end segments again', ({ switches }) => switches.set(into, 'tso', true)],
    ['its second end merges no more', ({ switches }) => switches.set(out, 'gro', false)],
  ])('merges until %s', async (_, change) => {
    const pair = await ensure();
    expect(merges(pair, host.switches)).toBe(true);
    change(host);
    expect(merges(pair, host.switches)).toBe(false);
    await ensure();
    expect(merges(pair, host.switches)).toBe(true);
  });
});
