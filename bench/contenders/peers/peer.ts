import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exec } from '../../../src/base/exec.js';
import { inside, ipInside, processesInside } from '../../../src/lab/namespace.js';
import { waitFor } from '../../../src/lab/wait.js';
import { Helper } from '../../harness/process.js';
import type { End, Pair } from '../../network/pair.js';
import { type Contender, otherEnd, type Running } from '../contender.js';

/** Longer than any of them needs for its handshake. */
const READY_MS = 15_000;

/** The addresses that the two ends have inside the tunnel, where it needs some. */
export const tunnelAddress = (end: End): string => `10.99.0.${end.number}`;

/** Somebody else's tunnel, as a user might set it up between two hosts. */
export interface Peer {
  readonly id: string;
  readonly title: string;
  readonly description: string;
  readonly encrypted: boolean;
  readonly mtu: number;
  /** Debian's packages. */
  readonly packages: readonly string[];
  /** Every program that must be there, with an argument that makes it end at once. */
  readonly programs: readonly (readonly [program: string, argument: string])[];
  /** Its device on an end. */
  device(end: End): string;
  /** Writes keys and configuration for both ends into a folder. */
  prepare?(folder: string, pair: Pair): Promise<void>;
  /** The program of one end; it stays in the foreground. */
  command(end: End, peer: End, folder: string): readonly string[];
  /** A line by which the program says that its device is there; without it, the device is waited for. */
  readonly ready?: RegExp;
  /** Further set-up of an end whose device exists. */
  configure?(end: End, peer: End, folder: string): Promise<void>;
  /** It sets addresses, MTU and routes itself. */
  readonly configuresDevice?: boolean;
}

/** Makes a contender of a peer. */
export function peerContender(peer: Peer): Contender {
  const { id, title, description, encrypted, mtu, programs, packages } = peer;
  return {
    id,
    title,
    description: `${description}; MTU ${mtu}`,
    encrypted,
    mtu,
    foreign: true,
    async unavailable() {
      for (const [program, argument] of programs) {
        try {
          await exec([program, argument], { tolerate: true });
        } catch {
          return `${program} is not installed (--install-peers gets it: ${packages.join(' ')})`;
        }
      }
      return '';
    },
    start: (pair) => start(peer, pair),
  };
}

async function start(peer: Peer, pair: Pair): Promise<Running> {
  const folder = await mkdtemp(join(tmpdir(), 'tweed-bench-'));
  const helpers: Helper[] = [];
  const stop = async () => {
    await Promise.all(helpers.map((helper) => helper.stop()));
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await peer.prepare?.(folder, pair);
    for (const end of pair.ends) {
      const other = otherEnd(pair, end);
      helpers.push(await Helper.start(end.host, peer.command(end, other, folder), peer.ready ?? null));
    }
    for (const end of pair.ends) {
      const other = otherEnd(pair, end);
      await waitFor(`${peer.title} to make its device`, () => hasDevice(end.host, peer.device(end)));
      await peer.configure?.(end, other, folder);
      if (!peer.configuresDevice) {
        await ipInside(end.host, [
          `link set ${peer.device(end)} mtu ${peer.mtu} txqueuelen 1000 up`,
          `addr replace ${tunnelAddress(end)}/24 dev ${peer.device(end)}`,
        ]);
      }
      await ipInside(end.host, [`route replace ${other.subnet} dev ${peer.device(end)}`]);
    }
    await waitFor(`${peer.title} to carry a packet`, () => answers(pair), { timeoutMs: READY_MS, everyMs: 100 });
  } catch (error) {
    await stop();
    throw error;
  }
  const pids = await processesInside(pair.ends.map(({ host }) => host));
  return { pids, device: peer.device, stop };
}

async function hasDevice(namespace: string, device: string): Promise<boolean> {
  const { status } = await exec(['ip', '-n', namespace, 'link', 'show', 'dev', device], { tolerate: true });
  return status === 0;
}

async function answers({ ends: [near, far] }: Pair): Promise<boolean> {
  const argv = inside(near.container, ['ping', '-n', '-c', '1', '-W', '0.5', far.containerAddress]);
  return (await exec(argv, { tolerate: true })).status === 0;
}
