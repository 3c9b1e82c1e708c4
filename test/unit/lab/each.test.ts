import { setImmediate as turn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { forEach } from '../../../src/lab/each.js';

const items = Array.from({ length: 50 }, (_, index) => index);

it('does the work once for every item, never more than 16 at once', async () => {
  const done: number[] = [];
  let running = 0;
  let most = 0;
  await forEach(items, async (item) => {
    most = Math.max(most, ++running);
    await turn();
    running--;
    done.push(item);
  });
  expect(done.sort((a, b) => a - b)).toEqual(items);
  expect(most).toBe(16);
});

it('begins nothing more after a failure, and waits for what is under way before it throws', async () => {
  let begun = 0;
  let ended = 0;
  const work = async (item: number) => {
    begun++;
    if (item === 3) throw new Error('the fourth fails');
    await turn();
    ended++;
  };
  await expect(forEach(items, work)).rejects.toThrow('the fourth fails');
  expect(begun).toBe(16);
  expect(ended).toBe(15);
});

it('begins nothing more once the signal is aborted', async () => {
  const controller = new AbortController();
  let begun = 0;
  const work = async () => {
    if (++begun === 20) controller.abort(new Error('enough'));
    await turn();
  };
  await expect(forEach(items, work, controller.signal)).rejects.toThrow('enough');
  expect(begun).toBeLessThan(40);
});
