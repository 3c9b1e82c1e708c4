import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { acceptCounter, clearWindow, WINDOW_BITS, WINDOW_BYTES } from '../../../src/wireguard/replay-window.js';

const AT = 64;

function window() {
  const buffer = new SharedArrayBuffer(2048);
  const i32 = new Int32Array(buffer);
  const f64 = new Float64Array(buffer);
  return {
    u8: new Uint8Array(buffer),
    i32,
    accept: (counter: number) => acceptCounter(i32, f64, AT, counter),
  };
}

/** The slow reference: remember everything. */
class Reference {
  readonly #seen = new Set<number>();
  #highest = -1;

  accept(counter: number): boolean {
    if (this.#seen.has(counter) || counter + WINDOW_BITS <= this.#highest) return false;
    this.#seen.add(counter);
    this.#highest = Math.max(this.#highest, counter);
    return true;
  }
}

describe('the replay window', () => {
  it('takes each counter once, in any order inside the window', () => {
    const { accept } = window();
    expect([0, 1, 3, 2, 2, 0, 8000, 4, 8000, 3].map(accept)).toEqual([
      true,
      true,
      true,
      true,
      false,
      false,
      true,
      true,
      false,
      false,
    ]);
  });

  it('ends WINDOW_BITS behind the highest, exactly', () => {
    const { accept } = window();
    expect(accept(100_000)).toBe(true);
    expect(accept(100_000 - WINDOW_BITS)).toBe(false);
    expect(accept(100_000 - WINDOW_BITS + 1)).toBe(true);
  });

  it('takes the highest counter there is, and jumps of any size', () => {
    const { accept } = window();
    expect([0, 2 ** 40, 2 ** 53 - 2, 2 ** 53 - 2, 2 ** 40, 0].map(accept)).toEqual([
      true,
      true,
      true,
      false,
      false,
      false,
    ]);
  });

  it('decides as a reference that remembers everything', () => {
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.integer({ min: -70, max: 70 }) },
      { weight: 3, arbitrary: fc.integer({ min: -9_000, max: 9_000 }) },
      { weight: 1, arbitrary: fc.integer({ min: -(2 ** 45), max: 2 ** 45 }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), fc.constantFrom(0, 31, 2 ** 32 - 40, 2 ** 48), (steps, start) => {
        const { accept } = window();
        const reference = new Reference();
        let counter = start;
        for (const by of steps) {
          counter = Math.min(Math.max(0, counter + by), 2 ** 52);
          expect(accept(counter), `counter ${counter}`).toBe(reference.accept(counter));
        }
      }),
      { numRuns: 500 },
    );
  });

  it('writes nowhere else, and is new again when it is cleared', () => {
    const { u8, i32, accept } = window();
    for (let counter = 0; counter < 30_000; counter += 7) accept(counter);
    expect(u8.subarray(0, AT).every((byte) => byte === 0)).toBe(true);
    expect(u8.subarray(AT + WINDOW_BYTES).every((byte) => byte === 0)).toBe(true);
    clearWindow(i32, AT);
    expect(u8.every((byte) => byte === 0)).toBe(true);
    expect(accept(0)).toBe(true);
  });
});
