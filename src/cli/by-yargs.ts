import yargs, { type CommandModule } from 'yargs';
import { version } from '../base/version.js';
import { OptionError } from './flags.js';

/** Has yargs read the arguments of one command, its name first, and run it. */
export async function runByYargs(command: CommandModule, argv: readonly string[]): Promise<number> {
  await yargs(argv)
    .scriptName('tweed')
    .command(command)
    .strict()
    .recommendCommands()
    .version(version)
    .wrap(Math.min(100, process.stdout.columns ?? 100))
    .fail((message, error) => {
      throw error ?? new OptionError(message);
    })
    .parseAsync();
  return Number(process.exitCode ?? 0);
}
