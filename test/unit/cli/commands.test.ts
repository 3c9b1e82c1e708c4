import { describe, expect, it } from 'vitest';
import { inOurWords } from '../../../src/cli/by-yargs.js';
import { commands, tweedUsage, unknownCommand } from '../../../src/cli/commands.js';

describe('the commands of tweed', () => {
  it('are listed in its help text, the benchmark only where it is built', () => {
    const listed = [...tweedUsage().matchAll(/^ {2}([a-z-]+) {2,}\S/gm)].map((match) => match[1]);
    expect(listed.filter((name) => name !== 'bench')).toEqual(
      commands.map(({ name }) => name).filter((name) => name !== 'bench'),
    );
    expect(listed).toContain('run');
  });

  it.each([
    ['frobnicate', 'unknown command frobnicate; tweed --help lists them'],
    ['stats', 'unknown command stats; did you mean status? tweed --help lists them'],
    ['docker-opt', 'unknown command docker-opt; did you mean docker-opts? tweed --help lists them'],
    ['--json', '--json: name a command first; tweed --help lists them'],
  ])('do not include %s', (word, message) => {
    expect(unknownCommand(word)).toBe(message);
  });
});

describe('what yargs complains of', () => {
  it.each([
    ['Did you mean logs?', ['lab', 'log'], 'lab: unknown command log; did you mean logs? tweed lab --help tells more'],
    ['Did you mean logs?', ['lab', 'foo'], 'lab: unknown command foo; tweed lab --help tells more'],
    [
      'Not enough non-option arguments: got 0, need at least 1',
      ['network', 'set'],
      'network: an argument is missing; tweed network --help tells more',
    ],
    ['Unknown argument: frob', ['ping', '--frob'], 'Unknown argument: frob; tweed ping --help tells more'],
    ['say this; do that', ['lab'], 'say this; do that'],
  ])('is said in our words: %s', (message, argv, said) => {
    expect(inOurWords(message, argv)).toBe(said);
  });
});
