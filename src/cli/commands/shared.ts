/** The option by which commands find the running daemon. */
export const runDirectoryOption = {
  type: 'string',
  default: process.env.TWEED_RUN_DIR || '/run/tweed',
  describe: "the daemon's -run-dir (TWEED_RUN_DIR)",
} as const;

/** The options by which one of several daemons is chosen, for commands read by yargs. */
export const daemonChoiceOptions = {
  'run-dir': runDirectoryOption,
  device: { type: 'string', default: '', describe: 'of several daemons, the one with this device' },
  network: { type: 'string', default: '', describe: 'of several daemons, the one that serves this network' },
} as const;
