import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ControlBlock, THREADS } from '../../../src/encap/forwarding/control-block.js';
import { NumberPool } from '../../../src/encap/forwarding/number-pool.js';

const block = () => new ControlBlock(new Int32Array(1024), 0);

describe('NumberPool', () => {
  it('gives each number once, and several together or none', () => {
    const pool = new NumberPool(1, 6, block());
    expect(pool.take(2)).toEqual([1, 2]);
    expect(pool.take(4)).toBeNull();
    expect(pool.take(3)).toEqual([3, 4, 5]);
    expect(pool.take(1)).toBeNull();
    expect(pool.take(0)).toEqual([]);
  });

  it('gives what came back after all others, the oldest first', () => {
    const pool = new NumberPool(0, 4, block());
    pool.take(2);
    pool.giveBack(1);
    pool.giveBack(0);
    expect(pool.take(3)).toEqual([2, 3, 1]);
    pool.giveBack(2);
    expect(pool.take(2)).toEqual([0, 2]);
  });

  it('lets a number rest while a thread is in the turn in which it went', () => {
    const control = block();
    const pool = new NumberPool(0, 2, control);
    pool.take(2);
    control.enterTurn(1);
    pool.giveBack(0);
    expect(pool.take(1)).toBeNull();
    control.enterTurn(0); // began later: it cannot have seen it
    expect(pool.take(1)).toBeNull();
    control.leaveTurn(1);
    expect(pool.take(1)).toEqual([0]);
  });

  it('does not mind that the thread is in a turn again', () => {
    const control = block();
    const pool = new NumberPool(0, 1, control);
    pool.take(1);
    control.enterTurn(0);
    pool.giveBack(0);
    control.leaveTurn(0);
    control.enterTurn(0);
    expect(pool.take(1)).toEqual([0]);
  });

  it('never gives a number that a thread may hold, and always one that none can', () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constantFrom('enter', 'leave'), thread: fc.nat(THREADS - 1) }),
      fc.record({ kind: fc.constantFrom('take', 'give'), thread: fc.nat(5) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200, size: 'max' }), (steps) => {
        const control = block();
        const pool = new NumberPool(0, 6, control);
        const published: number[] = [];
        const inTurn = Array<boolean>(THREADS).fill(false);
        /** What each thread may have read since its turn began. */
        const held = Array.from({ length: THREADS }, () => new Set<number>());
        for (const { kind, thread } of steps) {
          if (kind === 'enter' && !inTurn[thread]) {
            control.enterTurn(thread);
            inTurn[thread] = true;
            held[thread] = new Set(published);
          } else if (kind === 'leave' && inTurn[thread]) {
            control.leaveTurn(thread);
            inTurn[thread] = false;
            held[thread]!.clear();
          } else if (kind === 'give' && published.length > 0) {
            pool.giveBack(published.splice(thread % published.length, 1)[0]!);
          } else if (kind === 'take') {
            const taken = pool.take(1);
            const free = [0, 1, 2, 3, 4, 5].filter((n) => !published.includes(n) && !held.some((set) => set.has(n)));
            if (taken === null) expect(free).toEqual([]);
            else {
              expect(free).toContain(taken[0]);
              published.push(taken[0]!);
              for (const [i, set] of held.entries()) if (inTurn[i]) set.add(taken[0]!);
            }
          }
        }
      }),
      { numRuns: 500 },
    );
  });
});
