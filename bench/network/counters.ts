import { readFile } from 'node:fs/promises';
import { exec } from '../../src/base/exec.js';

/** Bytes and packets that an interface of a namespace has received and sent. */
export async function linkCounters(namespace: string, link: string): Promise<LinkCounters> {
  const { stdout } = await exec(['ip', '-n', namespace, '-json', '-statistics', 'link', 'show', 'dev', link]);
  const [{ stats64 }] = JSON.parse(stdout) as [
    { stats64: Record<'rx' | 'tx', { bytes: number; packets: number; dropped: number }> },
  ];
  return {
    rxBytes: stats64.rx.bytes,
    rxPackets: stats64.rx.packets,
    txBytes: stats64.tx.bytes,
    txPackets: stats64.tx.packets,
    txDropped: stats64.tx.dropped,
  };
}

export interface LinkCounters {
  readonly rxBytes: number;
  readonly rxPackets: number;
  readonly txBytes: number;
  readonly txPackets: number;
  readonly txDropped: number;
}

/** The counters of one protocol in /proc/net/snmp, as a process in the namespace sees it. */
export async function snmpCounters(pid: number, protocol: string): Promise<Record<string, number>> {
  const text = await readFile(`/proc/${pid}/net/snmp`, 'utf8');
  const [names, values] = text
    .split('\n')
    .filter((line) => line.startsWith(`${protocol}: `))
    .map((line) => line.split(' ').slice(1));
  return Object.fromEntries((names ?? []).map((name, i) => [name, Number(values?.[i])]));
}
