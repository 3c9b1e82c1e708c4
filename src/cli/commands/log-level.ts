import type { CommandModule } from 'yargs';
import { daemonLogLevel } from '../../operator/status-client.js';
import { LOG_LEVELS } from '../flag-table.js';
import { runDirectoryOption } from './shared.js';

interface LogLevelArguments {
  readonly 'run-dir': string;
  readonly level: (typeof LOG_LEVELS)[number] | undefined;
}

export const command: CommandModule<object, LogLevelArguments> = {
  command: 'log-level [level]',
  builder: (args) =>
    args
      .positional('level', { type: 'string', choices: LOG_LEVELS, describe: 'the new level' })
      .option('run-dir', runDirectoryOption),
  handler: async ({ 'run-dir': runDir, level }) => {
    process.stdout.write(`${await daemonLogLevel(runDir, level)}\n`);
  },
};
