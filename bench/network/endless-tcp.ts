import { buffer } from 'node:stream/consumers';
import { execInside, spawnInside } from '../../src/lab/namespace.js';
import { BenchError } from '../errors.js';
import { CONGESTION_CONTROL } from './iperf.js';

/** The shortest that iperf3 takes. */
const INTERVAL_SECONDS = 0.1;

export interface EndlessResult {
  /** What arrived, in bytes. */
  readonly bytes: number;
  readonly retransmits: number;
  /** How long at most nothing arrived, in seconds, in steps of a tenth. */
  readonly longestStall: number;
}

export interface EndlessTcp {
  /** Ends it, and tells how it went. @throws BenchError when it has ended before, or has failed */
  end(): Promise<EndlessResult>;
}

/** What iperf3 prints, as far as it is read. */
interface Report {
  readonly error?: string;
  readonly intervals?: readonly { readonly sum?: { readonly bytes: number } }[];
}

/**
 * One TCP stream that goes on until it is ended.
 *
 * The client is the receiver, and counts ten times a second what has come. Interrupted, iperf3 prints that, but not what its server
 * has to say: how much was sent again is what the kernel counts in the sender's namespace, where nobody else sends.
 *
 * @param receiver its namespace; how long the stream lasts when nobody ends it; bits of payload a second, 0 for as many as go
 * @param sender where an iperf3 server is
 */
export async function endlessTcp(
  receiver: { readonly namespace: string; readonly seconds: number; readonly rate: number },
  sender: { readonly namespace: string; readonly address: string },
): Promise<EndlessTcp> {
  const { namespace, seconds, rate } = receiver;
  const before = await sentAgain(sender.namespace);
  const argv = ['iperf3', '-c', sender.address, '-R', '-J', '-t', String(seconds), '-i', String(INTERVAL_SECONDS)];
  argv.push('--connect-timeout', '3000', '-C', CONGESTION_CONTROL, ...(rate > 0 ? ['-b', String(rate)] : []));
  const child = spawnInside(namespace, argv, { stdio: ['ignore', 'pipe', 'ignore'] });
  const failed = new Promise<never>((_, reject) => child.once('error', reject));
  failed.catch(() => {}); // whether anybody waits for it at that moment or not
  const printed = child.stdout === null ? Promise.resolve(Buffer.of()) : buffer(child.stdout);
  return {
    async end() {
      child.kill('SIGINT');
      const text = (await Promise.race([printed, failed])).toString();
      const retransmits = (await sentAgain(sender.namespace)) - before;
      return { ...parseReport(text, namespace), retransmits };
    },
  };
}

/** What an interrupted client has printed. @throws BenchError */
export function parseReport(text: string, namespace: string): Omit<EndlessResult, 'retransmits'> {
  let report: Report;
  try {
    report = JSON.parse(text) as Report;
  } catch (error) {
    throw new BenchError('IPERF', `iperf3 printed no JSON: ${text}; try it by hand in ${namespace}`, { cause: error });
  }
  const { error = 'it ended by itself', intervals = [] } = report;
  if (!error.startsWith('interrupt')) throw new BenchError('IPERF', `iperf3 in ${namespace}: ${error}`);
  let bytes = 0;
  let longest = 0;
  let run = 0;
  for (const { sum } of intervals) {
    bytes += sum?.bytes ?? 0;
    run = sum?.bytes === 0 ? run + 1 : 0;
    longest = Math.max(longest, run);
  }
  return { bytes, longestStall: longest * INTERVAL_SECONDS };
}

/** Segments that were sent again in a namespace since it was made. */
async function sentAgain(namespace: string): Promise<number> {
  const { stdout } = await execInside(namespace, ['cat', '/proc/net/snmp']);
  const [names = [], values = []] = stdout
    .split('\n')
    .filter((line) => line.startsWith('Tcp:'))
    .map((line) => line.split(' '));
  return Number(values[names.indexOf('RetransSegs')]);
}
