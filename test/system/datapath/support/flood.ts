import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { formatIpv4 } from '../../../../src/base/ipv4.js';
import type { End } from './transfer.js';

const program = fileURLToPath(new URL('flooder.mjs', import.meta.url));
const PORT = 9;

/** Small datagrams without end from one container to another, where a socket takes them or nobody does. */
export class Flood {
  readonly #child: ChildProcess;

  /** @param size of each datagram's payload; 36 makes packets of 64 bytes @param run how many leave in one call */
  constructor(from: End, to: End<number>, { size = 36, run = 1 } = {}) {
    this.#child = from.namespace.spawn(
      process.execPath,
      [program, formatIpv4(to.address), String(PORT), String(size), String(run)],
      { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] },
    );
    running.add(this);
  }

  async stop(): Promise<void> {
    running.delete(this);
    const child = this.#child;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }
}

const running = new Set<Flood>();

/** Ends the floods that a test has left running. */
export async function stopFloods(): Promise<void> {
  await Promise.all([...running].map((flood) => flood.stop()));
}
