import type { Logger } from '../base/log.js';
import { unforeseen } from '../base/unforeseen.js';
import { version } from '../base/version.js';
import { sendUnixDatagram } from '../linux/unix-datagram.js';
import { realParts } from './assemble.js';
import { Daemon } from './daemon.js';
import { ServiceManager } from './notify.js';
import type { DaemonOptions } from './options.js';
import { logPrivileges } from './privileges.js';
import { listenToSignals } from './signals.js';

/**
 * Runs this host's daemon until a signal ends it.
 *
 * @throws TweedError when it has to end for another reason.
 */
export async function runDaemon(options: DaemonOptions, log: Logger): Promise<void> {
  log.info(
    { version, node: process.version, process: process.pid, sinceStartMs: Math.round(performance.now()) },
    'tweed starts',
  );
  warningsGoTo(log);
  logPrivileges(log);
  const manager = new ServiceManager(process.env, sendUnixDatagram, log);
  const daemon = new Daemon(options, realParts, manager, log);
  const signals = listenToSignals(() => daemon.status(), log);
  unforeseen.logTo(log);
  const letGo = unforeseen.catchAll();
  try {
    await daemon.run(signals.stop);
    log.info('tweed has stopped');
  } finally {
    signals.letGo();
    letGo();
  }
}

/** What Node has to warn of goes into the log, and not between its lines in a form of its own. */
function warningsGoTo(log: Logger): void {
  process.removeAllListeners('warning');
  process.on('warning', ({ name, message }) =>
    log[name === 'DeprecationWarning' ? 'debug' : 'warn'](`Node: ${message}`),
  );
}
