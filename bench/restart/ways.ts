/** The ways in which the program of one host is replaced by another while the containers go on talking. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitFor } from '../../src/lab/wait.js';
import { fetchStatus } from '../../src/operator/status-client.js';
import { compileCLoop, MTU } from '../contenders/c-loop.js';
import { otherEnd } from '../contenders/contender.js';
import { type DaemonPlan, prepareDaemons } from '../contenders/daemon.js';
import { configureDevice, DEVICE, PORT } from '../contenders/engine.js';
import { project } from '../harness/paths.js';
import { Helper } from '../harness/process.js';
import type { End, Pair } from '../network/pair.js';

/** Two hosts that forward; the first one's program can be replaced. */
export interface Replaceable {
  /** Settles when the next program is there; whether it forwards already is for the measurement to say. */
  replace(): Promise<void>;
  stop(): Promise<void>;
}

export interface Way {
  readonly id: string;
  readonly title: string;
  readonly description: string;
  start(pair: Pair): Promise<Replaceable>;
}

const FORWARDING = /"forwarding"/;

/** Daemons, of which the first one is started, and replaced, as `begin` says. */
function daemons(
  begin: (plan: DaemonPlan) => Promise<{ replace(): Promise<void>; stop(): Promise<void> }>,
): Way['start'] {
  return async (pair) => {
    const folder = await mkdtemp(join(tmpdir(), 'tweed-bench-'));
    const [near, far] = (await prepareDaemons(pair, 'udp', folder)) as [DaemonPlan, DaemonPlan];
    const first = await begin(near);
    const second = await Helper.start(far.end.host, far.argv, FORWARDING);
    for (const { runFolder } of [near, far]) {
      await waitFor('both daemons to know each other', async () => {
        const status = await fetchStatus(runFolder).catch(() => null);
        return status?.backend?.peers.length === 1;
      });
    }
    return {
      replace: () => first.replace(),
      async stop() {
        await Promise.all([first.stop(), second.stop()]);
        await rm(folder, { recursive: true, force: true });
      },
    };
  };
}

/** Without a service manager. @param end ends the old one, and tells what the new one needs besides */
function alone(end: (old: Helper) => Promise<readonly string[]>) {
  return async ({ end: { host }, argv }: DaemonPlan) => {
    let current = await Helper.start(host, argv, FORWARDING);
    return {
      async replace() {
        const words = await end(current);
        const former = current;
        current = await Helper.start(host, [...argv, ...words], FORWARDING);
        await former.stop();
      },
      stop: () => current.stop(),
    };
  };
}

/** By a service manager that keeps descriptors. */
function kept(signal: 'SIGTERM' | 'SIGKILL') {
  return async ({ end: { host }, argv, runFolder }: DaemonPlan) => {
    const supervisor = join(project, 'scripts/support/supervisor.mjs');
    const words = [process.execPath, supervisor, join(runFolder, 'notify'), '8', ...argv];
    const manager = await Helper.start(host, words, /^ready$/);
    return {
      async replace() {
        manager.write(`restart ${signal}`);
        await manager.waitFor(/^ready$/);
      },
      async stop() {
        manager.write('stop');
        await manager.waitFor(/^ended/).catch(() => {});
        await manager.stop();
      },
    };
  };
}

/** The least that a program on this wire format can need: it has no registry, and its peer is an argument. */
async function startCLoop(pair: Pair): Promise<Replaceable> {
  const folder = await mkdtemp(join(tmpdir(), 'tweed-bench-'));
  const program = await compileCLoop(folder);
  const start = async (end: End) => {
    const argv = [program, DEVICE, end.address, otherEnd(pair, end).address, String(PORT)];
    const helper = await Helper.start(end.host, argv, /^ready$/);
    await configureDevice(end, MTU);
    return helper;
  };
  const [near, far] = pair.ends;
  let first = await start(near);
  const second = await start(far);
  return {
    async replace() {
      await first.stop();
      first = await start(near);
    },
    async stop() {
      await Promise.all([first.stop(), second.stop()]);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

const nothing: readonly string[] = [];

/** In the order of the report. */
export const ways: readonly Way[] = [
  {
    id: 'left-alone',
    title: 'left alone',
    description: 'nothing is replaced: how long the machine itself keeps packets, and the tools, waiting',
    start: daemons(async ({ end: { host }, argv }) => {
      const daemon = await Helper.start(host, argv, FORWARDING);
      return { replace: async () => {}, stop: () => daemon.stop() };
    }),
  },
  {
    id: 'take-over',
    title: 'take-over',
    description: 'tweed run -take-over beside the daemon that runs',
    start: daemons(alone(async () => ['-take-over'])),
  },
  {
    id: 'store-term',
    title: 'SIGTERM, descriptors kept',
    description: 'restarted by a service manager that keeps the descriptors (FDSTORE)',
    start: daemons(kept('SIGTERM')),
  },
  {
    id: 'store-kill',
    title: 'SIGKILL, descriptors kept',
    description: 'killed, and restarted at once by a service manager that keeps the descriptors',
    start: daemons(kept('SIGKILL')),
  },
  {
    id: 'kill',
    title: 'SIGKILL',
    description: 'killed, and started again at once; the device goes with the process',
    start: daemons(
      alone(async (old) => {
        process.kill(old.pid, 'SIGKILL');
        return nothing;
      }),
    ),
  },
  {
    id: 'stop-start',
    title: 'stop, start',
    description: 'SIGTERM, and started again when it has ended',
    start: daemons(
      alone(async (old) => {
        await old.stop();
        return nothing;
      }),
    ),
  },
  {
    id: 'c-stop-start',
    title: 'plain C loop: stop, start',
    description: 'the yardstick: bench/engines/c-loop.c, which asks no registry, ended and started again',
    start: startCLoop,
  },
];
