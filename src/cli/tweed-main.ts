import { writeSync } from 'node:fs';
import { version } from '../base/version.js';
import { commands, tweedUsage, unknownCommand } from './commands.js';
import { endWith, exitCodes } from './exit.js';
import { OptionError } from './flags.js';
import { printOut } from './print.js';

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
      printAtOnce(tweedUsage());
      return exitCodes.done;
    case '-version':
    case '--version':
    case 'version':
      printAtOnce(`${version}\n`);
      return exitCodes.done;
    default:
      throw new OptionError(unknownCommand(word));
  }
});

/** A few lines. `process.stdout` would load Node's streams and sockets first, a third of what such a command costs with Node 24. */
function printAtOnce(text: string): void {
  const bytes = Buffer.from(text);
  let written = 0;
  try {
    written = writeSync(1, bytes);
  } catch {
    // whatever is wrong there, a stream knows how to wait for it, or to tell
  }
  if (written < bytes.length) printOut(bytes.subarray(written));
}
