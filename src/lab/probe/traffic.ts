import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, isIPv6 } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { parseJson } from '../../base/json.js';
import type { ExchangeResult, PingResult, TransferResult } from './protocol.js';
import { echoedSender, echoHeaderLength, wantsHash } from './servers.js';

/** Asks `ping` for one answer. */
export function ping(address: string, timeout: number): Promise<PingResult> {
  return new Promise((resolve, reject) => {
    const seconds = String(Math.max(1, Math.ceil(timeout / 1000)));
    const child = spawn('ping', ['-n', '-c', '1', '-W', seconds, address], { stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    child.stdout.on('data', (chunk) => {
      text += chunk;
    });
    child.stderr.on('data', (chunk) => {
      text += chunk;
    });
    child.on('error', reject);
    child.on('close', (status) => {
      const lines = text.trim().split('\n');
      const telling = lines.find((line) => /bytes from|Unreachable|exceeded|unreachable/.test(line));
      resolve({ received: status === 0, detail: telling ?? `no answer within ${seconds} s` });
    });
  });
}

const chunkLength = 64 * 1024;

/** Sends random bytes by TCP to another probe, which answers with the hash of what it got. */
export async function transfer(address: string, port: number, bytes: number, timeout: number): Promise<TransferResult> {
  const hash = createHash('sha256');
  const started = performance.now();
  const socket = connect({ host: address, port, allowHalfOpen: true });
  socket.setTimeout(timeout, () => socket.destroy(new Error(`nothing moved for ${timeout / 1000} s`)));
  await once(socket, 'connect');
  socket.write(Buffer.of(wantsHash));
  const answer = collect(socket);
  const source = Readable.from(randomChunks(bytes, hash), { objectMode: false, highWaterMark: chunkLength });
  await pipeline(source, socket);
  const { hash: receivedHash, seenAs } = parseJson(await answer) as { hash: string; seenAs: string };
  socket.destroy();
  return { sentHash: hash.digest('hex'), receivedHash, bytes, milliseconds: performance.now() - started, seenAs };
}

async function collect(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

function* randomChunks(bytes: number, hash: ReturnType<typeof createHash>): Generator<Buffer> {
  for (let left = bytes; left > 0; left -= chunkLength) {
    const chunk = randomBytes(Math.min(left, chunkLength));
    hash.update(chunk);
    yield chunk;
  }
}

/** Sends one datagram to another probe until the same bytes come back, at most `tries` times. */
export async function exchange(
  address: string,
  port: number,
  bytes: number,
  tries: number,
  timeout: number,
): Promise<ExchangeResult> {
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
  const payload = randomBytes(bytes);
  try {
    for (let attempt = 1; attempt <= tries; attempt++) {
      const echo = new Promise<Buffer | null>((resolve) => {
        const timer = setTimeout(() => resolve(null), timeout);
        const settle = (message: Buffer | null) => {
          clearTimeout(timer);
          resolve(message);
        };
        socket.removeAllListeners().on('message', settle);
        socket.on('error', () => settle(null));
        socket.send(payload, port, address, (error) => error && settle(null));
      });
      const message = await echo;
      if (message?.subarray(echoHeaderLength).equals(payload)) {
        return { returned: true, tries: attempt, seenAs: echoedSender(message) };
      }
    }
    return { returned: false, tries, seenAs: '' };
  } finally {
    socket.close();
  }
}
