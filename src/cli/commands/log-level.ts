import type { CommandModule } from 'yargs';
import { daemonLogLevel } from '../../operator/status-client.js';
import { LOG_LEVELS } from '../flag-table.js';
import { printText } from '../print.js';
import { callersNamespace, type DaemonChoice, daemonChoiceOptions } from './shared.js';

type Level = (typeof LOG_LEVELS)[number];

export const command: CommandModule<object, DaemonChoice & { level: Level | undefined }> = {
  command: 'log-level [level]',
  builder: (args) =>
    args
      .positional('level', { type: 'string', choices: LOG_LEVELS, describe: 'the new level' })
      .options(daemonChoiceOptions),
  handler: async ({ 'run-dir': runDir, level, ...choice }) => {
    printText(`${await daemonLogLevel(runDir, level, { ...choice, namespace: callersNamespace(runDir) })}\n`);
  },
};
