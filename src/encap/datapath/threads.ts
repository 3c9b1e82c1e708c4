import { EFD_CLOEXEC, EFD_NONBLOCK } from '../../linux/constants.js';
import { SystemCallError } from '../../linux/errno.js';
import { control } from '../../linux/libc.js';
import type { SharedMemory } from '../../linux/memory.js';
import type { ControlBlock, Direction } from '../forwarding/control-block.js';
import type { ForwarderOptions } from './options.js';
import type { RehearsalPlan } from './rehearsal.js';
import { type ForwarderThread, startForwarder } from './thread.js';

/** Who serves what, by the number of threads. */
export const SHARES: Readonly<Record<1 | 2, readonly (readonly Direction[])[]>> = {
  1: [['tx', 'rx']],
  2: [['tx'], ['rx']],
};

/**
 * How many threads `auto` means. Two can use two processors at once, but where there are no more than two the second is
 * taken from the containers, and waking each other up costs more than it gives (docs/architecture.md has the figures).
 */
export function forwarderThreads(wanted: 'auto' | 1 | 2, processors: number): 1 | 2 {
  if (wanted !== 'auto') return wanted;
  return processors <= 2 ? 1 : 2;
}

/** How forwarder threads are started, and who hears of them. */
export interface ThreadOptions {
  /** One for both directions, or one for each. */
  readonly threads: 1 | 2;
  /** What they do until they know what to serve; nothing without it. */
  readonly rehearsal?: RehearsalPlan | null;
  /** Told when a thread ends that was not stopped, with the error that ended it or null. */
  onEnd(directions: readonly Direction[], error: Error | null): void;
  /** Told when a forwarder calls the control thread. */
  onCall?(): void;
}

/** The forwarder threads, and the eventfds by which they are woken. */
export class ForwarderThreads {
  readonly #block: ControlBlock;
  readonly #wakes: readonly number[];
  readonly #threads: ForwarderThread[] = [];
  /**
   * Node joins its worker threads when the process exits, even by `process.exit` or an uncaught error, and a forwarder
   * sleeps until it is woken. Without this the process would never end.
   */
  readonly #atExit = () => this.#end();

  private constructor(block: ControlBlock, wakes: readonly number[]) {
    this.#block = block;
    this.#wakes = wakes;
  }

  /**
   * Starts them and waits until they run. When one does not, the other has ended when this throws. They get ready while
   * the options are made.
   */
  static async start(
    memory: SharedMemory,
    block: ControlBlock,
    options: Promise<ForwarderOptions>,
    { threads, rehearsal = null, onEnd, onCall = () => {} }: ThreadOptions,
  ): Promise<ForwarderThreads> {
    const shares = SHARES[threads];
    const wakes = shares.map(makeEventfd);
    const all = new ForwarderThreads(block, wakes);
    process.once('exit', all.#atExit);
    const started = await Promise.allSettled(
      shares.map((directions, thread) =>
        startForwarder({ directions, rehearsal, memory: memory.memory, thread, wake: wakes[thread] }, options, onCall),
      ),
    );
    for (const [i, outcome] of started.entries()) {
      if (outcome.status === 'rejected') continue;
      all.#threads.push(outcome.value);
      void outcome.value.ended.then((error) => {
        if (!block.stopRequested) onEnd(shares[i], error);
      });
    }
    const failed = started.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined) {
      await all.stop();
      throw failed.reason;
    }
    return all;
  }

  /** Ends them and waits until they have; the descriptors that they used may be closed then. */
  async stop(): Promise<void> {
    this.#end();
    await Promise.all(this.#threads.map(({ ended }) => ended));
    process.removeListener('exit', this.#atExit);
    for (const wake of this.#wakes) control.close(wake);
  }

  /** Asks them to end and wakes them to see it. */
  #end(): void {
    this.#block.requestStop();
    this.wake();
  }

  /** Has their forwarders told that there may be news for them. */
  wake(): void {
    const one = new Uint8Array(8);
    one[0] = 1;
    for (const wake of this.#wakes) control.write(wake, one, one.length);
  }
}

function makeEventfd(): number {
  const fd = control.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) throw new SystemCallError('eventfd', control.errno(), 'raise the limit of open files');
  return fd;
}
