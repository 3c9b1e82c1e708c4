import { beforeEach, describe, expect, it, vi } from 'vitest';
import { attach, detachFormer, detachFormerEverywhere, type Run } from '../../../src/kernel-path/attachment.js';
import { BpfError } from '../../../src/kernel-path/bpf-error.js';
import {
  countProcessors,
  KernelPath,
  type KernelPathOptions,
  KernelPathRefusedError,
  type KernelPathSystem,
} from '../../../src/kernel-path/kernel-path.js';
import { PEER_MAX_PACKET, STATE_TENDED_UNTIL } from '../../../src/kernel-path/maps.js';
import {
  BPF_LINK_CREATE,
  BPF_LINK_DETACH,
  BPF_MAP_CREATE,
  BPF_MAP_LOOKUP_ELEM,
  BPF_MAP_TYPE_HASH,
  BPF_MAP_UPDATE_ELEM,
  BPF_OBJ_PIN,
  BPF_PROG_LOAD,
  BPF_PROG_TEST_RUN,
  BPF_TCX_EGRESS,
  BPF_TCX_INGRESS,
} from '../../../src/linux/bpf.js';
import { E2BIG, EBUSY, EINVAL, ENOSYS, EPERM } from '../../../src/linux/constants.js';
import { FakeBpf, numberOf, PROCESSORS } from './support/fake-bpf.js';

let fake: FakeBpf;
let commands: string[];
beforeEach(() => {
  fake = new FakeBpf();
  commands = [];
});

const ok = { status: 0, stdout: '', stderr: '' };
const failed = { status: 2, stdout: '', stderr: 'refused' };

/** A device's hooks as `tc` has them: filters by way and preference, each as a line of `tc filter show`. */
class Hooks {
  qdisc = false;
  readonly filters = new Map<string, string>();

  /** @param name of the program, `program` the kernel's number of it */
  add(way: string, pref: number, handle: number, program: number, name = 'tweed_decap'): void {
    this.qdisc = true;
    const line = `pref ${pref} bpf chain 0 handle 0x${handle} program:[*fsobj] direct-action id ${program} name ${name}`;
    this.filters.set(`${way} ${pref}`, line);
  }

  /** What a `tc` command does and prints. */
  run(argv: readonly string[]): { readonly status: number; readonly stdout: string; readonly stderr: string } {
    const [, object, verb, , , way = '', , pref = ''] = argv;
    const handle = Number(argv[argv.indexOf('handle') + 1]);
    if (object === 'qdisc') {
      if (verb === 'add' && this.qdisc) return failed;
      this.qdisc = verb === 'add';
    } else if (verb === 'replace') this.add(way, Number(pref), handle, numberOf(fake.pinned));
    else if (verb === 'del') this.filters.delete(`${way} ${pref}`);
    else {
      const lines = [...this.filters].filter(([key]) => key.startsWith(`${way} ${pref}`)).map(([, line]) => line);
      return { ...ok, stdout: lines.join('\n') };
    }
    return ok;
  }
}

/** Runs nothing; a command that begins with one of these fails, `ip` shows an Ethernet device. */
function runs(fails: readonly string[] = [], hooks = new Hooks()): Run {
  return async (argv, tolerate = false) => {
    const line = argv.join(' ').replace(/\S*tweed-bpf-\w+/, 'BPFFS');
    commands.push(line);
    if (fails.some((start) => line.startsWith(start))) {
      if (!tolerate) throw new Error(`${line}: refused`);
      return failed;
    }
    if (line.startsWith('ip -json')) return { ...ok, stdout: '[{"link_type":"ether","parentbus":"pci"}]' };
    return argv[0] === 'tc' ? hooks.run(argv) : ok;
  };
}

describe('Bpf', () => {
  const shape = { name: 'tweed_some', type: BPF_MAP_TYPE_HASH, keyBytes: 2, valueBytes: 3, maxEntries: 4 };
  const key = (n: number) => Uint8Array.of(n, 1);

  it('looks up, updates, deletes and walks', () => {
    const map = fake.thin.createMap(shape);
    expect(fake.map('some')).toMatchObject({ type: 1, keyBytes: 2, valueBytes: 3, maxEntries: 4 });
    fake.thin.update(map, key(7), Uint8Array.of(1, 2, 3));
    fake.thin.update(map, key(8), Uint8Array.of(4, 5, 6));
    expect(fake.thin.lookup(map, key(8), 3)).toEqual(Uint8Array.of(4, 5, 6));
    expect([...fake.thin.keys(map, 2)]).toEqual([key(7), key(8)]);
    expect(fake.thin.delete(map, key(8))).toBe(true);
    expect(fake.thin.delete(map, key(8))).toBe(false);
    expect(fake.thin.lookup(map, key(8), 3)).toBeNull();
  });

  it.each([
    [EPERM, 'SYSCALL_EPERM', /CAP_BPF and CAP_NET_ADMIN/],
    [EINVAL, 'SYSCALL_EINVAL', /newer one/],
    [ENOSYS, 'SYSCALL_ENOSYS', /CONFIG_BPF_SYSCALL/],
    [E2BIG, 'SYSCALL_E2BIG', /more entries/],
    [EBUSY, 'SYSCALL_EBUSY', /kernel log/],
  ])('says what to do about errno %i', (errno, code, remedy) => {
    fake.refuse = () => errno;
    const attempt = () => fake.thin.createMap(shape);
    expect(attempt).toThrow(BpfError);
    expect(attempt).toThrow(remedy);
    expect(attempt).toThrow(expect.objectContaining({ code, errno }));
  });

  it('tells a missing entry from a lookup that fails', () => {
    const map = fake.thin.createMap(shape);
    fake.refuse = (command) => (command === BPF_MAP_LOOKUP_ELEM ? EPERM : 0);
    expect(() => fake.thin.lookup(map, key(1), 3)).toThrow(/EPERM/);
  });

  it('asks the verifier why, after a refusal only, and keeps its last words', () => {
    fake.verifierLog = '0: (bf) r6 = r1\nR2 invalid mem access\nprocessed 5 insns\n';
    expect(fake.thin.load('ok', 3, new Uint8Array(16))).toBeGreaterThan(0);
    expect(fake.log).toEqual([`${BPF_PROG_LOAD} ok`]);
    fake.refuse = () => EINVAL;
    const attempt = () => fake.thin.load('bad', 3, new Uint8Array(16));
    expect(attempt).toThrow(/program bad: EINVAL: Invalid argument; the verifier says: .*R2 invalid mem access$/);
    expect(attempt).toThrow(expect.objectContaining({ log: fake.verifierLog }));
  });

  it('takes a program that is refused once and not again', () => {
    let times = 0;
    fake.refuse = () => (times++ === 0 ? EBUSY : 0);
    expect(fake.thin.load('late', 3, new Uint8Array(16))).toBeGreaterThan(0);
  });
});

describe('attach', () => {
  const eth0 = { name: 'eth0', index: 5 };

  it('makes a link where the kernel has them, and nothing else', async () => {
    const attachment = await attach(fake.thin, 7, eth0, 'egress', 'auto', runs());
    expect(attachment.way).toBe('tcx');
    expect([...fake.open.values()]).toEqual([`link 5 ${BPF_TCX_EGRESS}`]);
    await attachment.detach();
    expect(fake.log.at(-1)).toBe(`${BPF_LINK_DETACH} take off link 5 ${BPF_TCX_EGRESS}`);
    expect(fake.open.size).toBe(0);
    expect(commands).toEqual([]);
  });

  it('lets go of a link without taking it off, for whoever holds it besides', async () => {
    const attachment = await attach(fake.thin, 7, eth0, 'egress', 'auto', runs());
    const [[link]] = fake.open as unknown as [[number]];
    expect(attachment.hold).toEqual({ id: numberOf(link), descriptor: link });
    fake.log.length = 0;
    await attachment.letGo();
    expect(fake.open.size).toBe(0);
    expect(fake.log).toEqual([]);
  });

  it('closes a link also where the kernel does not take it off', async () => {
    const attachment = await attach(fake.thin, 7, eth0, 'egress', 'auto', runs());
    fake.refuse = (command) => (command === BPF_LINK_DETACH ? EPERM : 0);
    await attachment.detach();
    expect(fake.open.size).toBe(0);
  });

  it('takes a filter off in any case, for nobody can hold it', async () => {
    const hooks = new Hooks();
    const attachment = await attach(fake.thin, 7, eth0, 'ingress', 'clsact', runs([], hooks));
    expect(attachment.hold).toBeNull();
    await attachment.letGo();
    expect(hooks).toMatchObject({ qdisc: false, filters: new Map() });
  });

  it('goes by a filter where it does not know links, and takes the qdisc along if it is ours', async () => {
    fake.refuse = (command) => (command === BPF_LINK_CREATE ? EINVAL : 0);
    const hooks = new Hooks();
    const attachment = await attach(fake.thin, 7, eth0, 'ingress', 'auto', runs([], hooks));
    expect(attachment.way).toBe('clsact');
    const filter = 'dev eth0 ingress pref 8285 handle 0x2 protocol all bpf';
    expect(commands).toEqual([
      'tc qdisc add dev eth0 clsact',
      'mount -t bpf bpf BPFFS',
      `tc filter replace ${filter} direct-action object-pinned BPFFS/program`,
      'umount BPFFS',
    ]);
    expect(await attachment.isThere()).toBe(true);
    commands.length = 0;
    await attachment.detach();
    expect(commands).toEqual([
      'tc filter show dev eth0 ingress pref 8285',
      `tc filter del ${filter}`,
      'tc filter show dev eth0 ingress',
      'tc filter show dev eth0 egress',
      'tc qdisc del dev eth0 clsact',
    ]);
    expect(hooks).toMatchObject({ qdisc: false, filters: new Map() });
    expect(fake.open.size).toBe(0);
  });

  it('leaves a qdisc alone that was there before, and what hangs on it', async () => {
    const hooks = new Hooks();
    hooks.add('ingress', 8285, 1, 5, 'foreign');
    hooks.add('egress', 1, 2, 6, 'foreign');
    const attachment = await attach(fake.thin, 7, eth0, 'ingress', 'clsact', runs([], hooks), 8300);
    expect(commands).toContainEqual(expect.stringMatching(/^tc filter replace dev eth0 ingress pref 8300 handle 0x1 /));
    await attachment.detach();
    expect([...hooks.filters.keys()]).toEqual(['ingress 8285', 'egress 1']);
    expect(hooks.qdisc).toBe(true);
    const bare = new Hooks();
    bare.qdisc = true;
    await (await attach(fake.thin, 7, eth0, 'ingress', 'clsact', runs([], bare))).detach();
    expect(bare.qdisc).toBe(true);
  });

  it.each([
    ['the first', [0, 1]],
    ['the second', [1, 0]],
  ])('leaves its qdisc to the other network’s filter, which removes it, when %s goes first', async (_, order) => {
    const hooks = new Hooks();
    const attachments = [
      await attach(fake.thin, 7, eth0, 'ingress', 'clsact', runs([], hooks)),
      await attach(fake.thin, 8, eth0, 'ingress', 'clsact', runs([], hooks), 8300),
    ];
    await attachments[order[0] as number]?.detach();
    expect(hooks).toMatchObject({ qdisc: true, filters: { size: 1 } });
    expect(await attachments[order[1] as number]?.isThere()).toBe(true);
    await attachments[order[1] as number]?.detach();
    expect(hooks).toMatchObject({ qdisc: false, filters: { size: 0 } });
  });

  it('leaves its place to a daemon that took over, and the qdisc with it', async () => {
    const hooks = new Hooks();
    const former = await attach(fake.thin, 7, eth0, 'ingress', 'clsact', runs([], hooks));
    const heir = await attach(fake.thin, 8, eth0, 'ingress', 'clsact', runs([], hooks));
    // so the former one does not put its own back
    expect(await former.isThere()).toBe(true);
    await former.detach();
    expect(await heir.isThere()).toBe(true);
    await heir.detach();
    expect(hooks).toMatchObject({ qdisc: false, filters: { size: 0 } });
  });

  it('comes back with its qdisc when somebody took both away', async () => {
    const hooks = new Hooks();
    const attachment = await attach(fake.thin, 7, eth0, 'ingress', 'clsact', runs([], hooks));
    Object.assign(hooks, { qdisc: false }).filters.clear();
    expect(await attachment.isThere()).toBe(false);
    await attachment.detach();
    await attach(fake.thin, 7, eth0, 'ingress', 'clsact', runs([], hooks));
    expect(hooks).toMatchObject({ qdisc: true, filters: { size: 1 } });
  });

  it.each([
    ['mount', 'mount'],
    ['tc', 'tc filter replace'],
  ])('undoes what it did when %s fails', async (_, command) => {
    await expect(attach(fake.thin, 7, eth0, 'ingress', 'clsact', runs([command]))).rejects.toThrow(/refused/);
    expect(commands.at(-1)).toBe('tc qdisc del dev eth0 clsact');
    expect(commands.filter((line) => line.startsWith('umount'))).toHaveLength(command === 'mount' ? 0 : 1);
  });

  it('undoes what it did when the program cannot be pinned', async () => {
    fake.refuse = (command) => (command === BPF_OBJ_PIN ? EPERM : 0);
    await expect(attach(fake.thin, 7, eth0, 'ingress', 'clsact', runs())).rejects.toThrow(BpfError);
    expect(commands).toContain('umount BPFFS');
    expect(commands.at(-1)).toBe('tc qdisc del dev eth0 clsact');
  });

  it('does not go by a filter when a link is refused for another reason, or demanded', async () => {
    fake.refuse = () => EPERM;
    await expect(attach(fake.thin, 7, eth0, 'ingress', 'auto', runs())).rejects.toThrow(/EPERM/);
    fake.refuse = () => EINVAL;
    await expect(attach(fake.thin, 7, eth0, 'ingress', 'tcx', runs())).rejects.toThrow(/EINVAL/);
    expect(commands).toEqual([]);
  });

  it.each([
    ['and the qdisc that was made for it', 2, false],
    ['and not a qdisc of others', 1, true],
  ])('removes a filter of an earlier life, %s', async (_, handle, stays) => {
    const hooks = new Hooks();
    hooks.add('ingress', 8285, handle, 5);
    await detachFormer(eth0, 'ingress', runs([], hooks));
    expect(hooks).toMatchObject({ qdisc: stays, filters: { size: 0 } });
  });

  it('removes those of one program from the way out of every device, and no other', async () => {
    const all = new Map(['br0', 'flannel0', 'br1'].map((name) => [name, new Hooks()]));
    all.get('br0')?.add('egress', 8285, 2, 5, 'tweed_deliver');
    all.get('flannel0')?.add('egress', 8285, 2, 6, 'tweed_encap');
    all.get('br1')?.add('egress', 8300, 2, 7, 'tweed_deliver');
    const shown = [...all.keys()].map((name) => `qdisc clsact ffff: dev ${name} parent ffff:fff1`);
    const run: Run = async (argv) => {
      if (argv.join(' ') === 'tc qdisc show') {
        return { ...ok, stdout: ['qdisc noqueue 0: dev lo root refcnt 2', ...shown].join('\n') };
      }
      return all.get(argv[4] as string)?.run(argv) ?? failed;
    };
    await detachFormerEverywhere('tweed_deliver', run);
    expect([...all].map(([name, hooks]) => [name, hooks.qdisc])).toEqual([
      ['br0', false],
      ['flannel0', true],
      ['br1', true],
    ]);
  });

  it('removes no filter that is not of ours', async () => {
    const hooks = new Hooks();
    hooks.add('ingress', 8285, 2, 5, 'foreign');
    await detachFormer(eth0, 'ingress', runs([], hooks));
    expect(commands).toEqual(['tc filter show dev eth0 ingress pref 8285']);
  });
});

describe('KernelPath', () => {
  const options: KernelPathOptions = {
    underlay: { name: 'eth0', index: 2, address: 0xc0000201 },
    tun: { name: 'flannel0', index: 3 },
    // an overlay of one subnet: there is nobody to test with
    network: { address: 0x0a050100, length: 24 },
    subnet: { address: 0x0a050100, length: 24 },
    port: 8285,
    mode: 'route',
    merge: false,
  };
  const system = (run: Run = runs()): KernelPathSystem => ({
    bpf: () => fake.thin,
    run,
    processors: () => PROCESSORS,
    types: () => null,
  });

  it('attaches the way in first, and detaches it last', async () => {
    const path = await KernelPath.start(options, system());
    const links = () => [...fake.open.values()].filter((what) => what.startsWith('link'));
    expect(links()).toEqual([`link 2 ${BPF_TCX_INGRESS}`, `link 3 ${BPF_TCX_EGRESS}`]);
    expect(path.status()).toEqual({
      mode: 'route',
      way: 'tcx',
      finishesPackets: true,
      peers: 0,
      containers: 0,
      bridges: { spared: [], reason: '' },
      merging: { into: '', reason: '' },
      complete: false,
    });
    path.setPeers([{ subnet: { address: 0x0a050200, length: 24 }, publicIp: 0xc0000202, pathMtu: 1500 }]);
    expect(path.status()).toMatchObject({ peers: 1, complete: true });
    await path.stop();
    await path.stop();
    expect(fake.open.size).toBe(0);
  });

  it('is held by the ways in and out, which another process lets stay, abandoned', async () => {
    const path = await KernelPath.start(options, system());
    const links = [...fake.open].filter(([, what]) => what.startsWith('link')).map(([descriptor]) => descriptor);
    const name = (link: number) => `kernel-path,2,192.0.2.1,8285,10.5.1.0/24,10.5.1.0/24,${numberOf(link)}`;
    expect([...path.holds()]).toEqual(links.map((link) => [name(link), link]));
    const tendedUntil = () => {
      const state = fake.map('state').entries.get('00000000') as Uint8Array;
      return new DataView(state.buffer).getBigUint64(STATE_TENDED_UNTIL, true);
    };
    expect(tendedUntil()).toBeGreaterThan(process.hrtime.bigint());
    await path.leave();
    await path.leave();
    expect(tendedUntil()).toBe(0n);
    expect(fake.open.size).toBe(0);
    expect(fake.log.filter((line) => line.startsWith(`${BPF_LINK_DETACH} `))).toEqual([]);
  });

  it('takes itself off where it cannot be abandoned', async () => {
    const path = await KernelPath.start(options, system());
    fake.refuse = (_, about) => (about.startsWith('tweed_state') ? EPERM : 0);
    await path.leave();
    expect(fake.open.size).toBe(0);
    expect(fake.log.filter((line) => line.startsWith(`${BPF_LINK_DETACH} `))).toHaveLength(2);
  });

  it('is tended every second, until it is stopped', async () => {
    vi.useFakeTimers();
    try {
      const path = await KernelPath.start(options, system());
      const tended = () => fake.log.filter((line) => line.startsWith(`${BPF_MAP_UPDATE_ELEM} tweed_state`)).length;
      const before = tended();
      vi.advanceTimersByTime(3000);
      expect(tended()).toBe(before + 3);
      fake.refuse = (_, about) => (about.startsWith('tweed_state') ? EPERM : 0);
      expect(() => vi.advanceTimersByTime(1000)).not.toThrow();
      await path.stop();
      vi.advanceTimersByTime(3000);
      expect(tended()).toBe(before + 4);
    } finally {
      vi.useRealTimers();
    }
  });

  it.each<[string, KernelPathRefusedError['stage'], (command: number, about: string) => number]>([
    ['no right to make maps', 'maps', (command) => (command === BPF_MAP_CREATE ? EPERM : 0)],
    ['the last map', 'maps', (_, about) => (about.startsWith('tweed_peer_') ? EPERM : 0)],
    ['a program', 'programs', (command) => (command === BPF_PROG_LOAD ? EINVAL : 0)],
    ['the second program', 'programs', (_, about) => (about === 'tweed_decap' ? EINVAL : 0)],
    ['the last program', 'programs', (_, about) => (about === 'tweed_merged' ? EINVAL : 0)],
    ['the first link', 'attach', (command) => (command === BPF_LINK_CREATE ? EBUSY : 0)],
    ['the second link', 'attach', (_, about) => (about === `3 ${BPF_TCX_EGRESS}` ? EBUSY : 0)],
  ])('refuses with a reason and leaves nothing behind when the kernel refuses %s', async (_, stage, refuse) => {
    fake.refuse = refuse;
    const error = await KernelPath.start(options, system()).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(KernelPathRefusedError);
    expect(error).toMatchObject({ stage, code: 'KERNEL_PATH_REFUSED', cause: expect.any(BpfError) });
    expect(fake.open.size).toBe(0);
  });

  it('refuses when a test run does not end as it should', async () => {
    const wider = { ...options, network: { address: 0x0a050000, length: 16 } };
    // the scripted kernel lets every packet pass
    const error = await KernelPath.start(wider, system()).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ stage: 'self-test', message: expect.stringMatching(/encapsulation ends with 0/) });
    fake.refuse = (command) => (command === BPF_PROG_TEST_RUN ? EPERM : 0);
    await expect(KernelPath.start(wider, system())).rejects.toMatchObject({ stage: 'self-test' });
    expect(fake.open.size).toBe(0);
  });

  it.each([
    ['hardware', ',"parentbus":"pci"', [1472, 1472]],
    ['a virtual machine’s card', ',"parentbus":"virtio"', [0, 1472]],
    ['whatever it is', '', [0, 1472]],
    ['a veth', ',"linkinfo":{"info_kind":"veth"}', [0, 1472]],
  ])('sends over %s to the peers that it can', async (_, linkinfo, longest) => {
    const run: Run = async () => ({ ...ok, stdout: `[{"link_type":"ether"${linkinfo}}]` });
    const path = await KernelPath.start(options, system(run));
    const peer = (n: number) => ({ subnet: { address: 0x0a050000 + n * 256, length: 24 }, publicIp: n, pathMtu: 1500 });
    path.setPeers([peer(2), { ...peer(3), kernelPath: true }]);
    const records = [...fake.map('subnets').entries.values()];
    expect(records.map(({ buffer }) => new DataView(buffer).getUint32(PEER_MAX_PACKET, true))).toEqual(longest);
    expect(path.status().peers).toBe(2);
    await path.stop();
  });

  it('refuses an underlay that is no Ethernet, before it makes anything', async () => {
    const run: Run = async () => ({ ...ok, stdout: '[{"link_type":"none"}]' });
    await expect(KernelPath.start(options, system(run))).rejects.toMatchObject({
      stage: 'underlay',
      message: expect.stringMatching(/eth0 is no Ethernet device but none/),
    });
    expect(fake.log).toEqual([]);
  });
});

it.each([
  ['0\n', 1],
  ['0-1\n', 2],
  ['0-3,8-11', 8],
  ['0,2,5', 3],
])('counts the processors of %j', (list, count) => {
  expect(countProcessors(list)).toBe(count);
});
