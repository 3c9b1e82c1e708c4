import { type Logger, pino } from 'pino';

export type { Logger };

/** One JSON object a line on standard error, as journald and log shippers like it. */
export function createLogger(level = 'info'): Logger {
  return pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 2, sync: true }),
  );
}

/** A logger that says nothing, for tests and for commands that print their own result. */
export function silentLogger(): Logger {
  return pino({ level: 'silent' });
}
