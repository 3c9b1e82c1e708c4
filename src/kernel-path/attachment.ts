/**
 * Where programs hang on a device.
 *
 * A TCX link (Linux 6.6) where the kernel has it: it is a descriptor, so it goes with the process, however that ends. Else
 * a filter of tc, which knows programs only by a path of a bpffs; the program is pinned for as long as tc takes, in a bpffs
 * of our own that is unmounted at once. A filter outlives the process, so `detachFormer` removes what an earlier life left.
 */
import { mkdtemp, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ExecResult, exec } from '../base/exec.js';
import { BPF_TCX_EGRESS, BPF_TCX_INGRESS } from '../linux/bpf.js';
import { EINVAL, EOPNOTSUPP } from '../linux/constants.js';
import { type Bpf, BpfError } from './bpf.js';

export interface Device {
  readonly name: string;
  readonly index: number;
}

export type Direction = 'ingress' | 'egress';
export type Way = 'tcx' | 'clsact';

export interface Attachment {
  readonly way: Way;
  /** False when somebody took it off. */
  isThere(): Promise<boolean>;
  /** Takes the program off; packets go on without it. */
  detach(): Promise<void>;
}

/** Runs a program; a test scripts it. */
export type Run = (argv: readonly string[], tolerate?: boolean) => Promise<ExecResult>;
const run: Run = (argv, tolerate = false) => exec(argv, { tolerate });

/** Where our filter stands among others: by the port of its network it is known, and removed; each network has its own. */
const FLANNEL_PORT = 8285;
const HANDLE = '0x1';

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
      const link = bpf.createLink(program, device.index, direction === 'ingress' ? BPF_TCX_INGRESS : BPF_TCX_EGRESS);
      return { way: 'tcx', isThere: async () => bpf.isAttached(link), detach: async () => bpf.close(link) };
    } catch (error) {
      const unknown = error instanceof BpfError && (error.errno === EINVAL || error.errno === EOPNOTSUPP);
      if (!unknown || way === 'tcx') throw error;
    }
  }
  return attachFilter(bpf, program, device, direction, runs, port);
}

async function attachFilter(
  bpf: Bpf,
  program: number,
  { name }: Device,
  direction: Direction,
  runs: Run,
  port: number,
): Promise<Attachment> {
  const ours = (await runs(['tc', 'qdisc', 'add', 'dev', name, 'clsact'], true)).status === 0;
  const removeQdisc = async () => {
    if (!ours) return;
    // others may have come to hang on it meanwhile
    for (const way of ['ingress', 'egress']) {
      if ((await runs(['tc', 'filter', 'show', 'dev', name, way], true)).stdout.trim() !== '') return;
    }
    await runs(['tc', 'qdisc', 'del', 'dev', name, 'clsact'], true);
  };
  const filter = ['dev', name, direction, 'pref', String(port), 'handle', HANDLE, 'protocol', 'all', 'bpf'];
  try {
    await pinned(bpf, program, runs, (path) =>
      runs(['tc', 'filter', 'replace', ...filter, 'direct-action', 'object-pinned', path]),
    );
  } catch (error) {
    await removeQdisc();
    throw error;
  }
  return {
    way: 'clsact',
    isThere: () => hasFilter(name, direction, runs, port),
    async detach() {
      // tolerated: a device that is gone took its filters along
      await runs(['tc', 'filter', 'del', ...filter], true);
      await removeQdisc();
    },
  };
}

/** Removes a filter of an earlier life, which would send packets to a device that is gone. */
export async function detachFormer(
  { name }: Device,
  direction: Direction,
  runs: Run = run,
  port = FLANNEL_PORT,
): Promise<void> {
  if (!(await hasFilter(name, direction, runs, port))) return;
  await runs(['tc', 'filter', 'del', 'dev', name, direction, 'pref', String(port)], true);
}

/** Does a filter of ours hang on the device's way in? */
export function hasFormerFilter(name: string, port: number, runs: Run = run): Promise<boolean> {
  return hasFilter(name, 'ingress', runs, port);
}

async function hasFilter(name: string, direction: Direction, runs: Run, port: number): Promise<boolean> {
  const { stdout } = await runs(['tc', 'filter', 'show', 'dev', name, direction, 'pref', String(port)], true);
  return /\btweed_/.test(stdout);
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
