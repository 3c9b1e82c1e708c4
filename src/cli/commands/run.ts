import fs from 'node:fs';
import { TweedError } from '../../base/errors.js';
import { version } from '../../base/version.js';
import { presentDevice, removalOf } from '../../tun/present.js';
import { exitCodes } from '../exit.js';
import { runFlags } from '../flag-table.js';
import { type RunRequest, readRunRequest } from '../options.js';
import { printOut, printText } from '../print.js';
import { renderConfig } from '../print-config.js';
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
      printOut(`the options are right\n${deviceNote(request.options.udp.deviceName)}`);
      return exitCodes.done;
    case 'run':
      return run(program, request);
  }
}

/** Which backend will run stands in the registry, so what the device is like is no fault of the options. */
function deviceNote(device: string): string {
  const present = presentDevice(device);
  if (present === 'left over') return `${device} was left without a process; the udp backend will take it over\n`;
  if (present === 'none' || present === 'held') return '';
  return `${device} exists and cannot be used by the udp backend (${present}): ${removalOf(device, present) || 'choose another -device'}\n`;
}

/** Until a signal ends it. Loads little until it knows that it stays: to give up privileges the process starts anew. */
async function run(program: string, request: RunRequest): Promise<number> {
  const { options } = request;
  requireNetAdmin(program);
  if (options.dropPrivileges) {
    const { dropPrivileges, needsOf } = await import('../../daemon/privileges.js');
    await dropPrivileges(needsOf(options));
  }
  return (await import('./stay.js')).stay(program, request);
}

/** include/uapi/linux/capability.h */
const CAP_NET_ADMIN = 12n;

/** Before anything is asked for: a host that cannot join takes no lease. @throws TweedError */
function requireNetAdmin(program: string): void {
  const [, mask] = /^CapEff:\s*([0-9a-f]+)$/m.exec(fs.readFileSync('/proc/self/status', 'utf8')) ?? [];
  if (mask === undefined || ((BigInt(`0x${mask}`) >> CAP_NET_ADMIN) & 1n) === 1n) return;
  throw new TweedError('NOT_PERMITTED', `${program} needs the capability CAP_NET_ADMIN; run it as root`);
}
