import yargs, { type CommandModule } from 'yargs';
import { version } from '../base/version.js';
import { OptionError } from './flags.js';

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
      throw error ?? new OptionError(message);
    })
    .parseAsync();
  return Number(process.exitCode ?? 0);
}
