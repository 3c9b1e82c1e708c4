import type { CommandModule } from 'yargs';
import { printable } from '../../base/printable.js';
import { alignColumns, formatDuration } from '../../operator/format.js';
import { type LeaseRow, leaseRows } from '../../subnet/network-config/network.js';
import { printJson, printText } from '../print.js';
import { registryFlagNames, withDaemonFlags } from '../shared-options.js';
import { withRegistry } from '../with-registry.js';
import { jsonOption } from './shared.js';

export const command: CommandModule<object, { json: boolean }> = {
  command: 'leases',
  builder: (args) => withDaemonFlags(args, registryFlagNames).option('json', jsonOption),
  handler: async (args) => {
    const { rows, malformed } = await withRegistry(args, (registry) => leaseRows(registry, Date.now()));
    if (args.json) printJson({ leases: rows, malformed });
    else printText(renderLeases(rows, malformed));
  },
};

/** One line for each lease, and one for each key that cannot be read. */
export function renderLeases(
  rows: readonly LeaseRow[],
  malformed: readonly { key: string; problem: string }[],
): string {
  const lines = alignColumns([
    ['subnet', 'public address', 'backend', 'time left', ''],
    ...rows.map((row) => [
      both(row.subnet, row.subnetV6),
      both(row.publicIp, row.publicIpv6),
      row.backend,
      timeLeft(row),
      row.remarks.join('; '),
    ]),
  ]);
  const unreadable = malformed.map(({ key, problem }) => `unreadable: ${printable(key)}: ${printable(problem)}`);
  return `${[...(rows.length === 0 ? ['no leases'] : lines), ...unreadable].join('\n')}\n`;
}

function both(...parts: readonly (string | null)[]): string {
  return parts.filter((part) => part !== null).join(' ');
}

function timeLeft({ reservation, secondsLeft }: LeaseRow): string {
  if (reservation) return 'reserved';
  return secondsLeft === null ? 'unknown' : formatDuration(secondsLeft);
}
