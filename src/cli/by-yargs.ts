import yargs, { type ArgumentsCamelCase, type Argv, type CommandModule } from 'yargs';
import { version } from '../base/version.js';
import { OptionError } from './flags.js';
import { nearest } from './nearest.js';

/** Wide enough for a manual page and for most terminals. */
const WIDTH = 100;

/** The help text of a command, or of one below it. @param words its name first */
export async function helpByYargs(command: CommandModule, words: readonly string[]): Promise<string> {
  let text = '';
  await yargs([])
    .scriptName('tweed')
    .command(command)
    .version(version)
    .wrap(WIDTH)
    .exitProcess(false)
    .parse([...words, '--help'], {}, (_error: unknown, _argv: unknown, output: string) => {
      text = output;
    });
  return `${text}\n`;
}

/**
 * yargs' messages as ours are: what was wrong, then what to do.
 *
 * @param argv the words of the command line, the command's name first
 */
export function inOurWords(message: string, argv: readonly string[]): string {
  const [command = ''] = argv;
  const help = `tweed ${command} --help tells more`;
  if (/^Not enough non-option arguments/.test(message)) return `${command}: an argument is missing; ${help}`;
  const [, name] = /^Not enough arguments following: (.+)$/.exec(message) ?? [];
  if (name !== undefined) return `${asOption(name)} needs a value; ${help}`;
  const [, close] = /^Did you mean (.+)\?$/.exec(message) ?? [];
  if (close === undefined) return message.includes(';') ? message : `${message}; ${help}`;
  const unknown = argv.slice(1).find((word) => !word.startsWith('-')) ?? command;
  const similar = nearest(unknown, [close]);
  return `${command}: unknown command ${unknown}; ${similar === null ? '' : `did you mean ${similar}? `}${help}`;
}

const asOption = (name: string) => `${name.length === 1 ? '-' : '--'}${name}`;

/** What yargs knows of the options of the command that it found. It has that method, and its types do not. */
interface KnownOptions {
  getOptions(): { readonly array: readonly string[]; readonly boolean: readonly string[] };
}

/**
 * Reads repeated options as the daemon's are read, the last one counts, where yargs makes a list of them that no command
 * expects; and refuses a switch that is neither on nor off, which yargs takes for off.
 */
function asFlags(args: ArgumentsCamelCase, parser: Argv, argv: readonly string[]): void {
  const known = (parser as unknown as KnownOptions).getOptions();
  // yargs gives each option under both of its names
  const lists = new Set(
    known.array.flatMap((name) => [name, name.replace(/-(.)/g, (_, letter) => letter.toUpperCase())]),
  );
  for (const [name, value] of Object.entries(args)) {
    if (Array.isArray(value) && !lists.has(name) && name !== '_' && name !== '--') args[name] = value.at(-1);
  }
  const end = argv.indexOf('--');
  for (const word of end === -1 ? argv : argv.slice(0, end)) {
    const [, name = '', value = ''] = /^--?([^=]+)=(.*)$/s.exec(word) ?? [];
    if (known.boolean.includes(name) && !/^(true|false)$/.test(value))
      throw new OptionError(`${asOption(name)}=${value}: the value must be true or false`);
  }
}

/** Has yargs read the arguments of one command, its name first, and run it. */
export async function runByYargs(command: CommandModule, argv: readonly string[]): Promise<number> {
  const parser = yargs(argv);
  await parser
    .scriptName('tweed')
    .command(command)
    .strict()
    .middleware((args) => asFlags(args, parser, argv))
    .recommendCommands()
    .version(version)
    .wrap(Math.min(WIDTH, process.stdout.columns ?? WIDTH))
    .fail((message, error) => {
      // An error of yargs' own is about the words, too.
      if (error === undefined || error === null || error.name === 'YError')
        throw new OptionError(inOurWords(message ?? error.message, argv));
      throw error;
    })
    .parseAsync();
  return Number(process.exitCode ?? 0);
}
