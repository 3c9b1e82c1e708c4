/**
 * Fuzzing what comes from outside: whatever it is, it is taken or refused with an error of ours. Anything else is a find.
 *
 * In the unit tests each of these runs some thousand cases from a seed of their own, so that everybody sees the same.
 * `npm run fuzz` gives all of them a time and a seed.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { TweedError } from '../../src/base/errors.js';
import { unforeseen } from '../../src/base/unforeseen.js';
import { HelpRequested } from '../../src/cli/flags.js';

const seconds = Number(process.env.TWEED_FUZZ_SECONDS ?? 0);
const seed = Number(process.env.TWEED_FUZZ_SEED ?? 1);

/** One test: so many cases, or as many as the time allows. @param runs at most about two seconds' worth */
export function fuzz<Case>(
  title: string,
  cases: fc.Arbitrary<Case>,
  runs: number,
  check: (one: Case) => void | Promise<void>,
): void {
  const limits =
    seconds > 0
      ? { numRuns: 1e9, interruptAfterTimeLimit: seconds * 1000, markInterruptAsFailure: false }
      : { numRuns: runs };
  it(title, { timeout: (seconds + 120) * 1000 }, async () => {
    const before = unforeseen.count;
    await fc.assert(
      fc.asyncProperty(cases, async (one) => {
        await check(one);
        expect(unforeseen.count).toBe(before);
      }),
      { seed, ...limits },
    );
  });
}

/** What the work gives; null where it is refused with an error of ours. */
export function taken<Result>(work: () => Result): Result | null {
  try {
    return work();
  } catch (error) {
    if (error instanceof TweedError || error instanceof HelpRequested) return null;
    throw error;
  }
}

/** Characters that have undone parsers before. */
const odd = fc.constantFrom(
  ...[
    '\u0000',
    '\u001b',
    '\u007f',
    '\u009b',
    '\u2028',
    '\u202e',
    '\ufeff',
    '\ud800',
    '😀',
    'İ',
    'ſ',
    '\n',
    '\r',
    '\t',
    ' ',
  ],
  ...[
    '"',
    "'",
    '\\',
    '{',
    '}',
    '[',
    ']',
    ':',
    ',',
    '=',
    '-',
    '&',
    '/',
    '.',
    '#',
    '$',
    '`',
    '%',
    '0',
    '9',
    'a',
    'é',
    '@',
  ],
);
export const oddText = fc.oneof(fc.string({ unit: odd, maxLength: 30 }), fc.string({ unit: 'binary', maxLength: 30 }));

/** JSON texts that a value may be replaced by: wrong types, numbers out of range, names of objects' own things, depth, length. */
export const oddJson: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom(
    ...['null', 'true', '0', '-0', '-1', '1.5', '1e999', '-1e999', '1e-999', '9007199254740993', '4294967296', '65536'],
    ...['""', '"0.0.0.0"', '"255.255.255.255"', '"10.5.0.0/16"', '"::"', '[]', '{}', '{"__proto__":{"x":1}}', '[null]'],
    ...[
      '{"toString":1,"constructor":2,"length":3}',
      '{"toJSON":1}',
      '01',
      'NaN',
      'undefined',
      "'x'",
      '"\\ud800"',
      '"\\u0000"',
    ],
  ),
  oddText.map((text) => JSON.stringify(text)),
  fc.json({ maxDepth: 3 }),
  fc.integer({ min: 1, max: 20_000 }).map((levels) => '['.repeat(levels) + ']'.repeat(levels)),
  fc.integer({ min: 1, max: 20_000 }).map((levels) => `${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`),
  fc.integer({ min: 1, max: 100_000 }).map((length) => `"${'x'.repeat(length)}"`),
);

/** An object's text: some of the good members, some with another value, some twice, some unknown, in any order. */
export function oddObject(good: Readonly<Record<string, string>>): fc.Arbitrary<string> {
  const names = Object.keys(good);
  const name = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(...names) },
    {
      weight: 2,
      arbitrary: fc.constantFrom(...names).chain((one) => fc.constantFrom(one.toLowerCase(), one.toUpperCase())),
    },
    { weight: 1, arbitrary: fc.constantFrom('__proto__', 'constructor', 'toString', '') },
    { weight: 1, arbitrary: oddText },
  );
  const member = fc.tuple(
    name,
    fc.oneof({ weight: 3, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: oddJson }),
  );
  return fc
    .array(member, { maxLength: names.length + 2 })
    .map(
      (members) =>
        `{${members.map(([key, value]) => `${JSON.stringify(key)}:${value ?? good[key] ?? '1'}`).join(',')}}`,
    );
}

/** A text with pieces cut out, doubled, replaced by odd characters or repeated a thousand times. */
export function mutated(texts: readonly string[]): fc.Arbitrary<string> {
  const edit = fc.tuple(
    fc.nat(1000),
    fc.nat(20),
    fc.oneof(fc.constant(''), oddText),
    fc.constantFrom(0, 1, 1, 1, 1000),
  );
  return fc.tuple(fc.constantFrom(...texts), fc.array(edit, { maxLength: 4 })).map(([text, edits]) =>
    edits.reduce((now, [at, length, put, times]) => {
      const start = (at / 1000) * now.length;
      const cut = now.slice(start, start + length);
      return (
        now.slice(0, start) +
        (times === 0 ? '' : (put + cut).repeat(times)).slice(0, 100_000) +
        now.slice(start + length)
      );
    }, text),
  );
}

/** The text as it is, mutated, or something quite different. */
export function near(...texts: string[]): fc.Arbitrary<string> {
  return fc.oneof(
    { weight: 5, arbitrary: mutated(texts) },
    { weight: 1, arbitrary: oddText },
    { weight: 1, arbitrary: oddJson },
  );
}
