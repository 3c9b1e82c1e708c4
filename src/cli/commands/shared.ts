export const jsonOption = { type: 'boolean', default: false, describe: 'print JSON' } as const;

const USUAL_RUN_DIRECTORY = '/run/tweed';

/** The option by which commands find the running daemon. */
export const runDirectoryOption = {
  type: 'string',
  requiresArg: true,
  default: process.env.TWEED_RUN_DIR || USUAL_RUN_DIRECTORY,
  describe: "the daemon's -run-dir (TWEED_RUN_DIR)",
} as const;

/**
 * A command looks at a daemon of another network namespace only where its run directory was named: in the usual one it is
 * easily taken for this host's own.
 */
export function callersNamespace(runDirectory: string): 'own' | 'any' {
  return runDirectory === USUAL_RUN_DIRECTORY ? 'own' : 'any';
}

/** Which daemon a command asks. */
export interface DaemonChoice {
  readonly 'run-dir': string;
  readonly device: string;
  readonly network: string;
}

/** The options by which one of several daemons is chosen, for commands read by yargs. */
export const daemonChoiceOptions = {
  'run-dir': runDirectoryOption,
  device: { type: 'string', requiresArg: true, default: '', describe: 'of several daemons, the one with this device' },
  network: {
    type: 'string',
    requiresArg: true,
    default: '',
    describe: 'of several daemons, the one that serves this network',
  },
} as const;
