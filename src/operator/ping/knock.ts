import dgram from 'node:dgram';
import { isIPv6 } from 'node:net';

/** What becomes of a datagram to a closed port: `refused`: ICMP said that nobody listens; `rejected`: a firewall did; or nothing. */
export type Knock = 'silence' | 'refused' | 'rejected';

const PATIENCE_MS = 700;

/** Sends an empty datagram, which no daemon takes for a packet, and waits a moment for what ICMP has to say of it. */
export function knock(address: string, port: number): Promise<Knock> {
  return new Promise((resolve) => {
    const socket = dgram.createSocket(isIPv6(address) ? 'udp6' : 'udp4');
    const end = (outcome: Knock) => {
      clearTimeout(late);
      socket.removeAllListeners('error').on('error', () => {});
      socket.close();
      resolve(outcome);
    };
    const late = setTimeout(() => end('silence'), PATIENCE_MS);
    socket.on('error', ({ code }: NodeJS.ErrnoException) => end(code === 'ECONNREFUSED' ? 'refused' : 'rejected'));
    socket.connect(port, address, () => socket.send(''));
  });
}
