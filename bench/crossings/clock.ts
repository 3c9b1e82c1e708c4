import type { RegionAllocator, SharedMemory } from '../../src/linux/memory.js';
import { median } from '../stats/summary.js';
import { CLOCK_THREAD_CPUTIME_ID, native } from './native.js';

/** Reads the time in nanoseconds, from any start. */
export interface Clock {
  readonly id: 'wall' | 'cpu';
  now(): number;
  /** What two readings in a row differ by: part of everything that is timed with it, and taken off again. */
  readonly overhead: number;
}

const CALIBRATION = 2000;

/** The monotonic clock. A reading costs some tens of nanoseconds and no system call. */
export function wallClock(): Clock {
  return calibrated('wall', () => performance.now() * 1e6);
}

/**
 * CPU time of this thread, in user and kernel mode together, as the scheduler accounts for it: the number that
 * getrusage(RUSAGE_THREAD) gives, without being rounded to microseconds. A reading is a system call.
 */
export function cpuClock(memory: SharedMemory, regions: RegionAllocator): Clock {
  const time = regions.take(16);
  const address = memory.base + time;
  const seconds = time >>> 2;
  const nanoseconds = (time + 8) >>> 2;
  const { u32 } = memory;
  return calibrated('cpu', () => {
    native.clockGettime(CLOCK_THREAD_CPUTIME_ID, address);
    return (u32[seconds] as number) * 1e9 + (u32[nanoseconds] as number);
  });
}

function calibrated(id: Clock['id'], now: () => number): Clock {
  const differences = new Float64Array(CALIBRATION);
  // twice: the first time compiles the code
  for (let repeat = 0; repeat < 2; repeat++) {
    for (let i = 0; i < CALIBRATION; i++) {
      const start = now();
      differences[i] = now() - start;
    }
  }
  return { id, now, overhead: median(differences) };
}
