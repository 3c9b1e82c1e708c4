/** Merging as a part of the whole kernel path: what hangs where, what is held, and what goes in which order. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { Run } from '../../../src/kernel-path/attachment.js';
import { KernelPath, type KernelPathOptions } from '../../../src/kernel-path/kernel-path.js';
import { STATE_MERGE_INTO } from '../../../src/kernel-path/maps.js';
import { linkFacts } from '../../../src/kernel-path/underlay-device.js';
import { BPF_LINK_DETACH, BPF_TCX_EGRESS, BPF_TCX_INGRESS } from '../../../src/linux/bpf.js';
import { EBUSY, EPERM } from '../../../src/linux/constants.js';
import { FakeBpf, numberOf, PROCESSORS } from './support/fake-bpf.js';
import { FakeLinks } from './support/fake-links.js';

/** No test may turn a switch of this machine's devices. */
let turned: FakeLinks['switches']['set'];
let found: FakeLinks['switches']['get'];
vi.mock(import('../../../src/linux/ethtool.js'), () => ({
  deviceState: (name, what) => found(name, what),
  setDeviceSwitch: (name, what, on) => turned(name, what, on),
}));

const options: KernelPathOptions = {
  underlay: { name: 'eth0', index: 2, address: 0xc0000201 },
  tun: { name: 'flannel0', index: 3 },
  // an overlay of one subnet: there is nobody to test with
  network: { address: 0x0a050100, length: 24 },
  subnet: { address: 0x0a050100, length: 24 },
  port: 8285,
  mode: 'route',
};

let fake: FakeBpf;
let host: FakeLinks;
beforeEach(() => {
  fake = new FakeBpf();
  host = new FakeLinks();
  turned = host.switches.set;
  found = host.switches.get;
  host.add('eth0', '');
});
const run: Run = async (argv, tolerate) =>
  argv[0] === 'ip' ? host.run(argv, tolerate) : { status: 0, stdout: '', stderr: '' };
const start = (changes: Partial<KernelPathOptions> = {}, runs: Run = run) =>
  KernelPath.start(
    { ...options, ...changes },
    { bpf: () => fake.thin, run: runs, processors: () => PROCESSORS, types: () => null },
  );
const links = () => [...fake.open.values()].filter((what) => what.startsWith('link'));
const WAYS = [`link 2 ${BPF_TCX_INGRESS}`, `link 3 ${BPF_TCX_EGRESS}`];
const MERGED = `link 13 ${BPF_TCX_INGRESS}`;
const mergeInto = () => {
  const state = fake.map('state').entries.get('00000000') as Uint8Array;
  return new DataView(state.buffer).getUint32(STATE_MERGE_INTO, true);
};
const pairIsThere = () => host.links.has('tweed8285-in');

describe('a kernel path that merges', () => {
  it('hangs its program where merged packets come in, and tells the others where to send single ones', async () => {
    const path = await start();
    expect(links()).toEqual([...WAYS, MERGED]);
    expect(mergeInto()).toBe(12);
    expect(path.status().merging).toEqual({ into: 'tweed8285-in', reason: '' });
    await path.stop();
    expect(fake.open.size).toBe(0);
    expect(pairIsThere()).toBe(false);
  });

  it('does so by a pair of its port', async () => {
    const path = await start({ port: 8300 });
    expect(path.status().merging.into).toBe('tweed8300-in');
    await path.stop();
  });

  it('has as many queues for it as the underlay has', async () => {
    host.add('eth1', '');
    const wide: Run = async (argv, tolerate) =>
      argv.at(-1) === 'eth1'
        ? { status: 0, stdout: '[{"link_type":"ether","num_rx_queues":8}]', stderr: '' }
        : run(argv, tolerate);
    const path = await start({ underlay: { ...options.underlay, name: 'eth1' } }, wide);
    expect(host.log).toContainEqual(expect.stringMatching(/^ip link add \S+ numtxqueues 8 numrxqueues 8 /));
    await path.stop();
  });

  it('says nothing of it and makes nothing where that is not wanted', async () => {
    const path = await start({ merge: false });
    expect(links()).toEqual(WAYS);
    expect([mergeInto(), pairIsThere()]).toEqual([0, false]);
    expect(path.status().merging).toEqual({ into: '', reason: '' });
    expect(await path.mend()).not.toContainEqual(expect.stringMatching(/merging/));
    await path.stop();
  });

  it.each<[string, () => void, RegExp]>([
    ['the kernel does not merge there', () => (turned = () => true), /do not merge$/],
    ['the program is refused', () => (fake.refuse = (_, about) => (about.startsWith('13 ') ? EBUSY : 0)), /EBUSY/],
    ['another device has the name', () => host.add('tweed8285-in', 'dummy'), /not tweed's/],
  ])('runs all the same where %s', async (_, happen, reason) => {
    happen();
    const path = await start();
    expect(links()).toEqual(WAYS);
    expect(mergeInto()).toBe(0);
    expect(path.status().merging).toEqual({ into: '', reason: expect.stringMatching(reason) });
    await path.stop();
    expect(fake.open.size).toBe(0);
  });

  it('is held by three links, so that all goes on when the process is killed', async () => {
    const path = await start();
    const held = [...fake.open].filter(([, what]) => what.startsWith('link')).map(([descriptor]) => descriptor);
    expect([...path.holds().values()]).toEqual(held);
    expect([...path.holds().keys()].map((name) => Number(name.split(',').at(-1)))).toEqual(held.map(numberOf));
    await path.stop();
    expect(path.holds().size).toBe(2); // the ways in and out are as they were told
  });

  it('sends nothing into the devices any more before they go', async () => {
    const path = await start();
    const order: string[] = [];
    fake.refuse = (command, about) => {
      if (command === BPF_LINK_DETACH) order.push(about);
      return 0;
    };
    await path.stop();
    expect(order).toEqual([WAYS[1], WAYS[0], MERGED].map((link) => `take off ${link}`));
    expect(host.log.at(-1)).toBe('ip link del tweed8285-in');
  });

  it('leaves none of it to whoever holds the ways in and out: they hand packets on as they are', async () => {
    const path = await start();
    let left = -1;
    fake.refuse = (command) => {
      if (command === BPF_LINK_DETACH) left = mergeInto();
      return 0;
    };
    await path.leave();
    expect(left).toBe(0);
    expect(fake.log.filter((line) => line.startsWith(`${BPF_LINK_DETACH} `))).toEqual([
      `${BPF_LINK_DETACH} take off ${MERGED}`,
    ]);
    expect(pairIsThere()).toBe(false);
    expect(fake.open.size).toBe(0);
  });

  it('leaves the devices to a daemon whose program hangs there too', async () => {
    const path = await start();
    fake.hook = (ifindex) => (ifindex === 13 ? [4711] : []);
    await path.stop();
    expect(pairIsThere()).toBe(true);
    expect(fake.open.size).toBe(0);
  });

  it('closes all that it has where it cannot be asked what hangs there, bridges included', async () => {
    const path = await start();
    await path.keepBridges([{ name: 'br0', index: 4 }]);
    expect(links()).toHaveLength(4);
    fake.refuse = (_, about) => (about === 'query 13' ? EPERM : 0);
    await path.stop().catch(() => {});
    expect(fake.open.size).toBe(0);
  });
});

it.each([
  ['a card', { num_rx_queues: 8, parentbus: 'pci' }, 8],
  ['a virtual machine’s card', { num_rx_queues: 2, parentbus: 'virtio' }, 2],
  ['a card of which nothing is said', { parentbus: 'pci' }, 1],
  ['a device of software', { num_rx_queues: 8, linkinfo: { info_kind: 'veth' } }, 1],
  ['nothing', undefined, 1],
])('tells the queues of %s', (_, link, queues) => {
  expect(linkFacts(link).queues).toBe(queues);
});
