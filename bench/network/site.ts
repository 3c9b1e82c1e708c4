import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { messageOf } from '../../src/base/errors.js';
import { listNamespaces } from '../../src/lab/namespace.js';
import { contenders } from '../contenders/all.js';
import type { Contender, Running } from '../contenders/contender.js';
import { BenchError } from '../errors.js';
import { Helper } from '../harness/process.js';
import type { Progress } from '../harness/progress.js';
import type { ContenderInfo } from '../harness/results.js';
import type { Place } from '../suites/traffic.js';
import { NAMESPACE_PREFIX, Pair, removeNamespaces, type UnderlayState } from './pair.js';
import { echoServer } from './requests.js';

const LOCK = '/run/tweed-bench.pid';

/** A contender with everything that belongs to it. */
interface Stand {
  readonly contender: Contender;
  readonly pair: Pair;
  readonly info: ContenderInfo;
  place: Place | null;
  running: Running | null;
  readonly servers: Helper[];
}

/**
 * The contenders of a run, ready side by side, each in namespaces of its own. Suites share them: a contender is set up
 * when the first suite asks for it, and stays until the end.
 */
export class Site {
  readonly #stands = new Map<string, Stand>();
  readonly #unavailable = new Map<string, ContenderInfo>();

  /** What is known about contenders, and their places where they have one. */
  async open(
    ids: readonly string[],
    progress: Progress,
    signal: AbortSignal,
  ): Promise<{ readonly contenders: readonly ContenderInfo[]; readonly places: ReadonlyMap<string, Place> }> {
    const infos: ContenderInfo[] = [];
    const places = new Map<string, Place>();
    for (const contender of contenders.filter(({ id }) => ids.includes(id))) {
      if (signal.aborted) break;
      progress.step(`setting up ${contender.title}`);
      const place = await this.#open(contender, progress);
      if (place !== null) places.set(contender.id, place);
      infos.push(this.#stands.get(contender.id)?.info ?? (this.#unavailable.get(contender.id) as ContenderInfo));
    }
    return { contenders: infos, places };
  }

  async #open(contender: Contender, progress: Progress): Promise<Place | null> {
    const known = this.#stands.get(contender.id);
    if (known !== undefined) return known.place;
    if (this.#unavailable.has(contender.id)) return null;
    const { id, title, description, encrypted } = contender;
    const info = { id, title, description, encrypted, features: {}, unavailable: '' };
    let reason = await contender.unavailable();
    if (reason === '') {
      try {
        return await this.#start(contender, info);
      } catch (error) {
        // a peer that does not start must not cost the run; ours must
        if (!contender.foreign) throw error;
        reason = messageOf(error);
        await this.#remove(id);
      }
    }
    progress.note(`• without ${title}: ${reason}`);
    this.#unavailable.set(id, { ...info, unavailable: reason });
    return null;
  }

  async #start(contender: Contender, info: ContenderInfo): Promise<Place> {
    const pair = await Pair.up(contender.id, contender.mtu, contender.families);
    const stand: Stand = { contender, pair, info, place: null, running: null, servers: [] };
    this.#stands.set(contender.id, stand);
    const running = await contender.start(pair);
    stand.running = running;
    const [, far] = pair.ends;
    stand.servers.push(await Helper.start(far.container, ['iperf3', '-s', '--forceflush'], /listening/));
    const echo = await Helper.start(far.container, echoServer(), /^ready$/);
    stand.servers.push(echo);
    stand.place = { pair, running, serverPid: echo.pid };
    Object.assign(info.features, await running.features?.());
    return stand.place;
  }

  async setUnderlay(state: UnderlayState): Promise<void> {
    await Promise.all([...this.#stands.values()].map(({ pair }) => pair.setUnderlay(state)));
  }

  async close(): Promise<void> {
    for (const id of [...this.#stands.keys()]) await this.#remove(id);
  }

  async #remove(id: string): Promise<void> {
    const stand = this.#stands.get(id);
    if (stand === undefined) return;
    this.#stands.delete(id);
    await Promise.all(stand.servers.map((server) => server.stop()));
    await stand.running?.stop();
    await stand.pair.down();
  }
}

/**
 * Claims the machine for one run, since two at once would measure each other, and removes what an interrupted one may
 * have left. @returns how to give it back
 */
export async function claimMachine(): Promise<() => Promise<void>> {
  await mkdir('/run', { recursive: true });
  for (;;) {
    try {
      await writeFile(LOCK, String(process.pid), { flag: 'wx' });
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const pid = Number(await readFile(LOCK, 'utf8'));
    if (pid > 0 && isAlive(pid)) {
      throw new BenchError('BUSY', `another benchmark is running (process ${pid}); wait for its end`);
    }
    await rm(LOCK, { force: true }); // its run was killed
  }
  await removeNamespaces((await listNamespaces()).filter((name) => name.startsWith(NAMESPACE_PREFIX)));
  return () => rm(LOCK, { force: true });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
