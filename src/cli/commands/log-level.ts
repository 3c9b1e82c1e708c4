import type { CommandModule } from 'yargs';
import { daemonLogLevel } from '../../operator/status-client.js';
import { LOG_LEVELS } from '../flag-table.js';
import { runDirectoryOption } from './shared.js';

type Level = (typeof LOG_LEVELS)[number];

export const command: CommandModule<object, { 'run-dir': string; level: Level | undefined }> = {
  command: 'log-level [level]',
  builder: (args) =>
    args
      .positional('level', { type: 'string', choices: LOG_LEVELS, describe: 'the new level' })
      .option('run-dir', runDirectoryOption),
  handler: async ({ 'run-dir': runDir, level }) => {
    process.stdout.write(`${await daemonLogLevel(runDir, level)}\n`);
  },
};
