import { setTimeout as delay } from 'node:timers/promises';
import { LabTimeoutError } from './errors.js';
import { patient } from './patience.js';

/**
 * Asks again and again until the answer is neither null nor undefined nor false, and returns it.
 *
 * @param what what is waited for, to complete the sentence "gave up waiting for …".
 * @param options `timeoutMs` is multiplied by the patience of this machine
 */
export async function waitFor<T>(
  what: string,
  ask: () => Promise<T | null | undefined | false> | T | null | undefined | false,
  options: { timeoutMs?: number; everyMs?: number; signal?: AbortSignal | undefined } = {},
): Promise<T> {
  const { timeoutMs = 20_000, everyMs = 20, signal } = options;
  const limitMs = patient(timeoutMs);
  const deadline = performance.now() + limitMs;
  for (;;) {
    signal?.throwIfAborted();
    const answer = await ask();
    if (answer !== null && answer !== undefined && answer !== false) return answer;
    if (performance.now() > deadline) {
      throw new LabTimeoutError(what, limitMs);
    }
    await delay(everyMs);
  }
}
