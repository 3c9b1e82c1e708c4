import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Reconciler } from '../../../src/daemon/reconciler.js';

it('carries out the last wish, never two at once, and forgets those that were overtaken', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 30 }), async (pauses) => {
      const carriedOut: number[] = [];
      let active = 0;
      const reconciler = new Reconciler<number>(async (wish) => {
        active++;
        expect(active).toBe(1);
        for (let tick = 0; tick < 3; tick++) await null;
        carriedOut.push(wish);
        active--;
      });
      const done: Promise<void>[] = [];
      for (const [wish, pause] of pauses.entries()) {
        done.push(reconciler.want(wish));
        for (let tick = 0; tick < pause; tick++) await null;
      }
      await Promise.all(done);
      expect(carriedOut.at(-1)).toBe(pauses.length - 1);
      expect(carriedOut).toEqual([...carriedOut].sort((a, b) => a - b));
    }),
  );
});

it('tells whoever wanted it of a failure, and goes on with the next wish', async () => {
  const seen: number[] = [];
  const reconciler = new Reconciler<number>(async (wish) => {
    seen.push(wish);
    if (wish === 1) throw new Error('no');
  });
  await expect(reconciler.want(1)).rejects.toThrow('no');
  await reconciler.want(2);
  expect(seen).toEqual([1, 2]);
});

it('ends what it began before it is closed, and begins nothing after it', async () => {
  const seen: string[] = [];
  const reconciler = new Reconciler<string>(async (wish) => {
    await null;
    seen.push(wish);
  });
  void reconciler.want('begun');
  await null;
  void reconciler.want('waiting');
  await reconciler.close();
  await reconciler.want('late');
  expect(seen).toEqual(['begun']);
});
