import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { parseIpv4 } from '../../base/ipv4.js';
import type { Ports } from './protocol.js';

/** First byte of a TCP connection: what the sender wants from the server. */
export const wantsHash = 1;
export const wantsEcho = 2;
/** An echoed datagram starts with this many bytes: the sender's address as the server saw it, network order. */
export const echoHeaderLength = 4;

/** Starts the servers that every probe has: hash or echo by TCP, echo by UDP. They live as long as the program. */
export async function startServers(): Promise<Ports> {
  const tcp = createServer({ allowHalfOpen: true }, serveConnection);
  tcp.listen(0, '0.0.0.0');
  const udp = createSocket('udp4');
  udp.on('message', (message, sender) => {
    const header = Buffer.alloc(echoHeaderLength);
    header.writeUInt32BE(parseIpv4(sender.address) as number);
    udp.send(Buffer.concat([header, message]), sender.port, sender.address, () => {}); // a lost echo is the client's loss
  });
  udp.bind(0, '0.0.0.0');
  await Promise.all([once(tcp, 'listening'), once(udp, 'listening')]);
  return { tcp: (tcp.address() as AddressInfo).port, udp: udp.address().port };
}

function serveConnection(socket: Socket): void {
  socket.on('error', () => socket.destroy()); // the client reports what it saw of it
  socket.setNoDelay(true);
  socket.once('data', (first) => {
    const rest = first.subarray(1);
    if (first[0] === wantsEcho) {
      socket.write(rest);
      socket.pipe(socket);
      return;
    }
    const hash = createHash('sha256').update(rest);
    socket.on('data', (chunk) => hash.update(chunk));
    socket.on('end', () => {
      socket.end(JSON.stringify({ hash: hash.digest('hex'), seenAs: socket.remoteAddress ?? '' }));
    });
  });
}
