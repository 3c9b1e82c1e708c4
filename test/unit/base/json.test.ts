import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { JsonError, parseJson } from '../../../src/base/json.js';

/** How deep a parsed value is, found without a thought for speed. */
function depthOf(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOf));
}

/** Texts with everything in their strings that could be taken for structure. */
const strings = fc.string({ unit: fc.constantFrom('[', ']', '{', '}', '"', '\\', 'a', ',', ':', '\u2028', '😀') });
const values = fc.letrec<{ node: unknown }>((tie) => ({
  node: fc.oneof(
    { depthSize: 'medium', withCrossShrink: true },
    fc.oneof(fc.constant(null), fc.boolean(), fc.double({ noNaN: true, noDefaultInfinity: true }), strings),
    fc.array(tie('node'), { maxLength: 3 }),
    fc.dictionary(strings, tie('node'), { maxKeys: 3 }),
  ),
})).node;

describe('JSON from outside', () => {
  it('is what JSON.parse makes of it, as long as it is not too deep; the depth is the slow reference’s', () => {
    const spaces = fc.constantFrom(0, 1, 4);
    fc.assert(
      fc.property(values, spaces, fc.integer({ min: 0, max: 8 }), (value, space, allowed) => {
        const text = JSON.stringify(value, null, space);
        const parse = () => parseJson(text, { length: 1e6, depth: allowed });
        if (depthOf(value) > allowed) expect(parse).toThrow(/nested more than/);
        else expect(parse()).toEqual(JSON.parse(text));
      }),
      { numRuns: 500 },
    );
  });

  it('gives a value or a JsonError, whatever the text is', () => {
    const pieces = fc.constantFrom('{', '}', '[', ']', '"', '\\', ':', ',', '1', 'null', ' ', '\u0000', 'x');
    fc.assert(
      fc.property(fc.string({ unit: pieces, maxLength: 40 }), (text) => {
        let expected: unknown;
        try {
          expected = JSON.parse(text);
        } catch {
          expect(() => parseJson(text)).toThrow(JsonError);
          return;
        }
        expect(parseJson(text)).toEqual(expected);
      }),
      { numRuns: 2000 },
    );
  });

  it.each([
    ['arrays', '['.repeat(100_000) + ']'.repeat(100_000)],
    ['arrays that never end', '['.repeat(100_000)],
    ['objects', `${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`],
    ['a mixture behind a string with brackets', `["]]]]\\"]]]",${'[{"a":'.repeat(20)}1${'}]'.repeat(20)}]`],
  ])('is refused when it is deep: %s', (_, text) => {
    expect(() => parseJson(text, { length: 1e7, depth: 16 })).toThrow(JsonError);
  });

  it('is refused when it is long, and the message does not repeat it', () => {
    expect(() => parseJson(`"${'x'.repeat(100)}"`, { length: 100, depth: 1 })).toThrow(
      'it has 102 characters, 100 are allowed; write plain JSON of moderate size',
    );
  });
});
