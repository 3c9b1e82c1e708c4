/** What calls cost that have nothing to do with packets: the yardsticks for the parts of a crossing. */
import { closeSync, openSync, readFileSync } from 'node:fs';
import { control, syscalls } from '../../src/linux/libc.js';
import { RegionAllocator, SharedMemory } from '../../src/linux/memory.js';
import { IOVEC_BYTES, IOVEC_LENGTH } from '../../src/linux/structs.js';
import { type Clock, cpuClock, wallClock } from './clock.js';
import { MFD_CLOEXEC, native } from './native.js';
import { Stopwatch, time } from './stopwatch.js';

/**
 * - `nothing`: a function of libc that does nothing: koffi alone.
 * - `getppid`: the least that a system call costs, koffi included.
 * - `null-write`: writev to /dev/null: a call with file and buffers that touches no byte of them.
 * - `zero-read`: readv from /dev/zero: user memory is written, nothing is read.
 * - `memory-read`, `memory-write`: pread and pwrite of a file in memory: a copy across the boundary, and the page cache's
 *   own work for every 4 KiB.
 */
export const baselineIds = ['nothing', 'getppid', 'null-write', 'zero-read', 'memory-read', 'memory-write'] as const;
export type BaselineId = (typeof baselineIds)[number];

export interface BaselineTiming {
  readonly part: BaselineId;
  readonly clock: Clock['id'];
  readonly median: number;
  readonly mean: number;
  readonly count: number;
}

const LARGEST = 65_536;

export class Baselines {
  readonly #memory = SharedMemory.create(1 << 18);
  readonly #clocks: readonly Clock[];
  readonly #files: Readonly<Record<'null' | 'zero' | 'memory', number>>;
  readonly #buffer: number;
  readonly #iov: number;

  constructor() {
    const regions = new RegionAllocator();
    this.#clocks = [wallClock(), cpuClock(this.#memory, regions)];
    this.#iov = regions.take(IOVEC_BYTES);
    this.#buffer = regions.take(LARGEST, 4096);
    this.#memory.setPointer(this.#iov, this.#buffer);
    this.#memory.u8.fill(0x5a, this.#buffer, this.#buffer + LARGEST);
    this.#files = {
      null: openSync('/dev/null', 'w'),
      zero: openSync('/dev/zero', 'r'),
      memory: native.memfdCreate('tweed-bench', MFD_CLOEXEC),
    };
    native.pwrite(this.#files.memory, this.#memory.base + this.#buffer, LARGEST, 0);
  }

  /** @param length bytes of each read and write */
  measure(length: number, repeats: number): BaselineTiming[] {
    const buffer = this.#memory.base + this.#buffer;
    const iov = this.#memory.base + this.#iov;
    const { memory, zero, null: sink } = this.#files;
    this.#memory.u32[(this.#iov + IOVEC_LENGTH) >>> 2] = length;
    const calls: Record<BaselineId, () => number> = {
      nothing: () => native.nothing(buffer, buffer, 0),
      getppid: () => native.getppid(),
      'null-write': () => syscalls.writev(sink, iov, 1),
      'zero-read': () => syscalls.readv(zero, iov, 1),
      'memory-read': () => native.pread(memory, buffer, length, 0),
      'memory-write': () => native.pwrite(memory, buffer, length, 0),
    };
    return this.#clocks.flatMap((clock) =>
      baselineIds.map((part) => {
        const watch = new Stopwatch();
        for (let i = 0; i < repeats; i++) time(clock, watch, calls[part]);
        return { part, clock: clock.id, ...watch.read() };
      }),
    );
  }

  close(): void {
    closeSync(this.#files.null);
    closeSync(this.#files.zero);
    control.close(this.#files.memory);
  }
}

/** Writes to so much memory that nothing else is left in the caches of this CPU alone (not those that CPUs share). */
export function cacheEvictor(): () => void {
  const words = new Int32Array((4 * privateCacheBytes()) / Int32Array.BYTES_PER_ELEMENT);
  const perLine = 64 / Int32Array.BYTES_PER_ELEMENT;
  return () => {
    for (let i = 0; i < words.length; i += perLine) words[i]!++;
  };
}

/** The size of the second-level cache, in bytes; 1 MiB where the kernel does not tell. */
export function privateCacheBytes(): number {
  try {
    const text = readFileSync('/sys/devices/system/cpu/cpu0/cache/index2/size', 'utf8');
    const kilobytes = /^(\d+)K$/.exec(text.trim());
    if (kilobytes !== null) return Number(kilobytes[1]) * 1024;
  } catch {} // not told in some virtual machines
  return 1 << 20;
}
