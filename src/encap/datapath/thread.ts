/**
 * The life of a forwarder's thread, as the control thread sees it; worker.ts is what it does itself. The worker says once
 * that it runs, then blocks in its loop until it is asked to stop or fails.
 */
import { Worker } from 'node:worker_threads';
import { messageOf, TweedError } from '../../base/errors.js';
import { packageFile } from '../../base/package.js';
import type { Direction } from '../forwarding/control-block.js';
import type { ForwarderOptions } from './options.js';
import type { RehearsalPlan } from './rehearsal.js';

/** Built: a worker thread cannot load TypeScript. */
const program = packageFile('dist/encap/datapath/worker.cjs');

/** What a thread is told when it is made. */
export interface ForwarderThreadStart {
  /** The directions that it serves. */
  readonly directions: readonly Direction[];
  /** What it does until it knows its options; null for nothing. */
  readonly rehearsal: RehearsalPlan | null;
}

/** What a thread is told when it is to serve. */
export interface ForwarderThreadData extends Pick<ForwarderThreadStart, 'directions'> {
  readonly memory: WebAssembly.Memory;
  readonly options: ForwarderOptions;
  /** Which of the threads it is, from 0. */
  readonly thread: number;
  /** Descriptor of the eventfd by which it is woken, its own. */
  readonly wake: number;
}

/** A forwarder has no thread to run in. */
export class NoThreadError extends TweedError {
  constructor(cause: unknown) {
    const why = `no thread can be made (${messageOf(cause)})`;
    super('NO_THREAD', `${why}; raise the limit of processes and threads, or free memory`, { cause });
  }
}

export interface ForwarderThread {
  /** Settles when the thread has ended: with null after a stop, with the error otherwise. */
  readonly ended: Promise<Error | null>;
}

/**
 * Starts a thread that forwards in one direction or in both, and waits until it runs.
 *
 * @param options it loads its code, and rehearses, until they are there. Where they never come, it ends again
 * @param onCall told when a forwarder calls the control thread
 * @throws NoThreadError
 */
export async function startForwarder(
  { rehearsal, ...given }: Omit<ForwarderThreadData, 'options'> & ForwarderThreadStart,
  options: Promise<ForwarderOptions>,
  onCall: () => void,
): Promise<ForwarderThread> {
  const { directions } = given;
  const name = directions.join('-');
  const worker = makeThread(`tweed-${name}`, { directions, rehearsal });
  const ended = new Promise<Error | null>((resolve) => {
    worker.once('error', (error) => resolve(error instanceof Error ? error : new Error(String(error))));
    worker.once('exit', () => resolve(null));
  });
  const endedAtOnce = ended.then((error) => Promise.reject(error ?? new Error(`the ${name} forwarder ended at once`)));
  endedAtOnce.catch(() => {}); // whether anybody waits for it at that moment or not
  const running = new Promise<void>((resolve) => worker.once('message', () => resolve()));
  try {
    const data: ForwarderThreadData = { ...given, options: await Promise.race([options, endedAtOnce]) };
    worker.postMessage(data);
    await Promise.race([running, endedAtOnce]);
    worker.on('message', onCall);
  } catch (error) {
    await worker.terminate();
    throw error;
  }
  return { ended };
}

function makeThread(name: string, workerData: ForwarderThreadStart): Worker {
  try {
    return new Worker(program, { name, workerData });
  } catch (error) {
    throw new NoThreadError(error);
  }
}
