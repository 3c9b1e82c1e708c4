/**
 * The life of a forwarder's thread, seen from both sides: `startForwarder` on the control thread, and below it what the
 * worker itself does. The worker says once that it runs, then blocks in its loop until it is asked to stop or fails.
 */
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { syscalls } from '../linux/libc.js';
import { SharedMemory } from '../linux/memory.js';
import { SOCKADDR_ADDRESS, toNetworkOrder } from '../linux/structs.js';
import { createSum } from './checksum.js';
import { ControlBlock, type Direction } from './control-block.js';
import { Counters } from './counters.js';
import type { ForwarderOptions } from './forwarder.js';
import { PEER_BYTES, PEER_SOCKADDR } from './peers.js';
import { RxForwarder } from './rx.js';
import { TxForwarder } from './tx.js';
import { allowFragments, pathMtu } from './udp-socket.js';

interface ForwarderThreadData {
  readonly tweedForwarder: Direction;
  readonly memory: WebAssembly.Memory;
  readonly options: ForwarderOptions;
}

export interface ForwarderThread {
  /** Settles when the thread has ended: with null after a stop, with the error otherwise. */
  readonly ended: Promise<Error | null>;
}

/** Starts a forwarder and waits until it runs. */
export async function startForwarder(
  direction: Direction,
  memory: SharedMemory,
  options: ForwarderOptions,
): Promise<ForwarderThread> {
  const data: ForwarderThreadData = { tweedForwarder: direction, memory: memory.memory, options };
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: data, name: `tweed-${direction}` });
  const ended = new Promise<Error | null>((resolve) => {
    worker.once('error', (error) => resolve(error instanceof Error ? error : new Error(String(error))));
    worker.once('exit', () => resolve(null));
  });
  const failed = await Promise.race([
    new Promise<null>((resolve) => worker.once('message', () => resolve(null))),
    ended.then((error) => error ?? new Error(`the ${direction} forwarder ended at once`)),
  ]);
  if (failed !== null) throw failed;
  return { ended };
}

function runForwarder(data: ForwarderThreadData): void {
  const { options } = data;
  const memory = SharedMemory.attach(data.memory);
  const sum = createSum(memory);
  const control = new ControlBlock(memory.i32, options.layout.control);
  const mtuOfPeer = (peer: number): number => {
    const word = (options.layout.peers + peer * PEER_BYTES + PEER_SOCKADDR + SOCKADDR_ADDRESS) >>> 2;
    return pathMtu(toNetworkOrder(memory.i32[word]) >>> 0, options.port);
  };
  const fragments = (allowed: boolean) => allowFragments(options.socket, allowed);
  const counters = (at: number) => new Counters(memory.f64, at);
  const forwarder =
    data.tweedForwarder === 'tx'
      ? new TxForwarder(
          memory,
          syscalls,
          sum,
          counters(options.layout.txCounters),
          control,
          options,
          mtuOfPeer,
          fragments,
        )
      : new RxForwarder(memory, syscalls, sum, counters(options.layout.rxCounters), control, options);
  parentPort?.postMessage('running');
  forwarder.run();
}

if (!isMainThread && typeof workerData === 'object' && workerData !== null && 'tweedForwarder' in workerData) {
  runForwarder(workerData as ForwarderThreadData);
}
