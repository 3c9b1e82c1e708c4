import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { connect, isIPv6, type Socket as TcpSocket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { ConnectionResult, StreamResult } from './protocol.js';
import { echoHeaderLength, wantsEcho } from './servers.js';

/** The time since the last sign of life, and the longest there was. */
class GapClock {
  #last = performance.now();
  #longest = 0;

  sign(): void {
    const now = performance.now();
    this.#longest = Math.max(this.#longest, now - this.#last);
    this.#last = now;
  }

  get longest(): number {
    return Math.max(this.#longest, performance.now() - this.#last);
  }
}

/** Numbered datagrams at a steady pace, each of which another probe sends back. */
export class DatagramStream {
  readonly #socket: Socket;
  readonly #timer: NodeJS.Timeout;
  readonly #gaps = new GapClock();
  readonly #returned = new Set<number>();
  #sent = 0;
  #refused = 0;

  constructor(address: string, port: number, bytes: number, interval: number) {
    this.#socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
    const payload = Buffer.alloc(Math.max(bytes, 4));
    this.#socket.on('message', (message) => {
      this.#returned.add(message.readUInt32BE(echoHeaderLength));
      this.#gaps.sign();
    });
    this.#socket.on('error', () => {}); // an ICMP error about an earlier datagram; its number stays missing
    this.#timer = setInterval(() => {
      payload.writeUInt32BE(this.#sent++);
      this.#socket.send(Buffer.from(payload), port, address, (error) => {
        if (error !== null) this.#refused++;
      });
    }, interval);
  }

  /** Stops sending, waits up to `grace` for what is still on its way, and counts. */
  async stop(grace: number): Promise<StreamResult> {
    clearInterval(this.#timer);
    const longestGap = this.#gaps.longest;
    const deadline = performance.now() + grace;
    while (this.#returned.size < this.#sent && performance.now() < deadline) await delay(5);
    this.#socket.close();
    return { sent: this.#sent, received: this.#returned.size, longestGap, refused: this.#refused };
  }
}

/** A TCP connection with one small exchange at every interval. */
export class KeptConnection {
  readonly #socket: TcpSocket;
  readonly #gaps = new GapClock();
  #timer: NodeJS.Timeout | undefined;
  #exchanges = 0;
  #brokenBy = '';

  private constructor(socket: TcpSocket) {
    this.#socket = socket;
  }

  static async open(address: string, port: number, interval: number): Promise<KeptConnection> {
    const socket = connect({ host: address, port, noDelay: true });
    await once(socket, 'connect');
    const connection = new KeptConnection(socket);
    socket.on('error', (error) => {
      connection.#brokenBy = error.message;
    });
    socket.on('close', () => {
      connection.#brokenBy ||= 'closed by the other side';
      clearInterval(connection.#timer);
    });
    socket.on('data', (chunk) => {
      connection.#exchanges += chunk.length;
      connection.#gaps.sign();
    });
    socket.write(Buffer.of(wantsEcho, 0));
    connection.#timer = setInterval(() => socket.write(Buffer.of(0)), interval);
    return connection;
  }

  close(): ConnectionResult {
    const result = { exchanges: this.#exchanges, longestGap: this.#gaps.longest, brokenBy: this.#brokenBy };
    clearInterval(this.#timer);
    this.#socket.destroy();
    return result;
  }
}
