import { type Flag, HelpRequested } from './flags.js';
import { printOut } from './print.js';

const WIDTH = 100;
const INDENT = 6;

/** The groups of the daemon's flags, in the order of the help text. */
export const flagHeadings: readonly (readonly [Flag['group'], string])[] = [
  ['flannel', "flanneld's options (each also as FLANNELD_NAME in the environment)"],
  ['logging', 'Logging, as flanneld takes it'],
  ['tweed', "tweed's own options (each also as TWEED_NAME in the environment)"],
  ['command', 'Instead of running'],
];

/** The help text of `tweed run` and `flanneld`, made from the table of flags. */
export function runUsage(program: string, runFlags: readonly Flag[]): string {
  const lines = [`Usage: ${program} [options]`, '', 'Runs the daemon of one host. -name and --name mean the same.'];
  for (const [group, heading] of flagHeadings) {
    const flags = runFlags.filter((flag) => flag.group === group && !flag.hidden);
    lines.push('', `${heading}:`, ...flagLines(flags, '-'));
  }
  return `${lines.join('\n')}\n`;
}

/** What was read; or null when help was asked for, which is printed then. */
export function orUsage<Result>(usage: () => string, read: () => Result): Result | null {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof HelpRequested)) throw error;
    printOut(usage());
    return null;
  }
}

/** The flags as a help text shows them, with the dash or dashes to write before them. */
export function flagLines(flags: readonly Flag[], dash: '-' | '--'): string[] {
  return flags.flatMap((flag) => [`  ${dash}${flag.name}${valueHint(flag)}`, ...wrapped(flag)]);
}

function valueHint(flag: Flag): string {
  return flag.kind === 'boolean' ? '' : ` ${flag.placeholder ?? 'VALUE'}`;
}

/** What a flag is for, and its default. */
export function helpOf(flag: Flag): string {
  const standard = flag.kind === 'strings' || flag.default === '' || flag.default === false ? '' : ` (${flag.default})`;
  return `${flag.help}${standard}`;
}

function wrapped(flag: Flag): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of helpOf(flag).split(' ')) {
    if (line !== '' && INDENT + line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = '';
    }
    line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line].map((each) => ' '.repeat(INDENT) + each);
}
