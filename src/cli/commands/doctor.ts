import type { CommandModule } from 'yargs';
import { examineHost, examineKernel, renderFindings } from '../../operator/doctor/doctor.js';
import { exitCodes } from '../exit.js';
import { runFlags } from '../flag-table.js';
import { knownFlags, readSources } from '../known-flags.js';
import { daemonOptions } from '../options.js';
import { printJson, printText } from '../print.js';
import { registryFlagNames, withDaemonFlags } from '../shared-options.js';
import { jsonOption, runDirectoryOption } from './shared.js';

const underlayFlagNames = ['iface', 'iface-regex', 'iface-can-reach', 'public-ip'];
/** Those by which a command looks at this host as its daemon does. */
export const hostFlagNames = [...registryFlagNames, ...underlayFlagNames, 'device', 'socket-buffer', 'run-dir'];

export const command: CommandModule<object, { json: boolean; programs: boolean }> = {
  command: 'doctor',
  builder: (args) =>
    withDaemonFlags(args, hostFlagNames).option('json', jsonOption).option('programs', {
      type: 'boolean',
      default: false,
      describe: 'look at the kernel path, and print its programs and what the kernel’s verifier says',
    }),
  handler: async (args) => {
    const words = args as unknown as Record<string, unknown>;
    const sources = await readSources(String(words['run-dir'] ?? runDirectoryOption.default));
    const given = knownFlags(words, hostFlagNames, runFlags, sources);
    const options = daemonOptions(given);
    const kernel = args.programs ? await examineKernel(options) : { findings: [], programs: '' };
    const findings = [...(await examineHost(options)), ...kernel.findings];
    if (args.json) printJson(findings);
    else printText(`${renderFindings(findings)}${kernel.programs === '' ? '' : `${kernel.programs}\n`}`);
    if (findings.some(({ level }) => level === 'fail')) process.exitCode = exitCodes.failed;
  },
};
