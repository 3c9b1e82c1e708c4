import fs from 'node:fs/promises';
import type { CommandModule } from 'yargs';
import { parseEnvFile } from '../../base/env-file.js';
import { FileError } from '../../base/errors.js';
import { dockerOptions } from '../docker-opts.js';
import { OptionError } from '../flags.js';

interface DockerOptsArguments {
  readonly f: string;
  readonly d: string;
  readonly i: boolean;
  readonly c: boolean;
  readonly m: boolean;
  readonly k: string;
}

export const command: CommandModule<object, DockerOptsArguments> = {
  command: 'docker-opts',
  builder: (args) =>
    args
      .option('f', {
        type: 'string',
        default: '/run/flannel/subnet.env',
        requiresArg: true,
        describe: "the daemon's subnet file",
      })
      .option('d', {
        type: 'string',
        default: '/run/docker_opts.env',
        requiresArg: true,
        describe: 'the file to write; - for standard output',
      })
      .option('i', { type: 'boolean', default: false, describe: 'one variable for each option' })
      .option('c', {
        type: 'boolean',
        default: false,
        describe: 'all options in one variable (neither -i nor -c: both)',
      })
      .option('m', { type: 'boolean', default: false, describe: 'leave --ip-masq out' })
      .option('k', {
        type: 'string',
        default: 'DOCKER_OPTS',
        requiresArg: true,
        describe: 'name of the combined variable',
      }),
  handler: async ({ f, d, i, c, m, k }) => {
    if (!/^[A-Za-z_]\w*$/.test(k)) throw new OptionError(`-k ${k}: the value must be a name for a variable`);
    const choices = { individual: i, combined: c, combinedKey: k, masquerade: !m };
    const text = dockerOptions(Object.fromEntries(parseEnvFile(await readIfThere(f))), process.env, choices);
    if (d === '-') process.stdout.write(text);
    else {
      await fs.writeFile(d, text).catch((error: unknown) => {
        throw new FileError(error, 'choose another with -d');
      });
    }
  },
};

/** A missing subnet file gives no options, as with the script: Docker then starts with its own defaults. */
function readIfThere(file: string): Promise<string> {
  return fs.readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw new FileError(error, 'choose another with -f');
    process.stderr.write(`tweed: ${file} does not exist yet; start the daemon first\n`);
    return '';
  });
}
