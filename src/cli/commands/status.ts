import { messageOf } from '../../base/errors.js';
import { printable, printableJson, printableLines } from '../../base/printable.js';
import type { DaemonStatus } from '../../observe/status.js';
import { readHostNames } from '../../operator/host-names.js';
import { fetchStatus, isElsewhere } from '../../operator/status-client.js';
import { renderStatus } from '../../operator/status-text.js';
import { exitCodes } from '../exit.js';
import { type Flag, resolveFlags } from '../flags.js';
import { printOut } from '../print.js';
import { flagLines, orUsage } from '../usage.js';
import { callersNamespace, daemonChoiceOptions } from './shared.js';

const yes = (name: string, help: string): Flag => ({ name, kind: 'boolean', default: false, group: 'command', help });

const flags: readonly Flag[] = [
  {
    name: 'run-dir',
    kind: 'string',
    default: '/run/tweed',
    env: 'TWEED_RUN_DIR',
    group: 'command',
    placeholder: 'DIR',
    help: daemonChoiceOptions['run-dir'].describe,
  },
  ...(['device', 'network'] as const).map(
    (name): Flag => ({
      name,
      kind: 'string',
      default: '',
      group: 'command',
      placeholder: name.toUpperCase(),
      help: daemonChoiceOptions[name].describe,
    }),
  ),
  yes('json', 'print JSON; its members are in docs/operations.md'),
  yes('ready', 'end with status 1 unless the overlay is up'),
  yes('verbose', 'totals and features too'),
  yes('watch', 'again every second with the rates, until interrupted'),
];

export const statusUsage = () =>
  [
    'Usage: tweed status [options]',
    '',
    'Shows the lease, the peers and their traffic, drops and features of the running daemon.',
    '',
    ...flagLines(flags, '--'),
    '',
  ].join('\n');

const REFRESH_MS = 1000;

/** `tweed status`, for which health checks start a process every few seconds: it loads little. */
export async function runStatusCommand(argv: readonly string[]): Promise<number> {
  const given = orUsage(statusUsage, () => resolveFlags(flags, argv, process.env));
  if (given === null) return exitCodes.done;
  const [runDir, device, network] = ['run-dir', 'device', 'network'].map((name) => given.get(name)?.value as string);
  const [json, ready, watch, verbose] = ['json', 'ready', 'watch', 'verbose'].map(
    (name) => given.get(name)?.value === true,
  );
  const names = json ? new Map() : await readHostNames();
  let exitCode: number = exitCodes.done;
  const show = async () => {
    const status = await fetchStatus(runDir as string, {
      device: device as string,
      network: network as string,
      namespace: callersNamespace(runDir as string),
    });
    exitCode = ready && !status.ready ? exitCodes.failed : exitCodes.done;
    return json ? `${printableJson(status, watch ? 0 : 2)}\n` : render(status);
  };
  let earlier: { readonly status: DaemonStatus; readonly at: number } | null = null;
  const render = (status: DaemonStatus) => {
    const at = performance.now();
    const before = earlier === null ? null : { status: earlier.status, milliseconds: at - earlier.at };
    if (watch) earlier = { status, at };
    const elsewhere = isElsewhere(status)
      ? `of another network namespace than this shell's: nsenter --net --target ${status.process}\n`
      : '';
    return (
      elsewhere +
      printableLines(renderStatus(status, Date.now(), { verbose: verbose ?? false, names, earlier: before }))
    );
  };
  if (!watch) {
    printOut(await show());
    return exitCode;
  }
  const { repeatPage } = await import('../screen.js');
  await repeatPage({
    // A daemon that restarts comes back; watching goes on meanwhile.
    page: () => show().catch((error: unknown) => `${printable(messageOf(error))}\n`),
    intervalMs: REFRESH_MS,
    plain: json === true,
  });
  return exitCodes.done;
}
