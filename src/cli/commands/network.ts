import fs from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import type { Argv, CommandModule } from 'yargs';
import { checkBackendConfig } from '../../backend/select.js';
import { FileError, TweedError } from '../../base/errors.js';
import { plural } from '../../base/plural.js';
import { printable, printableLines } from '../../base/printable.js';
import { describeRanges } from '../../subnet/network-config/config.js';
import {
  checkNetwork,
  describeChange,
  effectiveConfig,
  type NetworkReport,
  setNetwork,
  subnetCount,
} from '../../subnet/network-config/network.js';
import type { Registry } from '../../subnet/registry.js';
import { printJson, printOut, printText } from '../print.js';
import { registryFlagNames, withDaemonFlags } from '../shared-options.js';
import { withRegistry } from '../with-registry.js';

interface NetworkArguments {
  readonly config?: string | undefined;
  readonly effective?: boolean;
  readonly force?: boolean;
}

const sourceHelp = 'JSON; @FILE to read it from a file; - for standard input';

const get: CommandModule<object, NetworkArguments> = {
  command: 'get',
  describe: 'print the network configuration',
  builder: (args) =>
    args.option('effective', { type: 'boolean', default: false, describe: 'with every default filled in' }),
  handler: async (args) => {
    const json = await withRegistry(args, storedConfig);
    if (args.effective) printJson(effectiveConfig(checkNetwork(json, null).config));
    else printOut(`${process.stdout.isTTY ? printableLines(json) : json}\n`); // byte for byte into a file
  },
};

const set: CommandModule<object, NetworkArguments> = {
  command: 'set <config>',
  describe: 'check a network configuration and store it',
  builder: (args) =>
    args.positional('config', { type: 'string', demandOption: true, describe: sourceHelp }).option('force', {
      type: 'boolean',
      default: false,
      describe: 'also when live leases do not fit, or the backend changes because none is named',
    }),
  handler: async (args) => {
    const json = await readSource(args.config as string);
    checkBackendConfig(checkNetwork(json, null).config);
    const report = await withRegistry(args, (registry) => setNetwork(registry, json, null, args.force));
    printReport(report, 'stored');
    const changes = describeChange(report.before, report.config);
    if (report.before === null) return;
    printText(changes.length === 0 ? 'nothing changes\n' : changes.map((line) => `  ${line}\n`).join(''));
    if (changes.length > 0)
      printText(`undo it: tweed network set --force '${report.before.replaceAll("'", "'\\''")}'\n`);
  },
};

const check: CommandModule<object, NetworkArguments> = {
  command: 'check [config]',
  describe: 'check the stored configuration, or another one against the leases that there are',
  builder: (args) => args.positional('config', { type: 'string', describe: sourceHelp }),
  handler: async (args) => {
    const report = await withRegistry(args, async (registry) => {
      const json = args.config === undefined ? await storedConfig(registry) : await readSource(args.config);
      return checkNetwork(json, await registry.list());
    });
    checkBackendConfig(report.config);
    printReport(report, 'the configuration is right');
  },
};

export const command: CommandModule = {
  command: 'network',
  builder: (args: Argv) =>
    withDaemonFlags(args, registryFlagNames)
      .command(get)
      .command(set)
      .command(check)
      .demandCommand(1, 'say what to do: get, set or check'),
  handler: () => {},
};

async function storedConfig(registry: Registry): Promise<string> {
  const { json } = await registry.getConfig();
  if (json !== null) return json;
  throw new TweedError(
    'NO_CONFIG',
    `${registry.description} has no network configuration; store one with "tweed network set"`,
  );
}

async function readSource(source: string): Promise<string> {
  try {
    if (source === '-' || source === '') return (await text(process.stdin)).trim(); // yargs makes '' of a lone dash
    return source.startsWith('@') ? (await fs.readFile(source.slice(1), 'utf8')).trim() : source;
  } catch (error) {
    throw new FileError(error, 'name a file that can be read');
  }
}

function printReport({ config, warnings }: NetworkReport, verdict: string): void {
  for (const warning of warnings) process.stderr.write(`warning: ${printable(warning)}\n`);
  const room = `room for ${plural(subnetCount(config), 'host')} in ${describeRanges(config)}`;
  printText(`${verdict}: ${room}, backend ${config.backend.type}\n`);
}
