/** Traffic between containers, every byte of it checked. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Socket, Socket as TcpSocket } from 'node:net';
import { expect } from 'vitest';
import { type Address, type Family, familyOf, formatAddress } from '../../../../src/base/address.js';
import { plainSum } from '../../../unit/encap/support/reference.js';
import type { Namespace } from './namespace.js';
import { AF_INET, AF_INET6, openSocket, RawIp, SOCK_STREAM, Udp } from './sockets.js';
import { until } from './until.js';

/** One end of some traffic: a container, or a host's own address. */
export interface End<Kind extends Address = Address> {
  readonly namespace: Namespace;
  /** An IPv4 one in host order. */
  readonly address: Kind;
}

const noise = randomBytes(1 << 17);
const sha256 = (data: Uint8Array) => createHash('sha256').update(data).digest('hex');

/** Bytes that look random and are different for each `seed`. */
export function file(bytes: number, seed: number): Buffer {
  const data = Buffer.allocUnsafe(bytes);
  const period = noise.length - 1; // odd, so that no two blocks of a power of two are alike
  for (let at = 0; at < bytes; at += period) {
    noise.copy(data, at, 0, Math.min(period, bytes - at));
    data.writeUInt32LE((seed + at) >>> 0, Math.min(at, bytes - 4));
  }
  return data;
}

/** A TCP connection from one end to the other; `accepted` is the far side of it. */
export async function connectTcp(from: End, to: End): Promise<{ readonly socket: Socket; readonly accepted: Socket }> {
  const server = createServer({ allowHalfOpen: true });
  // without a host to look up, listening is done before `listen` returns, so inside the namespace
  to.namespace.enter(() => server.listen(0));
  const listening = server.address();
  if (listening === null || typeof listening === 'string') throw new Error('the server does not listen');
  const family = familyOf(to.address) === 4 ? AF_INET : AF_INET6;
  const socket = new TcpSocket({ fd: openSocket(from.namespace, family, SOCK_STREAM), allowHalfOpen: true });
  const accepted = once(server, 'connection');
  socket.connect({ host: formatAddress(to.address), port: listening.port });
  const [far] = (await accepted) as [Socket];
  server.close();
  return { socket, accepted: far };
}

/** Sends a file over TCP and compares its hash at the other end. @param onBytes told how much has arrived so far */
export async function sendFile(from: End, to: End, data: Buffer, onBytes?: (total: number) => void): Promise<void> {
  const { socket, accepted } = await connectTcp(from, to);
  const hash = createHash('sha256');
  let total = 0;
  accepted.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    total += chunk.length;
    onBytes?.(total);
  });
  const ended = once(accepted, 'end');
  socket.end(data);
  await ended;
  accepted.end();
  socket.destroy();
  expect(total).toBe(data.length);
  expect(hash.digest('hex')).toBe(sha256(data));
}

const NUMBER = 4;

/** Datagram `number` of a stream: its number, then bytes that only it has. */
function datagram(number: number, size: number): Buffer {
  const data = Buffer.allocUnsafe(size);
  data.writeUInt32BE(number, 0);
  noise.copy(data, NUMBER, (number * 64) % 65_536, ((number * 64) % 65_536) + size - NUMBER);
  return data;
}

/** A stream of datagrams that are all different; what arrives is compared with what was sent. */
export class NumberedStream {
  readonly #from: Udp;
  readonly #unchecked: Udp;
  readonly #to: Udp;
  readonly #address: Address;
  readonly #port: number;
  readonly #sizes: number[] = [];
  readonly #received = new Map<number, number>();
  #empty = 0;

  constructor(from: End, to: End) {
    const family: Family = familyOf(to.address);
    this.#from = new Udp(from.namespace, { family });
    this.#unchecked = new Udp(from.namespace, { family, noChecksum: true });
    this.#to = new Udp(to.namespace, { family });
    this.#address = to.address;
    this.#port = this.#to.port;
  }

  #next(size: number): Buffer {
    this.#sizes.push(size);
    return datagram(this.#sizes.length - 1, size);
  }

  /** Sends `count` datagrams one by one. */
  send(size: number, count = 1): void {
    for (let i = 0; i < count; i++) this.#from.send(this.#next(size), this.#address, this.#port);
  }

  /** The same, without UDP checksums. */
  sendUnchecked(size: number, count: number): void {
    for (let i = 0; i < count; i++) this.#unchecked.send(this.#next(size), this.#address, this.#port);
  }

  /** Sends `count` datagrams and a shorter one as one super-packet. */
  sendSegmented(size: number, count: number, tail: number): void {
    const parts = Array.from({ length: count }, () => this.#next(size));
    if (tail > 0) parts.push(this.#next(tail));
    this.#from.sendSegmented(Buffer.concat(parts), size, this.#address, this.#port);
  }

  sendEmpty(): void {
    this.#from.send(new Uint8Array(0), this.#address, this.#port);
  }

  get sent(): number {
    return this.#sizes.length;
  }

  /** How many different datagrams have arrived; each is compared as it comes. */
  get arrived(): number {
    this.#drain();
    return this.#received.size;
  }

  /** How many came more than once. */
  get duplicates(): number {
    return [...this.#received.values()].filter((times) => times > 1).length;
  }

  get empty(): number {
    this.#drain();
    return this.#empty;
  }

  #drain(): void {
    for (const { data } of this.#to.receive()) {
      if (data.length === 0) {
        this.#empty++;
        continue;
      }
      const number = data.length >= NUMBER ? data.readUInt32BE(0) : -1;
      const size = this.#sizes[number];
      if (size === undefined) throw new Error(`a datagram of ${data.length} bytes arrived that nobody sent`);
      if (!data.equals(datagram(number, size))) {
        throw new Error(`datagram ${number} of ${size} bytes arrived with other bytes (${data.length} of them)`);
      }
      this.#received.set(number, (this.#received.get(number) ?? 0) + 1);
    }
  }

  /** Waits until everything sent so far has arrived. */
  async complete(): Promise<void> {
    try {
      await until('all datagrams arrive', () => this.arrived === this.sent, 10_000);
    } catch {
      const missing = [...this.#sizes.keys()].filter((number) => !this.#received.has(number));
      const some = missing.slice(0, 10).map((number) => `${number} (${this.#sizes[number]} bytes)`);
      throw new Error(`${missing.length} of ${this.sent} datagrams did not arrive: ${some.join(', ')}`);
    }
  }

  close(): void {
    for (const socket of [this.#from, this.#unchecked, this.#to]) socket.close();
  }
}

const ECHO_REQUEST = 8;
const ECHO_REPLY = 0;
const PROTOCOL_ICMP = 1;
const IPV4_HEADER = 20;
const ICMP_HEADER = 8;

/** Pings and expects every echo, with the bytes that were sent. @param size bytes of payload */
export async function ping(from: Namespace, to: number, size: number, count = 5): Promise<void> {
  const socket = new RawIp(from, PROTOCOL_ICMP);
  const identity = randomBytes(2).readUInt16BE();
  const payload = Buffer.from(noise.subarray(0, size));
  const answered = new Set<number>();
  for (let sequence = 0; sequence < count; sequence++) {
    const request = Buffer.concat([Buffer.from([ECHO_REQUEST, 0, 0, 0, 0, 0, 0, 0]), payload]);
    request.writeUInt16BE(identity, 4);
    request.writeUInt16BE(sequence, 6);
    request.writeUInt16BE(0xffff - plainSum(request), 2);
    socket.send(request, to);
  }
  await until(`${count} echoes of ${size} bytes`, () => {
    for (const packet of socket.receive()) {
      const icmp = packet.subarray(IPV4_HEADER);
      if (icmp[0] !== ECHO_REPLY || icmp.readUInt16BE(4) !== identity) continue;
      expect(icmp.subarray(ICMP_HEADER).equals(payload)).toBe(true);
      answered.add(icmp.readUInt16BE(6));
    }
    return answered.size === count;
  });
  socket.close();
}
