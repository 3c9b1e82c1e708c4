import type { CommandModule } from 'yargs';
import { alignColumns, formatDuration } from '../../operator/format.js';
import { type LeaseRow, leaseRows } from '../../subnet/network-config/network.js';
import { registryFlagNames, withDaemonFlags } from '../shared-options.js';
import { withRegistry } from '../with-registry.js';

interface LeasesArguments {
  readonly json: boolean;
}

export const command: CommandModule<object, LeasesArguments> = {
  command: 'leases',
  builder: (args) =>
    withDaemonFlags(args, registryFlagNames).option('json', {
      type: 'boolean',
      default: false,
      describe: 'print JSON',
    }),
  handler: async (args) => {
    const { rows, malformed } = await withRegistry(args, (registry) => leaseRows(registry, Date.now()));
    if (args.json) process.stdout.write(`${JSON.stringify({ leases: rows, malformed }, null, 2)}\n`);
    else process.stdout.write(renderLeases(rows, malformed));
  },
};

/** One line for each lease, and one for each key that cannot be read. */
export function renderLeases(
  rows: readonly LeaseRow[],
  malformed: readonly { key: string; problem: string }[],
): string {
  const lines = alignColumns([
    ['subnet', 'public address', 'backend', 'time left', ''],
    ...rows.map((row) => [row.subnet, row.publicIp, row.backend, timeLeft(row), row.remarks.join('; ')]),
  ]);
  const unreadable = malformed.map(({ key, problem }) => `unreadable: ${key}: ${problem}`);
  return `${[...(rows.length === 0 ? ['no leases'] : lines), ...unreadable].join('\n')}\n`;
}

function timeLeft({ reservation, secondsLeft }: LeaseRow): string {
  if (reservation) return 'reserved';
  return secondsLeft === null ? 'unknown' : formatDuration(secondsLeft);
}
