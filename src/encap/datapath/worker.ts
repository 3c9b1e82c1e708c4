/** What a forwarder's thread does itself; thread.ts starts it. */
import { type MessagePort, parentPort } from 'node:worker_threads';
import { syscalls } from '../../linux/libc.js';
import { SharedMemory } from '../../linux/memory.js';
import { makeContext } from './context.js';
import { type Forwarder, ForwarderLoop } from './loop.js';
import { socketOutlet } from './outlet.js';
import { receivers } from './rx.js';
import type { ForwarderThreadData } from './thread.js';
import { TxForwarder } from './tx.js';

const port = parentPort as MessagePort;
port.once('message', ({ directions, memory, options, thread, wake }: ForwarderThreadData) => {
  const call = () => port.postMessage('call');
  const context = makeContext(SharedMemory.attach(memory), syscalls, options, call);
  const loop = new ForwarderLoop(context, thread, wake);
  const forwarders = directions.flatMap((direction): Forwarder[] =>
    direction === 'tx' ? [new TxForwarder(context, socketOutlet(context, loop))] : receivers(context),
  );
  port.postMessage('running');
  loop.serve(forwarders);
});
