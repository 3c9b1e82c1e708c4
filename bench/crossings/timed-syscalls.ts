import type { Syscalls } from '../../src/linux/libc.js';
import type { Clock } from './clock.js';
import { Stopwatch } from './stopwatch.js';

/** The calls of the packets' way that a forwarder makes. */
export const timedCalls = ['read', 'readv', 'writev', 'sendmsg', 'recvmmsg'] as const;
export type TimedCall = (typeof timedCalls)[number];

/**
 * The daemon's system calls with a stopwatch around each. Handed to a forwarder in place of the real ones, it measures
 * exactly what the daemon does, on its own buffers and in its own order.
 *
 * Calls that find nothing to do (EAGAIN) are kept apart: they are the system call without packet.
 */
export class TimedSyscalls implements Syscalls {
  readonly full = stopwatches();
  readonly empty = stopwatches();
  /** Time spent inside calls since the last reset, their stopwatches' cost included. */
  inside = 0;
  calls = 0;
  clock: Clock;
  readonly #real: Syscalls;

  constructor(real: Syscalls, clock: Clock) {
    this.#real = real;
    this.clock = clock;
  }

  reset(): void {
    for (const watches of [this.full, this.empty]) for (const call of timedCalls) watches[call].reset();
    this.inside = 0;
    this.calls = 0;
  }

  poll(fds: number, count: number, timeoutMs: number): number {
    return this.#real.poll(fds, count, timeoutMs);
  }

  read(fd: number, buffer: number, length: number): number {
    const start = this.clock.now();
    const result = this.#real.read(fd, buffer, length);
    this.#done('read', start, result);
    return result;
  }

  readv(fd: number, iov: number, count: number): number {
    const start = this.clock.now();
    const result = this.#real.readv(fd, iov, count);
    this.#done('readv', start, result);
    return result;
  }

  writev(fd: number, iov: number, count: number): number {
    const start = this.clock.now();
    const result = this.#real.writev(fd, iov, count);
    this.#done('writev', start, result);
    return result;
  }

  sendmsg(fd: number, message: number, flags: number): number {
    const start = this.clock.now();
    const result = this.#real.sendmsg(fd, message, flags);
    this.#done('sendmsg', start, result);
    return result;
  }

  recvmmsg(fd: number, messages: number, count: number, flags: number, timeout: number): number {
    const start = this.clock.now();
    const result = this.#real.recvmmsg(fd, messages, count, flags, timeout);
    this.#done('recvmmsg', start, result);
    return result;
  }

  #errno = 0;

  #done(call: TimedCall, start: number, result: number): void {
    const elapsed = this.clock.now() - start;
    // reading the clock may be a call into libc too, so the reason of a failure is fetched at once
    if (result < 0) this.#errno = this.#real.errno();
    (result < 0 ? this.empty : this.full)[call].add(elapsed - this.clock.overhead);
    this.inside += elapsed;
    this.calls++;
  }

  errno(): number {
    return this.#errno;
  }
}

function stopwatches(): Record<TimedCall, Stopwatch> {
  return Object.fromEntries(timedCalls.map((call) => [call, new Stopwatch()])) as Record<TimedCall, Stopwatch>;
}
