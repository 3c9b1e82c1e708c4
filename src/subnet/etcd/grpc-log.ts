import { setLogger } from '@grpc/grpc-js';
import type { Logger } from '../../base/log.js';

/**
 * From now on what gRPC has to say goes into this log, and not to standard error in a form of its own. There is one log of
 * gRPC's in a process; the latest call counts.
 *
 * How much it says is as `GRPC_VERBOSITY` and `GRPC_TRACE` ask: without them only its errors.
 */
export function grpcLogsTo(log: Logger): void {
  const write =
    (level: 'warn' | 'debug' | 'trace') =>
    (message?: unknown, ...rest: unknown[]) =>
      log[level](`gRPC: ${[message, ...rest].map(String).join(' ')}`);
  setLogger({ error: write('warn'), info: write('debug'), debug: write('trace') });
}
