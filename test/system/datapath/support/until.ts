import { setTimeout as delay } from 'node:timers/promises';
import { patient } from '../../../../src/lab/patience.js';

/**
 * Waits until a condition holds, asking again and again.
 *
 * @param condition its first result that is neither false nor null nor undefined is returned
 * @param what said in the error when it does not come true in time
 */
export async function until<T>(
  what: string,
  condition: () => T | Promise<T>,
  timeoutMs = 20_000,
): Promise<Exclude<T, false | null | undefined>> {
  const deadline = Date.now() + patient(timeoutMs);
  for (;;) {
    const result = await condition();
    if (result !== false && result !== null && result !== undefined) {
      return result as Exclude<T, false | null | undefined>;
    }
    if (Date.now() > deadline) throw new Error(`waited ${patient(timeoutMs) / 1000} s in vain: ${what}`);
    await delay(2);
  }
}

/** Receives again and again until `enough` says so; returns everything received. */
export async function gather<T>(
  what: string,
  receive: () => readonly T[],
  enough: (all: readonly T[]) => boolean,
): Promise<readonly T[]> {
  const all: T[] = [];
  await until(what, () => {
    all.push(...receive());
    return enough(all);
  });
  return all;
}
