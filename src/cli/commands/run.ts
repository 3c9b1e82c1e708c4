import fs from 'node:fs';
import inspector from 'node:inspector';
import { TweedError } from '../../base/errors.js';
import { createLogger, type Logger } from '../../base/log.js';
import { readableLine } from '../../base/log-format.js';
import { LogOutput } from '../../base/log-output.js';
import { version } from '../../base/version.js';
import { presentDevice, removalOf } from '../../tun/present.js';
import { errorLine, exitCodes } from '../exit.js';
import { runFlags } from '../flag-table.js';
import { type RunRequest, readRunRequest } from '../options.js';
import { printText } from '../print.js';
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
      printText(renderConfig(request));
      return exitCodes.done;
    case 'check':
      process.stdout.write(`the options are right\n${deviceNote(request.options.udp.deviceName)}`);
      return exitCodes.done;
    case 'run':
      return run(program, request);
  }
}

/** Which backend will run stands in the registry, so what the device is like is no fault of the options. */
function deviceNote(device: string): string {
  const present = presentDevice(device);
  const removal = removalOf(device, present);
  if (removal !== '') return `${device} exists and cannot be used by the udp backend (${present}): ${removal}\n`;
  return present === 'left over' ? `${device} was left without a process; the udp backend will take it over\n` : '';
}

/** Until a signal ends it. */
async function run(program: string, request: RunRequest): Promise<number> {
  const { options } = request;
  requireNetAdmin(program);
  if (options.dropPrivileges) {
    const { dropPrivileges, needsOf } = await import('../../daemon/privileges.js');
    await dropPrivileges(needsOf(options));
  }
  const { hasRoom } = await import('../../linux/room.js');
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
    await (await import('../../daemon/run.js')).runDaemon({ ...options, settings: effectiveSettings(request) }, log);
    return exitCodes.done;
  } catch (error) {
    output.write(errorLine(program.replace(' run', ''), error)); // like the log: whoever does not read it does not keep the process
    return exitCodes.failed;
  }
}

/** include/uapi/linux/capability.h */
const CAP_NET_ADMIN = 12n;

/** Before anything is asked for: a host that cannot join takes no lease. @throws TweedError */
function requireNetAdmin(program: string): void {
  const [, mask] = /^CapEff:\s*([0-9a-f]+)$/m.exec(fs.readFileSync('/proc/self/status', 'utf8')) ?? [];
  if (mask === undefined || ((BigInt(`0x${mask}`) >> CAP_NET_ADMIN) & 1n) === 1n) return;
  throw new TweedError('NOT_PERMITTED', `${program} needs the capability CAP_NET_ADMIN; run it as root`);
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
