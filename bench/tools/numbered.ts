/**
 * A stream of numbered UDP packets, of which a lost one is noticed. `numbered send ADDRESS PORT SECONDS` sends 1,000 a second,
 * for so long or until a line comes on its standard input, says `ready` before the first and in the end how many there were; `numbered receive PORT` says `ready`, and after a line on its standard input how many came
 * and how long at most none did. What comes in a burst after a pause is counted, not dropped: its buffer is large.
 */
import dgram from 'node:dgram';
import { createInterface } from 'node:readline';
import { SO_RCVBUFFORCE, SOL_SOCKET } from '../../src/linux/constants.js';
import { control } from '../../src/linux/libc.js';

export interface Received {
  readonly received: number;
  readonly longestGapMs: number;
}

const PACKET_BYTES = 200;
const RECEIVE_BUFFER = 64 << 20;
const [mode, ...words] = process.argv.slice(2);
if (mode === 'send') await send(words[0] as string, Number(words[1]), Number(words[2]));
else receive(Number(words[0]));

async function send(address: string, port: number, seconds: number): Promise<void> {
  const socket = dgram.createSocket('udp4');
  const started = performance.now();
  let sent = 0;
  let left = 0;
  let end = seconds * 1000;
  const input = createInterface({ input: process.stdin }).once('line', () => {
    end = Math.min(end, performance.now() - started);
  });
  process.stdout.write('ready\n');
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const due = Math.min(performance.now() - started, end);
      while (sent < due) {
        const packet = Buffer.alloc(PACKET_BYTES);
        packet.writeUInt32BE(++sent);
        socket.send(packet, port, address, () => left++);
      }
      // Node looks the address up first: to close it earlier would lose the last ones here
      if (due < end || left < sent) return;
      clearInterval(timer);
      input.close();
      socket.close(() => resolve());
    }, 1);
  });
  process.stdout.write(`${JSON.stringify({ sent })}\n`);
}

function receive(port: number): void {
  const socket = dgram.createSocket('udp4');
  let seen = new Set<number>();
  let last = 0;
  let longestGapMs = 0;
  socket.on('message', (packet) => {
    seen.add(packet.readUInt32BE());
    const now = performance.now();
    if (last !== 0) longestGapMs = Math.max(longestGapMs, now - last);
    last = now;
  });
  socket.bind(port, () => {
    // Node itself asks for no more than the system's limit
    const { fd } = (socket as unknown as { readonly _handle: { readonly fd: number } })._handle;
    const size = new Uint8Array(new Int32Array([RECEIVE_BUFFER]).buffer);
    control.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, size, size.length);
    process.stdout.write('ready\n');
  });
  createInterface({ input: process.stdin }).on('line', () => {
    process.stdout.write(`${JSON.stringify({ received: seen.size, longestGapMs } satisfies Received)}\n`);
    seen = new Set();
    last = longestGapMs = 0;
  });
}
