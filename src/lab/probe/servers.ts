import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { formatAddress, parseAddress } from '../../base/address.js';
import type { Ports } from './protocol.js';

/** First byte of a TCP connection: what the sender wants from the server. */
export const wantsHash = 1;
export const wantsEcho = 2;
/** An echoed datagram starts with this many bytes: the sender's address as the server saw it, in the form of IPv6, network order. */
export const echoHeaderLength = 16;

/** Starts the servers that every probe has: hash or echo by TCP, echo by UDP. They live as long as the program. */
export async function startServers(): Promise<Ports> {
  const tcp = createServer({ allowHalfOpen: true }, serveConnection);
  const families = hasIpv6() ? 6 : 4;
  tcp.listen(0, families === 6 ? '::' : '0.0.0.0');
  const udp = createSocket(families === 6 ? 'udp6' : 'udp4'); // one socket for both families where there are both
  udp.on('message', (message, sender) => {
    udp.send(Buffer.concat([echoHeader(sender.address), message]), sender.port, sender.address, () => {}); // a lost echo is the client's loss
  });
  udp.bind(0, families === 6 ? '::' : '0.0.0.0');
  await Promise.all([once(tcp, 'listening'), once(udp, 'listening')]);
  return { tcp: (tcp.address() as AddressInfo).port, udp: udp.address().port };
}

export function hasIpv6(): boolean {
  return existsSync('/proc/self/net/if_inet6');
}

/** Where the address of an IPv4 packet stands in that of IPv6 (RFC 4291, 2.5.5.2). */
const MAPPED = 0xffffn << 32n;

/** An IPv4 address as it was sent from, though it came to a socket of both families. */
export function plainAddress(text: string): string {
  const address = parseAddress(text);
  if (typeof address !== 'bigint' || address >> 32n !== 0xffffn) return text;
  return formatAddress(Number(address & 0xffff_ffffn));
}

function echoHeader(sender: string): Buffer {
  const address = parseAddress(sender.replace(/%.*/, '')) ?? 0n;
  const whole = typeof address === 'number' ? MAPPED | BigInt(address) : address;
  return Buffer.from(whole.toString(16).padStart(2 * echoHeaderLength, '0'), 'hex');
}

/** The address in front of an echoed datagram. */
export function echoedSender(message: Buffer): string {
  return plainAddress(formatAddress(BigInt(`0x${message.toString('hex', 0, echoHeaderLength)}`)));
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
      socket.end(JSON.stringify({ hash: hash.digest('hex'), seenAs: plainAddress(socket.remoteAddress ?? '') }));
    });
  });
}
