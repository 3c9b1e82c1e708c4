/**
 * Asks an echo server for a while, one request after the other, and prints the times as JSON.
 *
 * Usage: request-client KIND ADDRESS PORT MILLISECONDS BYTES, where KIND is
 * - `udp`: one datagram there, one back;
 * - `tcp`: the same on one connection;
 * - `connect`: a connection for every request: made, asked, answered, closed.
 */
import { parseIpv4 } from '../../src/base/ipv4.js';
import { SOCK_DGRAM } from '../../src/linux/constants.js';
import { control } from '../../src/linux/libc.js';
import { quantile } from '../stats/summary.js';
import { connect, recv, SOCK_STREAM, send, sockaddr } from './sockets.js';

/** What is printed. Times in microseconds. */
export interface RequestResult {
  readonly requests: number;
  readonly failed: number;
  readonly seconds: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

const [kind, host, port, milliseconds, bytes] = process.argv.slice(2);
const address = sockaddr(parseIpv4(host ?? '') ?? 0, Number(port));
const type = kind === 'udp' ? SOCK_DGRAM : SOCK_STREAM;
const request = new Uint8Array(Number(bytes)).fill(0x61);
const answer = new Uint8Array(65_536);

/** One request and the whole of its answer. */
function ask(fd: number): boolean {
  if (send(fd, request, request.length, 0) !== request.length) return false;
  let received = 0;
  while (received < request.length) {
    const length = recv(fd, answer, answer.length, 0);
    if (length <= 0) return false;
    received += length;
  }
  return true;
}

function askOnce(): boolean {
  const fd = connect(type, address);
  if (fd < 0) return false;
  const answered = ask(fd);
  control.close(fd);
  return answered;
}

function run(): RequestResult {
  const times: number[] = [];
  let failed = 0;
  let fd = kind === 'connect' ? -1 : connect(type, address);
  if (kind !== 'connect' && fd < 0) throw new Error(`nobody answers at ${host}:${port}`);
  const started = performance.now();
  const end = started + Number(milliseconds);
  for (let now = started; now < end; ) {
    const answered = kind === 'connect' ? askOnce() : ask(fd);
    const later = performance.now();
    if (answered) times.push((later - now) * 1000);
    else {
      failed++;
      // a late answer must not be taken for that of the next request
      if (kind !== 'connect') {
        control.close(fd);
        fd = connect(type, address);
      }
    }
    now = performance.now();
  }
  const seconds = (performance.now() - started) / 1000;
  const sorted = Float64Array.from(times).sort();
  const at = (q: number) => (sorted.length === 0 ? Number.NaN : quantile(sorted, q));
  return { requests: times.length, failed, seconds, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}

process.stdout.write(`${JSON.stringify(run())}\n`);
