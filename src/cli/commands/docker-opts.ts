import fs from 'node:fs/promises';
import type { CommandModule } from 'yargs';
import { parseEnvFile } from '../../base/env-file.js';
import { FileError } from '../../base/errors.js';
import { readTextFile } from '../../base/text-file.js';
import { dockerOptions } from '../docker-opts.js';
import { OptionError } from '../flags.js';
import { printOut } from '../print.js';

const text = { type: 'string', requiresArg: true } as const;
const switchedOff = { type: 'boolean', default: false } as const;

export const command: CommandModule<object, Record<'f' | 'd' | 'k', string> & Record<'i' | 'c' | 'm', boolean>> = {
  command: 'docker-opts',
  builder: (args) =>
    args.options({
      f: { ...text, default: '/run/flannel/subnet.env', describe: "the daemon's subnet file" },
      d: { ...text, default: '/run/docker_opts.env', describe: 'the file to write; - for standard output' },
      i: { ...switchedOff, describe: 'one variable for each option' },
      c: { ...switchedOff, describe: 'all options in one variable (neither -i nor -c: both)' },
      m: { ...switchedOff, describe: 'leave --ip-masq out' },
      k: { ...text, default: 'DOCKER_OPTS', describe: 'name of the combined variable' },
    }),
  handler: async ({ f, d, i, c, m, k }) => {
    if (!/^[A-Za-z_]\w*$/.test(k)) throw new OptionError(`-k ${k}: the value must be a name for a variable`);
    const choices = { individual: i, combined: c, combinedKey: k, masquerade: !m };
    const text = dockerOptions(Object.fromEntries(parseEnvFile(await readIfThere(f))), process.env, choices);
    if (d === '-') printOut(text);
    else {
      await fs.writeFile(d, text).catch((error: unknown) => {
        throw new FileError(error, 'choose another with -d');
      });
    }
  },
};

/** A missing subnet file gives no options, as with the script: Docker then starts with its own defaults. */
function readIfThere(file: string): Promise<string> {
  return readTextFile(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw new FileError(error, 'choose another with -f');
    process.stderr.write(`tweed: ${file} does not exist yet; start the daemon first\n`);
    return '';
  });
}
