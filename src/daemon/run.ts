import type { Logger } from '../base/log.js';
import { version } from '../base/version.js';
import { sendUnixDatagram } from '../linux/unix-datagram.js';
import { realParts } from './assemble.js';
import { Daemon } from './daemon.js';
import { ServiceManager } from './notify.js';
import type { DaemonOptions } from './options.js';
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
  const manager = new ServiceManager(process.env, sendUnixDatagram, log);
  const daemon = new Daemon(options, realParts, manager, log);
  const signals = listenToSignals(() => daemon.status(), log);
  try {
    await daemon.run(signals.stop);
    log.info('tweed has stopped');
  } finally {
    signals.letGo();
  }
}
