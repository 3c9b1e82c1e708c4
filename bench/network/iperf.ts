import { setTimeout as delay } from 'node:timers/promises';
import { exec } from '../../src/base/exec.js';
import { inside } from '../../src/lab/namespace.js';
import { BenchError } from '../errors.js';

/**
 * What Linux uses unless it is told otherwise. A machine that prefers BBR would measure how BBR paces its packets: it takes
 * the path without a tunnel from 29 to 11 Gbit/s here.
 */
export const CONGESTION_CONTROL = 'cubic';

/** Beyond the time that a test should take. */
const PATIENCE_MS = 15_000;

export interface TcpResult {
  /** What arrived at the other end, in bytes. */
  readonly bytes: number;
  readonly seconds: number;
  readonly retransmits: number;
}

export interface UdpResult {
  readonly sent: number;
  readonly lost: number;
  /** Payload of what arrived, in bytes. */
  readonly bytes: number;
  readonly seconds: number;
}

export interface TcpOptions {
  readonly seconds: number;
  readonly streams?: number;
  /** The server sends. */
  readonly reverse?: boolean;
  /** Bits of payload a second; 0: as fast as it goes. */
  readonly rate?: number;
}

export interface UdpOptions {
  readonly seconds: number;
  /** Payload of each datagram, in bytes. */
  readonly length: number;
  /** Bits of payload a second; 0: as fast as the sender can. */
  readonly rate: number;
}

interface Sum {
  readonly bytes: number;
  readonly seconds: number;
  readonly retransmits?: number;
}

interface IperfEnd {
  readonly error?: string;
  readonly end?: {
    readonly sum_sent?: Sum;
    readonly sum_received?: Sum;
    readonly sum?: Sum & { readonly packets: number; readonly lost_packets: number };
  };
}

/** One TCP test from a namespace against an iperf3 server. */
export async function iperfTcp(namespace: string, server: string, options: TcpOptions): Promise<TcpResult> {
  const { seconds, streams = 1, reverse = false, rate = 0 } = options;
  const argv = ['-P', String(streams), '-C', CONGESTION_CONTROL, ...(reverse ? ['-R'] : [])];
  if (rate > 0) argv.push('-b', String(rate));
  const { end } = await iperf(namespace, server, seconds, argv);
  const { sum_sent: sent, sum_received: received } = end;
  if (sent === undefined || received === undefined) throw unreadable('TCP');
  const { bytes, seconds: took } = received;
  return { bytes, seconds: took, retransmits: sent.retransmits ?? 0 };
}

/** One UDP test from a namespace against an iperf3 server. */
export async function iperfUdp(namespace: string, server: string, options: UdpOptions): Promise<UdpResult> {
  const { seconds, length, rate } = options;
  const { end } = await iperf(namespace, server, seconds, ['-u', '-l', String(length), '-b', String(rate)]);
  const { sum } = end;
  if (sum === undefined) throw unreadable('UDP');
  const arrived = sum.packets - sum.lost_packets;
  return { sent: sum.packets, lost: sum.lost_packets, bytes: arrived * length, seconds: sum.seconds };
}

/** A server that has just lost a client needs a moment until it takes the next. */
const BUSY_MS = 500;
const TRIES = 3;

async function iperf(namespace: string, server: string, seconds: number, argv: readonly string[], tries = TRIES) {
  const command = ['iperf3', '-c', server, '-J', '-t', String(seconds), '--connect-timeout', '3000', ...argv];
  const timeoutMs = seconds * 1000 + PATIENCE_MS;
  const { stdout, stderr } = await exec(inside(namespace, command), { tolerate: true, timeoutMs });
  let result: IperfEnd;
  try {
    result = JSON.parse(stdout) as IperfEnd;
  } catch (error) {
    throw new BenchError('IPERF', `iperf3 printed no JSON: ${stderr || stdout}; try it by hand in ${namespace}`, {
      cause: error,
    });
  }
  if (result.error?.includes('busy') && tries > 1) {
    await delay(BUSY_MS);
    return iperf(namespace, server, seconds, argv, tries - 1);
  }
  if (result.error !== undefined || result.end === undefined) {
    throw new BenchError('IPERF', `iperf3 in ${namespace}: ${result.error ?? 'no result'}; does ping ${server} work?`);
  }
  return { end: result.end };
}

function unreadable(protocol: string): BenchError {
  return new BenchError('IPERF', `iperf3 left out the sums of a ${protocol} test; version 3.9 or newer is needed`);
}
