import { readFileSync } from 'node:fs';

/** Columns of /proc/net/dev behind the colon: eight for receiving, then bytes, packets, errors, drops for sending. */
const TX_DROPS_COLUMN = 11;

/**
 * Packets that the kernel dropped because the device's transmit queue was full: what a forwarder did not read in time.
 * 0 when the device is not there.
 */
export function deviceDrops(device: string, table: string = readFileSync('/proc/self/net/dev', 'utf8')): number {
  const line = table.split('\n').find((one) => one.trimStart().startsWith(`${device}:`));
  const columns = line
    ?.slice(line.indexOf(':') + 1)
    .trim()
    .split(/\s+/);
  return Number(columns?.[TX_DROPS_COLUMN] ?? 0);
}
