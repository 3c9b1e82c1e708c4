/** Running totals of a network device, as the kernel counts them. */
export interface DeviceTotals {
  readonly rxBytes: number;
  readonly rxPackets: number;
  readonly rxErrors: number;
  readonly rxDrops: number;
  readonly txBytes: number;
  readonly txPackets: number;
  readonly txErrors: number;
  readonly txDrops: number;
}

/**
 * Finds a device in the text of /proc/net/dev. Behind the colon come eight columns for receiving, then as many for sending, both beginning
 * with bytes, packets, errors, drops (net/core/net-procfs.c). All 0 when the device is not there.
 */
export function deviceTotals(device: string, table: string): DeviceTotals {
  const line = table.split('\n').find((one) => one.trimStart().startsWith(`${device}:`));
  const columns = line
    ?.slice(line.indexOf(':') + 1)
    .trim()
    .split(/\s+/);
  const column = (index: number) => Number(columns?.[index] ?? 0);
  return {
    rxBytes: column(0),
    rxPackets: column(1),
    rxErrors: column(2),
    rxDrops: column(3),
    txBytes: column(8),
    txPackets: column(9),
    txErrors: column(10),
    txDrops: column(11),
  };
}

/** Those of several devices together. */
export function sumOf(devices: readonly DeviceTotals[]): DeviceTotals {
  const sum = (key: keyof DeviceTotals) => devices.reduce((total, device) => total + device[key], 0);
  return {
    rxBytes: sum('rxBytes'),
    rxPackets: sum('rxPackets'),
    rxErrors: sum('rxErrors'),
    rxDrops: sum('rxDrops'),
    txBytes: sum('txBytes'),
    txPackets: sum('txPackets'),
    txErrors: sum('txErrors'),
    txDrops: sum('txDrops'),
  };
}

/** As `tweed status` and the metrics show them. @param prefix in front of every name */
export function countsOf(device: DeviceTotals, prefix = '') {
  return {
    totals: {
      [`${prefix}tx_packets`]: device.txPackets,
      [`${prefix}tx_bytes`]: device.txBytes,
      [`${prefix}rx_packets`]: device.rxPackets,
      [`${prefix}rx_bytes`]: device.rxBytes,
    },
    drops: {
      [`${prefix}tx_dropped`]: device.txDrops,
      [`${prefix}tx_errors`]: device.txErrors,
      [`${prefix}rx_dropped`]: device.rxDrops,
      [`${prefix}rx_errors`]: device.rxErrors,
    },
  };
}

/** What the kernel counted of UDP since boot, of all sockets and tunnels together. */
export interface UdpTotals {
  readonly received: number;
  readonly checksumErrors: number;
}

/** The two `Udp:` lines of /proc/net/snmp: names, then values. */
export function udpTotals(table: string): UdpTotals {
  const [names = [], values = []] = table
    .split('\n')
    .filter((line) => line.startsWith('Udp: '))
    .map((line) => line.split(' '));
  const value = (name: string) => Number(values[names.indexOf(name)] ?? 0);
  return { received: value('InDatagrams'), checksumErrors: value('InCsumErrors') };
}
