import type { CommandModule } from 'yargs';
import { examineHost, examineKernel, renderFindings } from '../../operator/doctor/doctor.js';
import { exitCodes } from '../exit.js';
import { runFlags } from '../flag-table.js';
import { daemonOptions } from '../options.js';
import { daemonFlags, registryFlagNames, withDaemonFlags } from '../shared-options.js';

interface DoctorArguments {
  readonly json: boolean;
  readonly programs: boolean;
}

const flagNames = [
  ...registryFlagNames,
  'iface',
  'iface-regex',
  'iface-can-reach',
  'public-ip',
  'device',
  'socket-buffer',
  'run-dir',
];

export const command: CommandModule<object, DoctorArguments> = {
  command: 'doctor',
  builder: (args) =>
    withDaemonFlags(args, flagNames)
      .option('json', { type: 'boolean', default: false, describe: 'print JSON' })
      .option('programs', {
        type: 'boolean',
        default: false,
        describe: 'look at the kernel path, and print its programs and what the kernel’s verifier says',
      }),
  handler: async (args) => {
    const given = daemonFlags(args as unknown as Record<string, unknown>, flagNames, runFlags);
    const options = daemonOptions(given);
    const kernel = args.programs ? await examineKernel(options) : { findings: [], programs: '' };
    const findings = [...(await examineHost(options)), ...kernel.findings];
    process.stdout.write(args.json ? `${JSON.stringify(findings, null, 2)}\n` : renderFindings(findings));
    if (!args.json && kernel.programs !== '') process.stdout.write(`${kernel.programs}\n`);
    if (findings.some(({ level }) => level === 'fail')) process.exitCode = exitCodes.failed;
  },
};
