import { type Logger, pino, symbols } from 'pino';
import { LogOutput, type LogState } from './log-output.js';

export type { Logger };

/** One JSON object a line on standard error, as journald and log shippers like it. */
export function createLogger(level = 'info', output = new LogOutput()): Logger {
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, output);
}

/** How the log fares that this logger, or the one that it is a child of, writes. */
export function logState(log: Logger): LogState {
  const output = (log as unknown as Record<symbol, unknown>)[symbols.streamSym];
  return output instanceof LogOutput ? output.state : { lost: 0, waiting: 0, error: '' };
}

/** A logger that says nothing, for tests and for commands that print their own result. */
export function silentLogger(): Logger {
  return pino({ level: 'silent' });
}
