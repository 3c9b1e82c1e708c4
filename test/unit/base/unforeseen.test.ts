import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { TweedError } from '../../../src/base/errors.js';
import { isUnforeseen, UnforeseenErrors } from '../../../src/base/unforeseen.js';
import { assertBuilt } from '../../support/built.js';

function recorded() {
  const lines: Record<string, unknown>[] = [];
  let now = 0;
  const errors = new UnforeseenErrors(() => now);
  errors.logTo({ error: (fields: Record<string, unknown>) => lines.push(fields) } as never);
  return { errors, lines, later: (ms: number) => (now += ms) };
}

describe('errors that nobody foresaw', () => {
  it('are counted and logged with their stack and place; the work’s result is passed on', () => {
    const { errors, lines } = recorded();
    expect(errors.guard('adding', () => 3)).toBe(3);
    expect(
      errors.guard('looking', () => {
        throw new TypeError('no such thing');
      }),
    ).toBeUndefined();
    expect(errors.count).toBe(1);
    expect(lines).toEqual([{ where: 'looking', error: expect.stringMatching(/TypeError: no such thing\n\s+at /) }]);
  });

  it('fill no disk: a hundred lines a minute, then how many were left out', () => {
    const { errors, lines, later } = recorded();
    for (let i = 0; i < 1000; i++) errors.note('storm', new Error('x'));
    expect(lines).toHaveLength(100);
    later(60_000);
    errors.note('storm', new Error('x'));
    expect(lines).toHaveLength(101);
    expect(lines.at(-1)).toMatchObject({ untold: 900 });
    expect(errors.count).toBe(1001);
  });

  it.each([
    [Object.create(null)],
    [undefined],
    [null],
    [Symbol('x')],
    ['text'],
    [
      new Proxy(
        {},
        {
          get: () => {
            throw 1;
          },
        },
      ),
    ],
  ])('may be anything at all, and a log that cannot be written changes nothing', (thrown) => {
    const { errors, lines } = recorded();
    errors.note('here', thrown);
    errors.logTo({
      error: () => {
        throw new Error('no space left');
      },
    } as never);
    errors.note('here', thrown);
    expect(errors.count).toBe(2);
    expect(lines).toHaveLength(1);
  });

  it('are neither ours nor the system’s', () => {
    expect(isUnforeseen(new TweedError('X', 'x'))).toBe(false);
    expect(isUnforeseen(Object.assign(new Error('x'), { code: 'ENOENT' }))).toBe(false);
    expect(isUnforeseen(Object.assign(new Error('x'), { code: 'ERR_INVALID_ARG_TYPE' }))).toBe(true);
    expect(isUnforeseen(new RangeError('x'))).toBe(true);
    expect(isUnforeseen('x')).toBe(true);
  });

  it('that nothing catches do not end the process, whether thrown by a callback or rejected', () => {
    assertBuilt(/^base\//);
    const module = fileURLToPath(new URL('../../../dist/base/unforeseen.js', import.meta.url));
    const script = `
      const { unforeseen } = await import(${JSON.stringify(module)});
      unforeseen.catchAll();
      setTimeout(() => { throw new TypeError('in a timer'); });
      Promise.reject(new RangeError('in a promise'));
      process.nextTick(() => { throw null; });
      const repeated = setInterval(() => {
        if (unforeseen.count < 5) throw new Error('again');
        console.log(unforeseen.count);
        clearInterval(repeated);
      }, 1);`;
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    expect(output).toBe('5\n');
  });
});
