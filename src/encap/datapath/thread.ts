/**
 * The life of a forwarder's thread, seen from both sides: `startForwarder` on the control thread, and below it what the
 * worker itself does. The worker says once that it runs, then blocks in its loop until it is asked to stop or fails.
 */
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { syscalls } from '../../linux/libc.js';
import { SharedMemory } from '../../linux/memory.js';
import { SOCKADDR_ADDRESS, toNetworkOrder } from '../../linux/structs.js';
import { ControlBlock, type Direction } from '../forwarding/control-block.js';
import { Counters } from '../forwarding/counters.js';
import { PEER_BYTES, PEER_SOCKADDR } from '../forwarding/forwarding-table.js';
import { LOOP_BYTES } from '../forwarding/layout.js';
import { createSum } from '../wire/checksum.js';
import { ForwarderLoop } from './loop.js';
import type { ForwarderOptions } from './options.js';
import { RxForwarder } from './rx.js';
import { TxForwarder, type TxServices } from './tx.js';
import { allowFragments, pathMtu } from './udp-socket.js';

/** What a thread is told at its start. */
interface ForwarderThreadData {
  /** The directions that it serves. */
  readonly tweedForwarder: readonly Direction[];
  readonly memory: WebAssembly.Memory;
  readonly options: ForwarderOptions;
  /** Offset of the loop's own LOOP_BYTES. */
  readonly loop: number;
  /** Descriptor of the eventfd by which it is woken. */
  readonly wake: number;
}

export interface ForwarderThread {
  /** Settles when the thread has ended: with null after a stop, with the error otherwise. */
  readonly ended: Promise<Error | null>;
}

/**
 * Starts a thread that forwards in one direction or in both, and waits until it runs.
 *
 * @param index which of the threads it is, from 0
 * @param wake an eventfd, its own
 */
export async function startForwarder(
  directions: readonly Direction[],
  memory: SharedMemory,
  options: ForwarderOptions,
  index: number,
  wake: number,
): Promise<ForwarderThread> {
  const loop = options.layout.loops + index * LOOP_BYTES;
  const data: ForwarderThreadData = { tweedForwarder: directions, memory: memory.memory, options, loop, wake };
  const name = directions.join('-');
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

function runForwarders({ tweedForwarder: directions, options, loop: at, wake, ...data }: ForwarderThreadData): void {
  const memory = SharedMemory.attach(data.memory);
  const sum = createSum(memory);
  const control = new ControlBlock(memory.i32, options.layout.control);
  const loop = new ForwarderLoop(memory, at, syscalls, control, wake, options.socket);
  const services: TxServices = {
    pathMtu: (peer) => {
      const word = (options.layout.peers + peer * PEER_BYTES + PEER_SOCKADDR + SOCKADDR_ADDRESS) >>> 2;
      return pathMtu(toNetworkOrder(memory.i32[word]) >>> 0, options.port);
    },
    allowFragments: (allowed) => allowFragments(options.socket, allowed),
    awaitRoom: () => loop.awaitRoom(),
  };
  const forwarders = directions.map((direction) => {
    const counters = new Counters(memory.f64, options.layout[`${direction}Counters`]);
    return direction === 'tx'
      ? new TxForwarder(memory, syscalls, sum, counters, control, options, services)
      : new RxForwarder(memory, syscalls, sum, counters, control, options);
  });
  parentPort?.postMessage('running');
  loop.serve(forwarders);
}

if (!isMainThread && typeof workerData === 'object' && workerData !== null && 'tweedForwarder' in workerData) {
  runForwarders(workerData as ForwarderThreadData);
}
