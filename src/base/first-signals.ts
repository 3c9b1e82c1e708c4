/**
 * What signals mean before anything else is loaded. The programs call it first, and load the rest afterwards.
 *
 * Without a handler SIGUSR1 makes Node open its inspector, through which any user of the host runs code as this process
 * (bin/tweed keeps it shut until then). To a daemon that is only coming up SIGUSR2 and SIGHUP are nothing to die of, and
 * SIGTERM and SIGINT end it before it has anything to take down, also where it is process 1 of a container, which the
 * kernel lets no signal end that has no handler.
 */
const nothing = () => {};
const end = () => process.exit(0);

/** @param daemon whether this is the command that stays; the others end with their terminal, as all programs do */
export function holdSignals(daemon: boolean): void {
  process.on('SIGUSR1', nothing);
  if (!daemon) return;
  for (const signal of ['SIGUSR2', 'SIGHUP'] as const) process.on(signal, nothing);
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, end);
}

/** From here on somebody else decides what SIGTERM and SIGINT mean. */
export function handOverStop(): void {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.off(signal, end);
}
