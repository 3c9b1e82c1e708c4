/** Sockets that Node does not offer: UDP with segmented sends and odd options, raw senders, sniffers. */
import koffi from 'koffi';
import { type Address, type Family, familyOf, formatAddress } from '../../../../src/base/address.js';
import { control } from '../../../../src/linux/libc.js';
import {
  putSockaddrIn,
  putSockaddrIn6,
  SOCKADDR_IN_BYTES,
  SOCKADDR_IN6_ADDRESS,
  SOCKADDR_IN6_BYTES,
} from '../../../../src/linux/structs.js';
import type { Namespace } from './namespace.js';
import { until } from './until.js';

const libc = koffi.load(null);
const sendto = libc.func(
  'intptr_t sendto(int fd, const void *data, size_t length, int flags, const void *to, unsigned int toLength)',
) as (fd: number, data: Uint8Array, length: number, flags: number, to: Uint8Array | null, toLength: number) => number;
const recvfrom = libc.func(
  'intptr_t recvfrom(int fd, void *data, size_t length, int flags, _Out_ uint8_t *from, _Inout_ unsigned int *fromLength)',
) as (
  fd: number,
  data: Uint8Array,
  length: number,
  flags: number,
  from: Uint8Array | null,
  fromLength: number[] | null,
) => number;
const getsockname = libc.func('int getsockname(int fd, _Out_ uint8_t *address, _Inout_ unsigned int *length)') as (
  fd: number,
  address: Uint8Array,
  length: number[],
) => number;
const ifNameToIndex = libc.func('unsigned int if_nametoindex(const char *name)') as (name: string) => number;

export const AF_INET = 2;
export const AF_INET6 = 10;
const AF_PACKET = 17;
export const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SO_SNDBUFFORCE = 32;
const SO_NO_CHECK = 11;
const IPPROTO_UDP = 17;
const UDP_SEGMENT = 103;
const IPPROTO_IP = 0;
const IP_TTL = 2;
const IP_RECVERR = 11;
const ETH_P_ALL = 0x0003;
const PACKET_OUTGOING = 4;
const MSG_DONTWAIT = 0x40;
const EAGAIN = 11;
const BUFFER = 32 << 20;
const PACKET_ROOM = 65_536;
/** The longest address of any family used here: `struct sockaddr_in6`. */
const FROM_BYTES = 28;

export function ifIndex(namespace: Namespace, name: string): number {
  const index = namespace.enter(() => ifNameToIndex(name));
  if (index === 0) throw new Error(`no interface ${name}`);
  return index;
}

/** Makes a socket inside a namespace. */
export function openSocket(namespace: Namespace, family: number, type: number, protocol = 0): number {
  const fd = namespace.enter(() => control.socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));
  if (fd < 0) throw new Error(`socket: errno ${control.errno()}`);
  return fd;
}

/** The errno of a refused call. */
export class RefusedError extends Error {
  constructor(
    call: string,
    readonly errno: number,
  ) {
    super(`${call}: errno ${errno}`);
  }
}

export interface Datagram {
  readonly data: Buffer;
  readonly address: string;
  readonly port: number;
}

const open = new Set<DatagramSocket>();

/** Closes whatever sockets a test has left open. */
export function closeSockets(): void {
  for (const socket of open) socket.close();
}

/** A datagram socket of any kind in a namespace, with room for everything that a test sends. Never blocks. */
class DatagramSocket {
  protected readonly fd: number;
  readonly #room = new Uint8Array(PACKET_ROOM);

  constructor(namespace: Namespace, family: number, type: number, protocol: number) {
    this.fd = openSocket(namespace, family, type, protocol);
    open.add(this);
    this.set(SOL_SOCKET, SO_RCVBUFFORCE, BUFFER);
    this.set(SOL_SOCKET, SO_SNDBUFFORCE, BUFFER);
  }

  protected set(level: number, name: number, value: number): void {
    if (control.setsockopt(this.fd, level, name, int32(value), 4) < 0) {
      throw new RefusedError(`setsockopt ${name}`, control.errno());
    }
  }

  protected bindTo(at: Uint8Array): void {
    if (control.bind(this.fd, at, at.length) < 0) throw new RefusedError('bind', control.errno());
  }

  /** @throws RefusedError */
  protected sendTo(data: Uint8Array, to: Uint8Array | null): void {
    // a pointer must not be null, even where nothing is sent
    const bytes = data.length === 0 ? new Uint8Array(1) : data;
    if (sendto(this.fd, bytes, data.length, 0, to, to?.length ?? 0) < 0) {
      throw new RefusedError('sendto', control.errno());
    }
  }

  /** Hands over all that waits. @throws RefusedError when an error waits */
  protected drainInto(take: (data: Buffer, from: DataView) => void): void {
    const from = new Uint8Array(FROM_BYTES);
    for (;;) {
      const length = recvfrom(this.fd, this.#room, PACKET_ROOM, MSG_DONTWAIT, from, [from.length]);
      if (length >= 0) take(Buffer.from(this.#room.subarray(0, length)), new DataView(from.buffer));
      else if (control.errno() === EAGAIN) return;
      else throw new RefusedError('recvfrom', control.errno());
    }
  }

  close(): void {
    if (open.delete(this)) control.close(this.fd);
  }
}

export interface UdpOptions {
  /** IPv4 unless told otherwise, by this or by the address. */
  readonly family?: Family;
  /** Address to bind to; all of them by default. */
  readonly address?: Address;
  readonly port?: number;
  readonly ttl?: number;
  /** Send without a UDP checksum. */
  readonly noChecksum?: boolean;
  /** Report ICMP errors as errors of the socket. */
  readonly reportErrors?: boolean;
}

/** A UDP socket that does what Node's does not: segmented sends, no checksums, ICMP errors. */
export class Udp extends DatagramSocket {
  constructor(namespace: Namespace, options: UdpOptions = {}) {
    const { family = familyOf(options.address ?? 0) } = options;
    super(namespace, family === 4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0);
    if (options.ttl !== undefined) this.set(IPPROTO_IP, IP_TTL, options.ttl);
    if (options.noChecksum) this.set(SOL_SOCKET, SO_NO_CHECK, 1);
    if (options.reportErrors) this.set(IPPROTO_IP, IP_RECVERR, 1);
    this.bindTo(sockaddr(options.address ?? (family === 4 ? 0 : 0n), options.port ?? 0));
  }

  connect(address: Address, port: number): void {
    const to = sockaddr(address, port);
    if (control.connect(this.fd, to, to.length) < 0) throw new RefusedError('connect', control.errno());
  }

  /** Sends one datagram. @throws RefusedError */
  send(data: Uint8Array, address: Address, port: number): void {
    this.sendTo(data, sockaddr(address, port));
  }

  /** Sends to where it is connected. @throws RefusedError */
  write(data: Uint8Array): void {
    this.sendTo(data, null);
  }

  /** Sends `data` as datagrams of `size` bytes, the last maybe shorter, in one call of the kernel's segmentation. */
  sendSegmented(data: Uint8Array, size: number, address: Address, port: number): void {
    this.set(IPPROTO_UDP, UDP_SEGMENT, size);
    try {
      this.sendTo(data, sockaddr(address, port));
    } finally {
      this.set(IPPROTO_UDP, UDP_SEGMENT, 0);
    }
  }

  /** Everything that waits. @throws RefusedError when an error waits */
  receive(): Datagram[] {
    const datagrams: Datagram[] = [];
    this.drainInto((data, from) => {
      datagrams.push({ data, address: formatAddress(addressIn(from)), port: from.getUint16(2) });
    });
    return datagrams;
  }

  get port(): number {
    const name = new Uint8Array(SOCKADDR_IN6_BYTES);
    getsockname(this.fd, name, [name.length]);
    return new DataView(name.buffer).getUint16(2);
  }
}

/** A raw socket: sends and receives what stands behind the IP header; that of IPv4 comes along when receiving. */
export class RawIp extends DatagramSocket {
  constructor(namespace: Namespace, protocol: number, family: Family = 4) {
    super(namespace, family === 4 ? AF_INET : AF_INET6, SOCK_RAW, protocol);
  }

  send(data: Uint8Array, address: Address): void {
    this.sendTo(data, sockaddr(address, 0));
  }

  receive(): Buffer[] {
    const packets: Buffer[] = [];
    this.drainInto((data) => packets.push(data));
    return packets;
  }
}

/** Sees the packets of one interface from the moment it is made, network header first. */
export class Sniffer extends DatagramSocket {
  readonly #direction: 'in' | 'out' | 'both';
  readonly seen: Buffer[] = [];

  constructor(namespace: Namespace, device: string, direction: 'in' | 'out' | 'both' = 'both') {
    // without a protocol at first, so that nothing of other interfaces comes in before it is bound
    super(namespace, AF_PACKET, SOCK_DGRAM, 0);
    this.#direction = direction;
    const at = new DataView(new ArrayBuffer(FROM_BYTES));
    at.setUint16(0, AF_PACKET, true);
    at.setUint16(2, ETH_P_ALL);
    at.setInt32(4, ifIndex(namespace, device), true);
    this.bindTo(new Uint8Array(at.buffer));
  }

  /** Takes in what has come; returns everything seen so far. */
  drain(): readonly Buffer[] {
    this.drainInto((data, from) => {
      const outgoing = from.getUint8(10) === PACKET_OUTGOING;
      if (this.#direction === 'both' || outgoing === (this.#direction === 'out')) this.seen.push(data);
    });
    return this.seen;
  }

  /** Waits until `count` packets that `filter` lets through have come, and returns these. */
  async collect(what: string, count: number, filter: (packet: Buffer) => boolean): Promise<Buffer[]> {
    try {
      return await until(what, () => {
        const found = this.drain().filter(filter);
        return found.length >= count && found;
      });
    } catch (error) {
      const came = this.seen.filter(filter).length;
      throw new Error(`${error instanceof Error ? error.message : error}: ${came} of ${count}`);
    }
  }
}

function sockaddr(address: Address, port: number): Uint8Array {
  const bytes = new Uint8Array(typeof address === 'number' ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES);
  if (typeof address === 'number') putSockaddrIn(bytes, 0, address, port, AF_INET);
  else putSockaddrIn6(bytes, 0, address, port, AF_INET6);
  return bytes;
}

function addressIn(sockaddr: DataView): Address {
  if (sockaddr.getUint16(0, true) === AF_INET) return sockaddr.getUint32(4);
  const half = (at: number) => sockaddr.getBigUint64(SOCKADDR_IN6_ADDRESS + at);
  return (half(0) << 64n) | half(8);
}

function int32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}
