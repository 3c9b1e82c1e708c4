import fs from 'node:fs';
import inspector from 'node:inspector';
import { createLogger, type Logger } from '../../base/log.js';
import { readableLine } from '../../base/log-format.js';
import { LogOutput } from '../../base/log-output.js';
import { runDaemon } from '../../daemon/run.js';
import { hasRoom } from '../../linux/room.js';
import { errorLine, exitCodes } from '../exit.js';
import type { RunRequest } from '../options.js';
import { effectiveSettings } from '../print-config.js';

/** Runs the daemon, with its log, until a signal ends it. @returns the status to end with; nothing is thrown */
export async function stay(program: string, request: RunRequest): Promise<number> {
  // Arguments are there for every user of the host to see in /proc; a title of our own takes their place.
  if (request.flags.get('etcd-password')?.origin === 'flag') process.title = program;
  const isTerminal = process.stderr.isTTY === true;
  const output = new LogOutput(
    { write: (bytes) => fs.writeSync(2, bytes), hasRoom: () => hasRoom(2) },
    ...(isTerminal ? [readableLine] : []),
  );
  const log = startLog(request, output);
  closeInspector(log);
  try {
    await runDaemon({ ...request.options, settings: effectiveSettings(request) }, log);
    return exitCodes.done;
  } catch (error) {
    output.write(errorLine(program.replace(' run', ''), error)); // like the log: whoever does not read it does not keep the process
    return exitCodes.failed;
  }
}

/** Any user of the host may connect to Node's inspector and run code here. Where the command line asks for it, it stays. */
function closeInspector(log: Logger): void {
  if (inspector.url() === undefined || process.execArgv.some((word) => /^--inspect(-brk|-wait)?(=|$)/.test(word)))
    return;
  inspector.close();
  log.warn("Node's inspector was open, by NODE_OPTIONS or by a signal, and is closed now; start tweed by its own name");
}

/** The log, with what was asked for as its first line. */
function startLog(request: RunRequest, output: LogOutput): Logger {
  const log = createLogger(request.options.logLevel, output);
  const given = effectiveSettings(request).filter(({ from }) => from !== 'default');
  log.info({ options: Object.fromEntries(given.map(({ name, value }) => [name, value])) }, 'options given');
  return log;
}
