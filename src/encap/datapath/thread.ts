/**
 * The life of a forwarder's thread, seen from both sides: `startForwarder` on the control thread, and below it what the
 * worker itself does. The worker says once that it runs, then blocks in its loop until it is asked to stop or fails.
 */
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { syscalls } from '../../linux/libc.js';
import { SharedMemory } from '../../linux/memory.js';
import type { Direction } from '../forwarding/control-block.js';
import { makeContext } from './context.js';
import { ForwarderLoop } from './loop.js';
import type { ForwarderOptions } from './options.js';
import { socketOutlet } from './outlet.js';
import { RxForwarder } from './rx.js';
import { TxForwarder } from './tx.js';

/** What a thread is told at its start. */
export interface ForwarderThreadData {
  /** The directions that it serves. */
  readonly tweedForwarder: readonly Direction[];
  readonly memory: WebAssembly.Memory;
  readonly options: ForwarderOptions;
  /** Which of the threads it is, from 0. */
  readonly thread: number;
  /** Descriptor of the eventfd by which it is woken, its own. */
  readonly wake: number;
}

export interface ForwarderThread {
  /** Settles when the thread has ended: with null after a stop, with the error otherwise. */
  readonly ended: Promise<Error | null>;
}

/** Starts a thread that forwards in one direction or in both, and waits until it runs. */
export async function startForwarder(data: ForwarderThreadData): Promise<ForwarderThread> {
  const name = data.tweedForwarder.join('-');
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: data, name: `tweed-${name}` });
  const ended = new Promise<Error | null>((resolve) => {
    worker.once('error', (error) => resolve(error instanceof Error ? error : new Error(String(error))));
    worker.once('exit', () => resolve(null));
  });
  const failed = await Promise.race([
    new Promise<null>((resolve) => worker.once('message', () => resolve(null))),
    ended.then((error) => error ?? new Error(`the ${name} forwarder ended at once`)),
  ]);
  if (failed !== null) throw failed;
  return { ended };
}

function runForwarders({ tweedForwarder: directions, memory, options, thread, wake }: ForwarderThreadData): void {
  const context = makeContext(SharedMemory.attach(memory), syscalls, options);
  const loop = new ForwarderLoop(context, thread, wake);
  const forwarders = directions.map((direction) =>
    direction === 'tx' ? new TxForwarder(context, socketOutlet(context, loop)) : new RxForwarder(context),
  );
  parentPort?.postMessage('running');
  loop.serve(forwarders);
}

if (!isMainThread && typeof workerData === 'object' && workerData !== null && 'tweedForwarder' in workerData) {
  runForwarders(workerData as ForwarderThreadData);
}
