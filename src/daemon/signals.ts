import { handOverStop } from '../base/first-signals.js';
import type { Logger } from '../base/log.js';
import { unforeseen } from '../base/unforeseen.js';
import type { StatusSource } from '../observe/status.js';

/**
 * What signals mean to the daemon: SIGTERM and SIGINT ask it to stop, a second one ends the process at once; SIGUSR1
 * writes the status to the log; SIGHUP does nothing, for there is no file to read again.
 *
 * @returns a signal that is aborted when the daemon should stop, and a function that lets go of the process's signals
 */
export function listenToSignals(status: StatusSource, log: Logger): { stop: AbortSignal; letGo: () => void } {
  const controller = new AbortController();
  const handlers = new Map<NodeJS.Signals, (signal: NodeJS.Signals, number: number) => void>();
  const onStop = (signal: NodeJS.Signals, number: number) => {
    if (controller.signal.aborted) {
      log.warn(`${signal} again: ending at once`);
      process.exit(128 + number);
    }
    log.info(`${signal}: stopping`);
    controller.abort();
  };
  handlers.set('SIGTERM', onStop);
  handlers.set('SIGINT', onStop);
  handlers.set('SIGUSR1', () => unforeseen.guard('writing the status', () => log.info({ status: status() }, 'status')));
  handlers.set('SIGHUP', () => log.info('SIGHUP: nothing to read again, going on'));
  for (const [signal, handler] of handlers) process.on(signal, handler);
  handOverStop();
  return {
    stop: controller.signal,
    letGo: () => {
      for (const [signal, handler] of handlers) process.off(signal, handler);
    },
  };
}
