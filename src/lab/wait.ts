import { setTimeout as delay } from 'node:timers/promises';
import { LabError } from './errors.js';

/**
 * Asks again and again until the answer is neither null nor undefined nor false, and returns it.
 *
 * @param what what is waited for, to complete the sentence "gave up waiting for …".
 */
export async function waitFor<T>(
  what: string,
  ask: () => Promise<T | null | undefined | false> | T | null | undefined | false,
  { timeoutMs = 20_000, everyMs = 20, signal }: { timeoutMs?: number; everyMs?: number; signal?: AbortSignal } = {},
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    signal?.throwIfAborted();
    const answer = await ask();
    if (answer !== null && answer !== undefined && answer !== false) return answer;
    if (performance.now() > deadline) {
      throw new LabError('LAB_TIMEOUT', `gave up waiting for ${what} after ${timeoutMs / 1000} s; look at the logs`);
    }
    await delay(everyMs);
  }
}
