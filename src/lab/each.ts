/** So many hosts are worked on at once: enough to keep every processor busy, without hundreds of processes. */
const atOnce = 16;

/**
 * Does the work for every item, some at once. After a failure or an abort no more is begun; what is under way is waited
 * for, so that nothing is still being made when the caller takes down what was made.
 */
export async function forEach<T>(
  items: readonly T[],
  work: (item: T) => Promise<unknown>,
  signal?: AbortSignal,
): Promise<void> {
  const waiting = items.slice();
  const failures: unknown[] = [];
  const worker = async () => {
    while (failures.length === 0 && waiting.length > 0) {
      try {
        signal?.throwIfAborted();
        await work(waiting.shift() as T);
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
  if (failures.length > 0) throw failures[0];
}
