import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, isIPv6 } from 'node:net';
import type { Requests, SendResult } from './protocol.js';
import { hasIpv6 } from './servers.js';

type SendArguments = Requests['send']['arguments'];

/** Sends one ping, one datagram, or what begins a connection, and waits for what comes back. */
export async function sendOne(args: SendArguments): Promise<SendResult> {
  const started = performance.now();
  const ways = { icmp: pingOnce, udp: sendDatagram, tcp: openAndSend };
  const { outcome, error = '' } = await ways[args.protocol](args);
  return { outcome, error, waitedMs: performance.now() - started };
}

type Told = { readonly outcome: SendResult['outcome']; readonly error?: string };

function failureOf(error: NodeJS.ErrnoException): Told {
  return { outcome: 'error', error: error.code ?? error.message };
}

/** The length of what ping puts behind ICMP's header is that of the payload; its pattern are the first 16 bytes of it. */
function pingOnce({ address, payload, timeout }: SendArguments): Promise<Told> {
  const bytes = payload.length / 2;
  const words = ['-n', '-c', '1', '-W', String(Math.ceil(timeout / 1000)), '-s', String(bytes)];
  const child = spawn('ping', [...words, '-p', payload.slice(0, 32), address], { stdio: ['ignore', 'pipe', 'pipe'] });
  return new Promise((resolve, reject) => {
    let text = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        text += chunk;
      });
    }
    child.on('error', reject);
    child.on('close', (status) => {
      const said = /From .* (.*)|ping: (?:connect|sendmsg|sendto): (.*)|ping: local error: (.*)/i.exec(text);
      if (status === 0) resolve({ outcome: 'answer' });
      else resolve(said === null ? { outcome: 'silence' } : { outcome: 'error', error: said[0] });
    });
  });
}

/** What is told first; silence when nothing is within so many milliseconds. */
function toldWithin(timeout: number, listen: (settle: (told: Told) => void) => void): Promise<Told> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve({ outcome: 'silence' }), timeout);
    listen((told) => {
      clearTimeout(timer);
      resolve(told);
    });
  });
}

async function sendDatagram({ address, port, payload, timeout }: SendArguments): Promise<Told> {
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
  try {
    return await toldWithin(timeout, (settle) => {
      socket.on('error', (error) => settle(failureOf(error)));
      socket.on('message', () => settle({ outcome: 'answer' }));
      // connected, for the kernel tells only such a socket of ICMP errors
      socket.connect(port, address, (error?: Error) => {
        if (error) settle(failureOf(error));
        else socket.send(Buffer.from(payload, 'hex'), (error) => error && settle(failureOf(error)));
      });
    });
  } finally {
    socket.close();
  }
}

async function openAndSend({ address, port, payload, timeout }: SendArguments): Promise<Told> {
  const socket = connect({ host: address, port, noDelay: true });
  try {
    return await toldWithin(timeout, (settle) => {
      socket.on('error', (error) => settle(failureOf(error)));
      socket.on('close', () => settle({ outcome: 'silence' }));
      socket.on('data', () => settle({ outcome: 'answer' }));
      socket.on('connect', () => {
        if (payload === '') settle({ outcome: 'answer' });
        else socket.write(Buffer.from(payload, 'hex'));
      });
    });
  } finally {
    socket.destroy();
  }
}

/** Listens at a port of all addresses and sends back what comes, as long as the program runs. */
export async function listen({ protocol, port }: Requests['listen']['arguments']): Promise<void> {
  if (protocol === 'tcp') {
    const server = createServer((socket) => {
      socket.on('error', () => socket.destroy()); // the other end tells of it
      socket.pipe(socket);
    });
    server.listen(port);
    await once(server, 'listening');
    return;
  }
  const socket = createSocket(hasIpv6() ? 'udp6' : 'udp4');
  socket.on('message', (message, sender) => socket.send(message, sender.port, sender.address, () => {})); // a lost echo is the asker's loss
  socket.bind(port);
  await once(socket, 'listening');
}
