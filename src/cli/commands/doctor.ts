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

export const doctorCommand: CommandModule<object, DoctorArguments> = {
  command: 'doctor',
  describe: 'examine this host: device, rights, port, forwarding, firewall, MTU, kernel, registry, clock',
  builder: (args) =>
    withDaemonFlags(args, flagNames).option('json', { type: 'boolean', default: false, describe: 'print JSON' }),
  handler: async (args) => {
    const all = runFlags.map(({ name }) => name);
    const given = Object.fromEntries(flagNames.map((name) => [name, (args as Record<string, unknown>)[name]]));
    const findings = await examineHost(daemonOptions(daemonFlags(given, all)));
    process.stdout.write(args.json ? `${JSON.stringify(findings, null, 2)}\n` : renderFindings(findings));
    if (findings.some(({ level }) => level === 'fail')) process.exitCode = exitCodes.failed;
  },
};
