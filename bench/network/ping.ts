import { exec } from '../../src/base/exec.js';
import { inside } from '../../src/lab/namespace.js';
import { BenchError } from '../errors.js';

/** Pings at an interval and returns the round-trip times in microseconds, in order. Lost ones are missing. */
export async function ping(
  namespace: string,
  address: string,
  { count, intervalMs }: { readonly count: number; readonly intervalMs: number },
): Promise<number[]> {
  const argv = ['ping', '-n', '-c', String(count), '-i', String(intervalMs / 1000), '-W', '1', address];
  const { stdout } = await exec(inside(namespace, argv), {
    tolerate: true,
    timeoutMs: count * intervalMs + 10_000,
  });
  const times = parsePing(stdout);
  if (times.length === 0) throw new BenchError('PING', `no answer from ${address} to ${namespace}; is the tunnel up?`);
  return times;
}

/** Reads the lines `64 bytes from …: icmp_seq=1 ttl=62 time=0.123 ms`; the result is in microseconds. */
export function parsePing(stdout: string): number[] {
  return [...stdout.matchAll(/ time=([\d.]+) ms/g)].map(([, time]) => Number(time) * 1000);
}
