import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseEnvFile } from '../../../src/base/env-file.js';

const read = (text: string) => Object.fromEntries(parseEnvFile(text));

describe('a file of variables', () => {
  it('is read with quotes, comments, export and blanks', () => {
    const text =
      '# comment\r\nA=1\nexport B="two words" # c\nC=\'#3\'\n D=\nbad line\n2=x\nE = a b \nF=a#b #c\nG=#none\n';
    expect(read(text)).toEqual({ A: '1', B: 'two words', C: '#3', D: '', E: 'a b', F: 'a#b', G: '' });
  });

  it('counts the last value of a name', () => {
    expect(read('A=1\nA=2')).toEqual({ A: '2' });
  });

  it('has no name that means something to an object', () => {
    expect(parseEnvFile('__proto__=x\nconstructor=y').get('__proto__')).toBe('x');
    expect(parseEnvFile('').get('constructor')).toBeUndefined();
  });

  it('leaves a quote that has no end in its value, where it is seen', () => {
    expect(read('A="x')).toEqual({ A: '"x' });
  });
});

/** The ways in which a value can be written such that a shell reads it back. */
const ways: readonly [RegExp, (value: string) => string][] = [
  [/^[^"\r\n]*$/, (value) => `"${value}"`],
  [/^[^'\r\n]*$/, (value) => `'${value}'`],
  [/^[\w./:,@%+-][\w./:,@%+#-]*$/, (value) => value],
];
const blanks = fc.constantFrom('', ' ', '\t', '  ');
const assignment = fc
  .record({
    name: fc.stringMatching(/^[A-Za-z_]\w{0,8}$/),
    value: fc.oneof(fc.string({ maxLength: 12 }), fc.stringMatching(/^[\w./:,#-]{1,12}$/)),
    way: fc.constantFrom(...ways),
    indent: blanks,
    before: blanks,
    after: blanks,
    exported: fc.boolean(),
    comment: fc.constantFrom('', ' # a comment', '\t#"', " # it's"),
    end: fc.constantFrom('\n', '\r\n', '\n\n# a line\n', '\nnothing\n'),
  })
  .filter(({ value, way: [fits] }) => fits.test(value));

describe('whatever is written', () => {
  it('is read back, in every way of writing it', () => {
    fc.assert(
      fc.property(fc.array(assignment, { maxLength: 8 }), (lines) => {
        const text = lines.map(({ name, value, way: [, write], indent, before, after, exported, comment, end }) =>
          [indent, exported ? 'export ' : '', name, before, '=', after, write(value), comment, end].join(''),
        );
        expect(parseEnvFile(text.join(''))).toEqual(new Map(lines.map(({ name, value }) => [name, value])));
      }),
    );
  });

  it('throws nothing, and gives names that are names', () => {
    const piece = fc.constantFrom('export', ' ', '=', '"', "'", '#', 'A', '\n', '\r\n', '\0', 'ü');
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(piece).map((parts) => parts.join('')),
        ),
        (text) => {
          for (const name of parseEnvFile(text).keys()) expect(name).toMatch(/^[A-Za-z_]\w*$/);
        },
      ),
    );
  });
});
