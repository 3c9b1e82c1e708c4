import { createLogger, type Logger } from '../../base/log.js';
import { version } from '../../base/version.js';
import { exitCodes } from '../exit.js';
import { runFlags } from '../flag-table.js';
import { type RunRequest, readRunRequest } from '../options.js';
import { effectiveSettings, renderConfig } from '../print-config.js';
import { orUsage, runUsage } from '../usage.js';

/** `tweed run` and `flanneld`. */
export async function runDaemonCommand(program: string, argv: readonly string[]): Promise<number> {
  const request = orUsage(
    () => runUsage(program, runFlags),
    () => readRunRequest(argv, process.env),
  );
  if (request === null) return exitCodes.done;
  switch (request.wants) {
    case 'version':
      process.stderr.write(`${version}\n`); // standard error, as flanneld does
      return exitCodes.done;
    case 'print-config':
      process.stdout.write(renderConfig(request));
      return exitCodes.done;
    case 'check':
      process.stdout.write('the options are right\n');
      return exitCodes.done;
    case 'run':
      // Arguments are there for every user of the host to see in /proc; a title of our own takes their place.
      if (request.flags.get('etcd-password')?.origin === 'flag') process.title = program;
      await (await import('../../daemon/run.js')).runDaemon(request.options, startLog(request));
      return exitCodes.done;
  }
}

/** The log, with what was asked for as its first line. */
function startLog(request: RunRequest): Logger {
  const log = createLogger(request.options.logLevel);
  const given = effectiveSettings(request).filter(({ from }) => from !== 'default');
  log.info({ options: Object.fromEntries(given.map(({ name, value }) => [name, value])) }, 'options given');
  return log;
}
