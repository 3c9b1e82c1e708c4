/** ICMP echo requests by the `ping` program, of a given size, and what it prints, as data. */
import { isIPv6 } from 'node:net';
import os from 'node:os';
import { ExecError, exec } from '../../base/exec.js';

/** One request, and its answer. */
export interface Probe {
  /** From 1. */
  readonly number: number;
  /** Null: no answer. */
  readonly milliseconds: number | null;
  readonly ttl: number | null;
}

/** The outcome of a few echo requests. */
export interface Echo {
  readonly address: string;
  /** Of the packet, with its IP header. */
  readonly bytes: number;
  readonly sent: number;
  readonly received: number;
  /** Null when nothing came back. */
  readonly minimumMs: number | null;
  readonly averageMs: number | null;
  readonly maximumMs: number | null;
  readonly probes: readonly Probe[];
  /** What a router or the kernel said instead of an answer. */
  readonly error: string;
  /** The MTU that a router or the kernel named; null when none did. */
  readonly announcedMtu: number | null;
  /** This host's own firewall refused it. */
  readonly refusedHere: boolean;
  /** The program cannot send packets that must not be fragmented. */
  readonly unable: boolean;
}

/** The least that is sent: what `ping` sends by itself. */
export const SMALL_BYTES = 84;
const IPV4_AND_ICMP = 28;
const IPV6_AND_ICMP = 48;

/** What a packet with so many bytes of payload has, headers included. */
export function packetBytes(address: string, payload: number): number {
  return payload + (isIPv6(address) ? IPV6_AND_ICMP : IPV4_AND_ICMP);
}

/** Packets of so many bytes that no router may fragment, one every `intervalMs`. @throws ExecError when `ping` is not installed */
export async function echo(address: string, bytes: number, count: number, intervalMs = 200): Promise<Echo> {
  const payload = bytes - packetBytes(address, 0);
  // small ones by plain words, which every ping knows
  const whole = bytes === SMALL_BYTES ? [] : ['-M', 'do', '-s', String(payload)];
  const argv = ['ping', '-n', '-c', String(count), '-i', String(intervalMs / 1000), '-W', '1', ...whole, address];
  try {
    const { stdout, stderr } = await exec(argv, { tolerate: true, timeoutMs: 10_000 + count * (1000 + intervalMs) });
    return parseEcho(address, bytes, count, `${stdout}\n${stderr}`);
  } catch (error) {
    if (error instanceof ExecError && error.result !== null) {
      return parseEcho(address, bytes, count, `${error.result.stdout}\nping: took too long`);
    }
    throw error;
  }
}

/** Reads what ping of iputils (or busybox) prints. */
export function parseEcho(
  address: string,
  bytes: number,
  count: number,
  output: string,
  isOwn: (address: string) => boolean = isOwnAddress,
): Echo {
  const [, transmitted] = /(\d+) packets transmitted/.exec(output) ?? [];
  const [, from = '', answer] = /^From (\S+?):? icmp_seq=\d+ (.+)$/m.exec(output) ?? [];
  const [, complaint] = /^ping: (.+)$/m.exec(output) ?? [];
  const refusal = /prohibited|filtered|port unreachable/i.test(answer ?? '') && isOwn(from);
  const [, mtu] = /\bmtu\s*[=:]\s*(\d+)/i.exec(output) ?? [];
  const sent = Math.max(1, Number(transmitted ?? count));
  const answers = answersIn(output);
  const times = [...answers.values()].flatMap(({ milliseconds }) => milliseconds ?? []);
  return {
    address,
    bytes,
    sent,
    received: answers.size,
    minimumMs: times.length === 0 ? null : Math.min(...times),
    averageMs: times.length === 0 ? null : round(times.reduce((sum, time) => sum + time, 0) / times.length),
    maximumMs: times.length === 0 ? null : Math.max(...times),
    probes: Array.from({ length: Math.min(sent, count) }, (_, index) => {
      return answers.get(index + 1) ?? { number: index + 1, milliseconds: null, ttl: null };
    }),
    error: (answer ?? complaint ?? '').trim(),
    announcedMtu: mtu === undefined ? null : Number(mtu),
    refusedHere: refusal || (complaint?.includes('not permitted') ?? false),
    unable: /invalid option|unrecognized option|invalid argument: '?-?M/i.test(output),
  };
}

/** Those that came twice count once. */
function answersIn(output: string): ReadonlyMap<number, Probe> {
  const answers = new Map<number, Probe>();
  for (const match of output.matchAll(/^\d+ bytes from .*?(?:icmp_)?seq=(\d+) ttl=(\d+)(?: time[=<]([\d.]+) ms)?/gm)) {
    const number = Number(match[1]);
    const milliseconds = match[3] === undefined ? null : Number(match[3]);
    answers.set(number, { number, milliseconds, ttl: Number(match[2]) });
  }
  return answers;
}

function round(milliseconds: number): number {
  return Math.round(milliseconds * 1000) / 1000;
}

function isOwnAddress(text: string): boolean {
  return Object.values(os.networkInterfaces()).some((addresses) => addresses?.some(({ address }) => address === text));
}
