export const jsonOption = { type: 'boolean', default: false, describe: 'print JSON' } as const;

/** The option by which commands find the running daemon. */
export const runDirectoryOption = {
  type: 'string',
  default: process.env.TWEED_RUN_DIR || '/run/tweed',
  describe: "the daemon's -run-dir (TWEED_RUN_DIR)",
} as const;
