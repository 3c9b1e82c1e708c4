/** Our end of an interop test: a Host whose datagrams travel over a real UDP socket. */
import type { Now } from '../../../../src/wireguard/device-context.js';
import { type Endpoint, ipv4Endpoint } from '../../../../src/wireguard/endpoint.js';
import { Host } from '../../../support/wireguard/host.js';
import type { Namespace } from '../../datapath/support/namespace.js';
import { Udp } from '../../datapath/support/sockets.js';
import { until } from '../../datapath/support/until.js';
import { OUR_ADDRESS, THEIR_ADDRESS } from './wireguard-go.js';

export const LOOPBACK = 0x7f000001;

export interface Recorded {
  readonly way: 'sent' | 'received';
  readonly bytes: Buffer;
}

export class InteropPeer {
  readonly host: Host;
  readonly record: Recorded[] = [];
  /** Milliseconds that our clock is ahead of the real one. */
  ahead = 0;
  #socket: Udp;
  readonly #namespace: Namespace;
  #pings = 0;

  constructor(namespace: Namespace, seed: string, privateKey?: Uint8Array) {
    this.#namespace = namespace;
    this.#socket = new Udp(namespace, { address: LOOPBACK });
    this.host = new Host({
      seed,
      ...(privateKey === undefined ? {} : { privateKey }),
      clock: () => this.now,
      send: (datagram, to) => this.send(datagram, to),
    });
  }

  get now(): Now {
    return { monotonic: performance.now() + this.ahead, wall: Date.now() + this.ahead };
  }

  get port(): number {
    return this.#socket.port;
  }

  send(datagram: Uint8Array, { address, port }: Endpoint): void {
    this.record.push({ way: 'sent', bytes: Buffer.from(datagram) });
    this.#socket.send(datagram, new DataView(address.buffer, address.byteOffset).getUint32(0), port);
  }

  /** Speaks from another port from now on. */
  roam(): void {
    this.#socket.close();
    this.#socket = new Udp(this.#namespace, { address: LOOPBACK });
  }

  /** Takes in what has come, and lets the device see the time. */
  turn(): void {
    for (const { data, address, port } of this.#socket.receive()) {
      this.record.push({ way: 'received', bytes: data });
      this.host.deliver(data, ipv4Endpoint(address, port)!);
    }
    this.host.poll();
  }

  /** Turns until the condition holds. */
  async until(what: string, condition: () => boolean): Promise<void> {
    await until(what, () => {
      this.turn();
      return condition();
    });
  }

  /** Sends an echo request through the tunnel and waits for its answer. */
  async ping(peer: number, size = 56): Promise<void> {
    const sequence = ++this.#pings;
    this.host.transmit(peer, echo(8, sequence, size));
    await this.until(`the answer to ping ${sequence}`, () =>
      this.host.received.some(({ packet }) => packet[20] === 0 && ((packet[26] << 8) | packet[27]) === sequence),
    );
  }

  close(): void {
    this.#socket.close();
  }
}

/** RFC 1071, for headers and messages that are short. */
function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i] << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** An ICMP echo request (type 8) from our end of the tunnel to theirs. */
export function echo(type: number, sequence: number, size: number): Uint8Array {
  const packet = new Uint8Array(28 + size);
  const view = new DataView(packet.buffer);
  packet.set([0x45, 0]);
  view.setUint16(2, packet.length);
  packet.set([64, 1], 8);
  packet.set(OUR_ADDRESS.split('.').map(Number), 12);
  packet.set(THEIR_ADDRESS.split('.').map(Number), 16);
  view.setUint16(10, checksum(packet.subarray(0, 20)));
  packet[20] = type;
  view.setUint16(26, sequence);
  for (let i = 0; i < size; i++) packet[28 + i] = i;
  view.setUint16(22, checksum(packet.subarray(20)));
  return packet;
}
