import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { printable, printableJson, printableLines, shown } from '../../../src/base/printable.js';
import { renderLeases } from '../../../src/cli/commands/leases.js';
import { renderFindings } from '../../../src/operator/doctor/doctor.js';
import { alignColumns } from '../../../src/operator/format.js';

/** What a terminal might obey, or read in another order. */
const COMMANDS = /[\p{Cc}\p{Bidi_Control}\u200b\u2028\u2029\ufeff]/u;

describe('text from outside', () => {
  it.each([
    ['\x1b]0;owned\x07', '\\u001b]0;owned\\u0007'],
    ['\u009b31m', '\\u009b31m'],
    ['a\r\nb', 'a\\u000d\\u000ab'],
    ['\u202egnp.exe', '\\u202egnp.exe'],
    ['\ud800', '\\ud800'],
    ['zwölf 😀 – ok', 'zwölf 😀 – ok'],
  ])('%j is shown as %j', (text, expected) => {
    expect(printable(text)).toBe(expected);
  });

  it('has nothing a terminal would obey, and what was harmless is unchanged', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(printable(text)).not.toMatch(COMMANDS);
        expect(printableLines(text).replace(/[\n\t]/g, '')).not.toMatch(COMMANDS);
        if (/^[\p{L}\p{N}\p{P}\p{S} ]*$/u.test(text)) expect(printable(text)).toBe(text);
      }),
    );
  });

  it('means the same as JSON', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(JSON.parse(printableJson(value, 2))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
    expect(printableJson({ '\u009b': '\x7f' })).toBe('{"\\u009b":"\\u007f"}');
  });

  it('is cut in messages', () => {
    expect(shown('x'.repeat(70_000))).toBe(`"${'x'.repeat(99)}… (70002 characters)`);
    expect(shown(undefined)).toBe('undefined');
  });

  it('cannot command the terminal from keys, cells and findings, nor forge a line', () => {
    const evil = '10.5.1.0-24\x1b[2J\r\n\u009b2Junreadable: 10.5.2.0-24';
    const row = {
      key: evil,
      subnet: '10.5.1.0/24',
      subnetV6: null,
      publicIp: '192.0.2.1',
      publicIpv6: null,
      backend: evil,
      reservation: false,
      secondsLeft: 1,
      remarks: [evil],
    };
    const texts = [
      renderLeases([row], [{ key: evil, problem: evil }]),
      alignColumns([[evil, 'b']]).join('\n'),
      renderFindings([{ id: 'x', level: 'warn', text: evil, fix: evil }]),
    ];
    for (const text of texts) expect(text.replaceAll('\n', '')).not.toMatch(COMMANDS);
    expect(texts[0].split('\n')).toHaveLength(4);
    expect(texts[2].split('\n')).toHaveLength(4);
  });
});
