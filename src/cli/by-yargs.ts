import yargs, { type CommandModule } from 'yargs';
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
  const [, close] = /^Did you mean (.+)\?$/.exec(message) ?? [];
  if (close === undefined) return message.includes(';') ? message : `${message}; ${help}`;
  const unknown = argv.slice(1).find((word) => !word.startsWith('-')) ?? command;
  const similar = nearest(unknown, [close]);
  return `${command}: unknown command ${unknown}; ${similar === null ? '' : `did you mean ${similar}? `}${help}`;
}

/** Has yargs read the arguments of one command, its name first, and run it. */
export async function runByYargs(command: CommandModule, argv: readonly string[]): Promise<number> {
  await yargs(argv)
    .scriptName('tweed')
    .command(command)
    .strict()
    .recommendCommands()
    .version(version)
    .wrap(Math.min(WIDTH, process.stdout.columns ?? WIDTH))
    .fail((message, error) => {
      throw error ?? new OptionError(inOurWords(message, argv));
    })
    .parseAsync();
  return Number(process.exitCode ?? 0);
}
