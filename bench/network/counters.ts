import { readFile } from 'node:fs/promises';
import type { Family } from '../../src/base/address.js';
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

/**
 * UDP datagrams that reached the namespace of a process: read by a program, or dropped because it did not read in time.
 * /proc/net/snmp has a line of names and one of values for each protocol, snmp6 one line for each counter.
 */
export async function arrivedDatagrams(pid: number, family: Family): Promise<number> {
  const text = await readFile(`/proc/${pid}/net/${family === 4 ? 'snmp' : 'snmp6'}`, 'utf8');
  const counters = family === 4 ? ipv4Counters(text) : ipv6Counters(text);
  return (counters.InDatagrams ?? 0) + (counters.RcvbufErrors ?? 0);
}

function ipv4Counters(text: string): Readonly<Record<string, number>> {
  const [names, values] = text
    .split('\n')
    .filter((line) => line.startsWith('Udp: '))
    .map((line) => line.split(' ').slice(1));
  return Object.fromEntries((names ?? []).map((name, i) => [name, Number(values?.[i])]));
}

function ipv6Counters(text: string): Readonly<Record<string, number>> {
  const found = [...text.matchAll(/^Udp6(\w+)\s+(\d+)$/gm)];
  return Object.fromEntries(found.map(([, name, value]) => [name, Number(value)]));
}
