/**
 * Where programs hang on a device.
 *
 * A TCX link (Linux 6.6) where the kernel has it: it is a descriptor, so it goes with the process, however that ends, unless
 * somebody else has the descriptor too. Else
 * a filter of tc, which knows programs only by a path of a bpffs; the program is pinned for as long as tc takes, in a bpffs
 * of our own that is unmounted at once. A filter outlives the process, so the next life's takes its
 * place, or `detachFormer` removes it.
 */
import { mkdtemp, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ExecResult, exec } from '../base/exec.js';
import { BPF_TCX_EGRESS, BPF_TCX_INGRESS } from '../linux/bpf.js';
import { EINVAL, EOPNOTSUPP } from '../linux/constants.js';
import type { Bpf } from './bpf.js';
import { BpfError } from './bpf-error.js';

export interface Device {
  readonly name: string;
  readonly index: number;
}

export type Direction = 'ingress' | 'egress';
export type Way = 'tcx' | 'clsact';

export interface Attachment {
  readonly way: Way;
  /** Of a link: by what another process can hold on to it, so that it stays when this one ends. */
  readonly hold: Hold | null;
  /** False when somebody took it off. True when an heir's stands in its place. */
  isThere(): Promise<boolean>;
  /** Takes the program off, whoever else holds it; packets go on without it. */
  detach(): Promise<void>;
  /** A link stays if somebody else holds it, and goes otherwise. A filter, which nobody can hold, is taken off. */
  letGo(): Promise<void>;
}

export interface Hold {
  /** The kernel's number of the link. */
  readonly id: number;
  readonly descriptor: number;
}

/** Runs a program; a test scripts it. */
export type Run = (argv: readonly string[], tolerate?: boolean) => Promise<ExecResult>;
const run: Run = (argv, tolerate = false) => exec(argv, { tolerate });

/** Where our filter stands among others: by the port of its network it is known; each network has its own. */
const FLANNEL_PORT = 8285;
/**
 * Handles of our filters. No qdisc says who made it, so the filters on it do: those of tweed's that come later, be it in the
 * place of one or for another network, learn from them whether the last of all has to remove it.
 */
const ON_OTHERS_QDISC = 1;
const ON_OUR_QDISC = 2;

/** @param way `clsact` to go that way though the kernel has the other @throws BpfError, ExecError */
export async function attach(
  bpf: Bpf,
  program: number,
  device: Device,
  direction: Direction,
  way: Way | 'auto' = 'auto',
  runs: Run = run,
  port = FLANNEL_PORT,
): Promise<Attachment> {
  if (way !== 'clsact') {
    try {
      return linked(
        bpf,
        bpf.createLink(program, device.index, direction === 'ingress' ? BPF_TCX_INGRESS : BPF_TCX_EGRESS),
      );
    } catch (error) {
      const unknown = error instanceof BpfError && (error.errno === EINVAL || error.errno === EOPNOTSUPP);
      if (!unknown || way === 'tcx') throw error;
    }
  }
  return attachFilter(bpf, program, device, direction, runs, port);
}

function linked(bpf: Bpf, link: number): Attachment {
  return {
    way: 'tcx',
    get hold() {
      return { id: bpf.linkId(link), descriptor: link };
    },
    isThere: async () => bpf.isAttached(link),
    async detach() {
      try {
        bpf.takeOff(link);
      } catch {
        // closed all the same: it goes with its last descriptor
      }
    },
    letGo: async () => bpf.close(link),
  };
}

async function attachFilter(
  bpf: Bpf,
  program: number,
  { name }: Device,
  direction: Direction,
  runs: Run,
  port: number,
): Promise<Attachment> {
  const id = bpf.programId(program);
  const made = (await runs(['tc', 'qdisc', 'add', 'dev', name, 'clsact'], true)).status === 0;
  const ours = made || (await everyFilter(name, runs)).some(({ handle }) => handle === ON_OUR_QDISC);
  const removeQdisc = async () => {
    if (ours) await removeEmptyQdisc(name, runs);
  };
  const handle = `0x${ours ? ON_OUR_QDISC : ON_OTHERS_QDISC}`;
  const filter = ['dev', name, direction, 'pref', String(port), 'handle', handle, 'protocol', 'all', 'bpf'];
  try {
    await pinned(bpf, program, runs, (path) =>
      runs(['tc', 'filter', 'replace', ...filter, 'direct-action', 'object-pinned', path]),
    );
  } catch (error) {
    await removeQdisc();
    throw error;
  }
  const inPlace = () => filtersOf(name, direction, runs, port);
  const detach = async () => {
    // a device that is gone took its filters along
    const stands = (await inPlace()).some((one) => one.program === id);
    if (stands) await runs(['tc', 'filter', 'del', ...filter], true);
    await removeQdisc();
  };
  return {
    way: 'clsact',
    hold: null,
    // a daemon that takes over puts its own program into this place, and shall keep it
    isThere: async () => (await inPlace()).length > 0,
    detach,
    letGo: detach,
  };
}

/** Unless others have come to hang on it. */
async function removeEmptyQdisc(name: string, runs: Run): Promise<void> {
  for (const way of ['ingress', 'egress']) {
    if ((await runs(['tc', 'filter', 'show', 'dev', name, way], true)).stdout.trim() !== '') return;
  }
  await runs(['tc', 'qdisc', 'del', 'dev', name, 'clsact'], true);
}

/** Removes a filter of an earlier life where a link has taken its place: it would send packets to a device that is gone. */
export async function detachFormer(
  { name }: Pick<Device, 'name'>,
  direction: Direction,
  runs: Run = run,
  port = FLANNEL_PORT,
): Promise<void> {
  const former = await filtersOf(name, direction, runs, port);
  if (former.length === 0) return;
  await runs(['tc', 'filter', 'del', 'dev', name, direction, 'pref', String(port)], true);
  if (former.some(({ handle }) => handle === ON_OUR_QDISC)) await removeEmptyQdisc(name, runs);
}

/** Removes the filters of an earlier life with this program from the way out of every device. */
export async function detachFormerEverywhere(program: string, runs: Run = run, port = FLANNEL_PORT): Promise<void> {
  const { stdout } = await runs(['tc', 'qdisc', 'show'], true);
  for (const [, name = ''] of stdout.matchAll(/^qdisc clsact \S+ dev (\S+)/gm)) {
    const former = await filtersOf(name, 'egress', runs, port);
    if (former.some((one) => one.name === program)) await detachFormer({ name }, 'egress', runs, port);
  }
}

/** Does a filter of ours hang on the device's way in? */
export async function hasFormerFilter(name: string, port: number, runs: Run = run): Promise<boolean> {
  return (await filtersOf(name, 'ingress', runs, port)).length > 0;
}

interface Filter {
  readonly name: string;
  readonly handle: number;
  /** The kernel's number of the program. */
  readonly program: number;
}

/** What filters that are not of tweed's are called: their program's name, or all that tc says of them. */
export async function foreignFilters(name: string, direction: Direction, runs: Run): Promise<readonly string[]> {
  const { stdout } = await runs(['tc', 'filter', 'show', 'dev', name, direction], true);
  // a line with a handle for each, of u32 by another name
  const lines = stdout.split('\n').filter((line) => / handle 0x| fh /.test(line));
  const names = lines.map((line) => / name (\S+)/.exec(line)?.[1] ?? line.trim());
  return names.filter((one) => !one.startsWith('tweed_'));
}

async function everyFilter(name: string, runs: Run): Promise<readonly Filter[]> {
  return [...(await filtersOf(name, 'ingress', runs)), ...(await filtersOf(name, 'egress', runs))];
}

/** tweed's filters on one way of a device. @param port those of this network only */
async function filtersOf(name: string, direction: Direction, runs: Run, port?: number): Promise<readonly Filter[]> {
  const only = port === undefined ? [] : ['pref', String(port)];
  const { stdout } = await runs(['tc', 'filter', 'show', 'dev', name, direction, ...only], true);
  const lines = stdout.matchAll(/ handle 0x([\da-f]+) .* id (\d+) name (tweed_\S+)/g);
  return [...lines].map(([, handle = '', program, filter = '']) => ({
    name: filter,
    handle: Number.parseInt(handle, 16),
    program: Number(program),
  }));
}

async function pinned(
  bpf: Bpf,
  descriptor: number,
  runs: Run,
  work: (path: string) => Promise<unknown>,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'tweed-bpf-'));
  try {
    await runs(['mount', '-t', 'bpf', 'bpf', directory]);
    try {
      const path = join(directory, 'program');
      bpf.pin(descriptor, path);
      await work(path);
    } finally {
      await runs(['umount', directory], true);
    }
  } finally {
    await rmdir(directory);
  }
}
