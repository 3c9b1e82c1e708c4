import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { listNamespaces } from '../../src/lab/namespace.js';
import type { Contender, Running } from '../contenders/contender.js';
import { BenchError } from '../errors.js';
import { Helper } from '../harness/process.js';
import type { Entry } from '../harness/rounds.js';
import type { Place } from '../suites/traffic.js';
import { NAMESPACE_PREFIX, Pair, removeNamespaces } from './pair.js';

const LOCK = '/run/tweed-bench.pid';

interface Stand {
  readonly contender: Contender;
  readonly pair: Pair;
  running: Running | null;
  server: Helper | null;
}

/** All contenders of a run, ready side by side in namespaces of their own. */
export class Site {
  readonly #stands: Stand[] = [];

  private constructor() {}

  /** Claims the machine for this run and removes what an interrupted one may have left. */
  static async open(): Promise<Site> {
    await claim();
    const leftovers = (await listNamespaces()).filter((name) => name.startsWith(NAMESPACE_PREFIX));
    await removeNamespaces(leftovers);
    return new Site();
  }

  /** Sets a contender up and starts its iperf3 server. */
  async add(contender: Contender): Promise<void> {
    const stand: Stand = { contender, pair: await Pair.up(contender.id, contender.mtu), running: null, server: null };
    this.#stands.push(stand);
    stand.running = await contender.start(stand.pair);
    const [, far] = stand.pair.ends;
    stand.server = await Helper.start(far.container, ['iperf3', '-s', '--forceflush'], /listening/);
  }

  get entries(): Entry<Place>[] {
    return this.#stands.flatMap(({ contender, pair, running, server }) =>
      running === null || server === null
        ? []
        : [{ id: contender.id, place: { pair, running, serverPid: server.pid } }],
    );
  }

  async close(): Promise<void> {
    for (const { pair, running, server } of this.#stands.splice(0)) {
      await server?.stop();
      await running?.stop();
      await pair.down();
    }
    await rm(LOCK, { force: true });
  }
}

/** Two benchmarks at once would measure each other. */
async function claim(): Promise<void> {
  await mkdir('/run', { recursive: true });
  for (;;) {
    try {
      await writeFile(LOCK, String(process.pid), { flag: 'wx' });
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const pid = Number(await readFile(LOCK, 'utf8'));
    if (pid > 0 && isAlive(pid)) {
      throw new BenchError('BUSY', `another benchmark is running (process ${pid}); wait for its end`);
    }
    await rm(LOCK, { force: true }); // its run was killed
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
