/** A WireGuard host without a kernel: device, sealer and opener over one memory, driven by a test's clock. */
import { createHash } from 'node:crypto';
import { type Copy, createCopy } from '../../../src/linux/copy.js';
import { RegionAllocator, SharedMemory } from '../../../src/linux/memory.js';
import { createCipher } from '../../../src/linux/openssl.js';
import { Device, type PeerOptions } from '../../../src/wireguard/device.js';
import type { Now } from '../../../src/wireguard/device-context.js';
import type { Endpoint } from '../../../src/wireguard/endpoint.js';
import { PrivateKey } from '../../../src/wireguard/keys.js';
import { Mailbox } from '../../../src/wireguard/mailbox.js';
import { Opener } from '../../../src/wireguard/opener.js';
import { SOCKADDR_BYTES, writeSockaddr } from '../../../src/wireguard/peer-records.js';
import { Sealer } from '../../../src/wireguard/sealer.js';
import { StagedPackets } from '../../../src/wireguard/staged-packets.js';
import { OPEN_DROPS, readTransportDrops, SEAL_DROPS } from '../../../src/wireguard/transport-drops.js';
import { planTransport, type TransportLayout } from '../../../src/wireguard/transport-layout.js';

export const MTU = 1420;
const BLOCKS = 64;
const ROOM = 4096;
const PACKETS = 2048;

/** Bytes that look random and are the same in every run. */
export function seeded(seed: string): (bytes: number) => Uint8Array {
  let drawn = 0;
  return (bytes) => {
    const parts: Buffer[] = [];
    for (let length = 0; length < bytes; length += 32) {
      parts.push(createHash('sha256').update(`${seed} ${drawn++}`).digest());
    }
    return new Uint8Array(Buffer.concat(parts).subarray(0, bytes));
  };
}

/** An IPv4 packet that is good enough for the transport: version, length, and a number to know it by. */
export function innerPacket(number: number, length = 28): Uint8Array {
  const packet = new Uint8Array(length);
  const view = new DataView(packet.buffer);
  packet[0] = 0x45;
  view.setUint16(2, length);
  view.setUint32(20, number);
  return packet;
}

export function numberOf(packet: Uint8Array): number {
  return new DataView(packet.buffer, packet.byteOffset).getUint32(20);
}

export interface HostOptions {
  readonly seed: string;
  readonly privateKey?: Uint8Array;
  readonly peers?: number;
  readonly clock: () => Now;
  send(datagram: Uint8Array, to: Endpoint): void;
}

export class Host {
  readonly memory: SharedMemory;
  readonly layout: TransportLayout;
  readonly device: Device;
  readonly sealer: Sealer;
  readonly opener: Opener;
  readonly mailbox: Mailbox;
  readonly staged: StagedPackets;
  readonly copy: Copy;
  /** Inner packets that came, with the peer that they came from. */
  readonly received: { readonly peer: number; readonly packet: Uint8Array }[] = [];
  readonly endpoints = new Map<number, Endpoint>();
  readonly news: string[] = [];
  calls = 0;
  readonly #options: HostOptions;
  readonly #packet: number;
  readonly #name: number;
  readonly #datagram: number;

  constructor(options: HostOptions) {
    this.#options = options;
    const memory = SharedMemory.create(8 << 20);
    this.memory = memory;
    const regions = new RegionAllocator();
    const random = seeded(options.seed);
    this.layout = planTransport(regions, options.peers ?? 16);
    this.copy = createCopy(memory);
    const call = () => {
      this.calls++;
    };
    const sealer = () => new Sealer(memory, createCipher(memory, regions, BLOCKS), this.copy, this.layout, MTU, call);
    this.mailbox = new Mailbox(memory, this.layout.mailbox, this.copy);
    this.sealer = sealer();
    const cipher = createCipher(memory, regions, BLOCKS);
    this.opener = new Opener(memory, cipher, this.copy, this.layout, this.mailbox, call);
    this.staged = new StagedPackets(regions, this.copy, MTU);
    this.#packet = regions.take(PACKETS);
    this.#name = regions.take(SOCKADDR_BYTES);
    this.#datagram = regions.take(ROOM);
    this.device = new Device({
      privateKey: new PrivateKey(options.privateKey ?? random(32)),
      memory,
      layout: this.layout,
      sealer: sealer(),
      random,
      output: {
        send: (message, to) => options.send(message, to),
        ready: (peer) => {
          this.news.push(`ready ${peer}`);
          this.release();
        },
        unreachable: (peer) => {
          this.news.push(`unreachable ${peer}`);
          this.staged.discard((one) => (one === peer ? 1 : 0));
        },
        moved: (peer, endpoint) => {
          this.news.push(`moved ${peer}`);
          this.endpoints.set(peer, endpoint);
        },
      },
    });
  }

  get now(): Now {
    return this.#options.clock();
  }

  setPeer(options: Partial<PeerOptions> & { readonly publicKey: Uint8Array }): number {
    const whole = { presharedKey: undefined, endpoint: undefined, persistentKeepalive: 0, ...options };
    const number = this.device.setPeer(whole, this.now);
    if (whole.endpoint !== undefined) this.endpoints.set(number, whole.endpoint);
    return number;
  }

  /** What the sending forwarder does with an inner packet. @returns the length of the datagram that left; 0 for none */
  transmit(peer: number, packet: Uint8Array): number {
    const { u8 } = this.memory;
    u8.set(packet, this.#packet);
    const length = this.seal(peer, this.#packet, packet.length);
    if (length === 0) this.staged.add(peer, 0, this.#packet, packet.length, 0, 0);
    return length;
  }

  seal(peer: number, at: number, packetLength: number): number {
    this.sealer.reset();
    const length = this.sealer.seal(peer, at, packetLength, 0, 0);
    const endpoint = this.endpoints.get(peer);
    if (length > 0 && endpoint !== undefined) {
      this.#options.send(this.memory.u8.slice(this.sealer.at, this.sealer.at + length), endpoint);
    }
    return length;
  }

  /** Packets that waited leave. */
  release(): void {
    this.staged.release(
      (peer) => this.sealer.ready(peer),
      (peer, at, length) => this.seal(peer, at, length),
    );
  }

  /** What the receiving forwarder and the control thread do with a datagram. */
  deliver(datagram: Uint8Array, from: Endpoint): void {
    this.open(datagram, from);
    this.readMail();
  }

  /** The receiving forwarder's part of it. */
  open(datagram: Uint8Array, from: Endpoint): void {
    const { u8 } = this.memory;
    u8.set(datagram, this.#datagram);
    writeSockaddr(u8, this.#name, from);
    this.opener.reset();
    const length = this.opener.open(this.#datagram, datagram.length, this.#name);
    if (length > 0) {
      const packet = u8.slice(this.opener.at, this.opener.at + length);
      this.received.push({ peer: this.opener.peer, packet });
    }
  }

  /** The control thread's part. */
  readMail(): void {
    for (let mail = this.mailbox.take(); mail !== undefined; mail = this.mailbox.take()) {
      this.device.receive(mail.message, mail.from, this.now);
    }
  }

  /** All that it does when it is called for messages alone. */
  takeMail(): void {
    Atomics.store(this.memory.i32, this.layout.attention >>> 2, 0);
    this.readMail();
  }

  /** @returns when to poll again at the latest */
  poll(): number {
    Atomics.store(this.memory.i32, this.layout.attention >>> 2, 0);
    return this.device.poll(this.now);
  }

  /** Every reason for which something was dropped, with how often. */
  drops(): Record<string, number> {
    const { f64 } = this.memory;
    const all = {
      ...readTransportDrops(f64, this.layout.sealDrops, SEAL_DROPS),
      ...readTransportDrops(f64, this.layout.openDrops, OPEN_DROPS),
      ...this.device.drops,
    };
    return Object.fromEntries(Object.entries(all).filter(([, count]) => count > 0));
  }
}
