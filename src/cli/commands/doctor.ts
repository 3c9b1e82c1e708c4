import type { CommandModule } from 'yargs';
import { examineHost, renderFindings } from '../../operator/doctor/doctor.js';
import { exitCodes } from '../exit.js';
import { runFlags } from '../flag-table.js';
import { daemonOptions } from '../options.js';
import { printJson, printText } from '../print.js';
import { daemonFlags, registryFlagNames, withDaemonFlags } from '../shared-options.js';
import { jsonOption } from './shared.js';

const underlayFlagNames = ['iface', 'iface-regex', 'iface-can-reach', 'public-ip'];
const flagNames = [...registryFlagNames, ...underlayFlagNames, 'device', 'socket-buffer', 'run-dir'];

export const command: CommandModule<object, { json: boolean }> = {
  command: 'doctor',
  builder: (args) => withDaemonFlags(args, flagNames).option('json', jsonOption),
  handler: async (args) => {
    const given = daemonFlags(args as unknown as Record<string, unknown>, flagNames, runFlags);
    const findings = await examineHost(daemonOptions(given));
    if (args.json) printJson(findings);
    else printText(renderFindings(findings));
    if (findings.some(({ level }) => level === 'fail')) process.exitCode = exitCodes.failed;
  },
};
