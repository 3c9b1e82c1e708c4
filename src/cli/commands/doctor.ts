import type { CommandModule } from 'yargs';
import { examineHost, renderFindings } from '../../operator/doctor/doctor.js';
import { exitCodes } from '../exit.js';
import { runFlags } from '../flag-table.js';
import { daemonOptions } from '../options.js';
import { daemonFlags, registryFlagNames, withDaemonFlags } from '../shared-options.js';

interface DoctorArguments {
  readonly json: boolean;
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
    withDaemonFlags(args, flagNames).option('json', { type: 'boolean', default: false, describe: 'print JSON' }),
  handler: async (args) => {
    const given = daemonFlags(args as unknown as Record<string, unknown>, flagNames, runFlags);
    const findings = await examineHost(daemonOptions(given));
    process.stdout.write(args.json ? `${JSON.stringify(findings, null, 2)}\n` : renderFindings(findings));
    if (findings.some(({ level }) => level === 'fail')) process.exitCode = exitCodes.failed;
  },
};
