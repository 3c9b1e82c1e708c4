/** What a forwarder's thread does itself; thread.ts starts it. */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { syscalls } from '../../linux/libc.js';
import { SharedMemory } from '../../linux/memory.js';
import { makeContext } from './context.js';
import { rehearse } from './rehearsal.js';
import { serve } from './serve.js';
import type { ForwarderThreadData, ForwarderThreadStart } from './thread.js';

const port = parentPort as MessagePort;
port.once('message', ({ directions, memory, options, thread, wake }: ForwarderThreadData) => {
  const call = () => port.postMessage('call');
  const context = makeContext(SharedMemory.attach(memory), syscalls, options, call);
  serve(context, directions, thread, wake, () => port.postMessage('running'));
});
const { directions, rehearsal } = workerData as ForwarderThreadStart;
try {
  if (rehearsal !== null) rehearse(directions, rehearsal);
} catch (error) {
  // no address space for its memory: then the first packets take a little longer
  if (!(error instanceof RangeError)) throw error;
}
