import { version } from '../base/version.js';
import { commands, tweedUsage, unknownCommand } from './commands.js';
import { endWith, exitCodes } from './exit.js';
import { OptionError } from './flags.js';

void endWith('tweed', async () => {
  const [word, ...argv] = process.argv.slice(2);
  const command = commands.find(({ name }) => name === word);
  if (command !== undefined) return command.run(argv);
  switch (word) {
    case undefined:
      throw new OptionError('name a command; tweed --help lists them');
    case '-h':
    case '-help':
    case '--help':
    case 'help':
      process.stdout.write(tweedUsage());
      return exitCodes.done;
    case '-version':
    case '--version':
    case 'version':
      process.stdout.write(`${version}\n`);
      return exitCodes.done;
    default:
      throw new OptionError(unknownCommand(word));
  }
});
