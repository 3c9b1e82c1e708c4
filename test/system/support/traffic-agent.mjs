// Traffic that can be counted to the last packet, from one place to another and back: numbered UDP packets, 1,000 a second,
// and one TCP stream of which both ends know the hash. Usage: traffic-agent.mjs OWN PEER send|receive, by addresses.
// Standard input: `end` stops sending; its end ends the agent. Standard output, one JSON object a line: `ready`; then
// every 50 ms what was sent, received and the longest gap between two packets; `hash` when the stream has ended, or `broken`.
import { createHash, randomBytes } from 'node:crypto';
import dgram from 'node:dgram';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { SO_RCVBUFFORCE, SOL_SOCKET } from '../../../dist/linux/constants.js';
import { control } from '../../../dist/linux/libc.js';

const [own, peer, role] = process.argv.slice(2);
const UDP_PORT = 7001;
const TCP_PORT = 7002;
const PACE_MS = 5;
const RECEIVE_BUFFER = 64 << 20;
const tell = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

let sending = true;
let sent = 0;
const seen = new Set();
let last = 0;
let longestGapMs = 0;

const udp = dgram.createSocket('udp4');
udp.on('message', (packet) => {
  seen.add(packet.readUInt32BE());
  const now = performance.now();
  if (last !== 0) longestGapMs = Math.max(longestGapMs, now - last);
  last = now;
});
await new Promise((resolve) => udp.bind(UDP_PORT, own, resolve));
enlargeBuffer();

/** What comes in a burst after a pause is to be counted here, not dropped; Node asks for no more than the system's limit. */
function enlargeBuffer() {
  const bytes = new Uint8Array(new Int32Array([RECEIVE_BUFFER]).buffer);
  if (control.setsockopt(udp._handle.fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes, 4) < 0) throw new Error('no large buffer');
}

function sendUdp() {
  const started = performance.now();
  setInterval(() => {
    if (!sending) return;
    for (const due = performance.now() - started; sent < due; ) {
      const packet = Buffer.alloc(200);
      packet.writeUInt32BE(++sent);
      udp.send(packet, UDP_PORT, peer, () => {});
    }
  }, 1);
}

function sendTcp(socket) {
  const hash = createHash('sha256');
  const timer = setInterval(() => {
    if (!sending) {
      clearInterval(timer);
      return socket.end(() => tell({ hash: hash.digest('hex') }));
    }
    const chunk = randomBytes(10_000);
    hash.update(chunk);
    socket.write(chunk);
  }, PACE_MS);
  socket.on('error', ({ code }) => tell({ broken: code }));
}

function receiveTcp(socket) {
  const hash = createHash('sha256');
  socket.on('data', (chunk) => hash.update(chunk));
  socket.on('end', () => tell({ hash: hash.digest('hex') }));
  socket.on('error', ({ code }) => tell({ broken: code }));
}

if (role === 'receive') {
  const server = net.createServer(receiveTcp);
  await new Promise((resolve) => server.listen(TCP_PORT, own, resolve));
} else {
  const socket = net.connect({ host: peer, port: TCP_PORT, localAddress: own });
  await new Promise((resolve) => socket.once('connect', resolve));
  sendTcp(socket);
}
tell({ ready: true });
createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (line === 'start') sendUdp();
    else sending = false;
  })
  .on('close', () => process.exit());
setInterval(() => tell({ sent, received: seen.size, longestGapMs: Math.round(longestGapMs) }), 50);
