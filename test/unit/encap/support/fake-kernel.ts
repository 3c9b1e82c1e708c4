/**
 * The system calls on the packets' way, scripted: a TUN, a UDP socket and an eventfd that live in arrays.
 *
 * It reads the same structures at the same addresses as the kernel would, and throws when a pointer leaves the memory.
 * Every attempt is recorded, refused ones too; a test sets `onSend` and `onWrite` to decide what is refused.
 */
import type { Address } from '../../../../src/base/address.js';
import {
  EAGAIN,
  EINVAL,
  EMSGSIZE,
  IP_TOS,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_TCLASS,
  MSG_TRUNC,
  POLLERR,
  POLLHUP,
  POLLNVAL,
  SOL_UDP,
  UDP_GRO,
  UDP_SEGMENT,
} from '../../../../src/linux/constants.js';
import type { Syscalls } from '../../../../src/linux/libc.js';
import type { SharedMemory } from '../../../../src/linux/memory.js';
import { concat, NO_OFFLOAD, type Vnet } from './reference.js';

export const TUN = 10;
export const SOCKET = 11;
export const WAKE = 12;
export const SOCKET_V6 = 13;

/** One read from the TUN: a packet, or the reason why there is none. */
export type TunRead = { readonly vnet?: Vnet; readonly packet: Uint8Array } | { readonly errno: number };

/** One datagram for the socket, or a run of them (`gro`), or the reason why there is none. */
export type Arrival =
  | {
      readonly bytes: Uint8Array;
      /** Of the family of the socket that it comes by: an IPv4 address is a number in host order. */
      readonly from: Address;
      readonly port?: number;
      readonly gro?: number;
      readonly flags?: number;
      /** Replaces the control message. */
      readonly control?: Uint8Array;
    }
  | { readonly errno: number };

export interface TunWrite {
  readonly vnet: Vnet;
  readonly packet: Uint8Array;
  readonly iovCount: number;
  readonly errno: number;
}

export interface Send {
  /** Of the family of the socket that it left by; an IPv4 address in host order. */
  readonly address: Address;
  readonly port: number;
  readonly datagrams: readonly Uint8Array[];
  /** From UDP_SEGMENT; 0 when there was no such control message. */
  readonly segmentSize: number;
  /** From IP_TOS or IPV6_TCLASS, likewise. */
  readonly ecn: number;
  readonly iovCount: number;
  readonly flags: number;
  readonly errno: number;
}

/** What a scripted poll reports for each descriptor, or an error. */
export interface PollAnswer {
  readonly tun?: number;
  readonly socket?: number;
  readonly socketV6?: number;
  readonly wake?: number;
  readonly errno?: number;
}

/** A call of poll: what it watched, by descriptor, for which events. */
export interface Poll {
  readonly watched: Readonly<Record<number, number>>;
  readonly timeout: number;
}

const LIMITS = { datagram: 65_507, segments: 128, iovecs: 1024 };

export class FakeKernel implements Syscalls {
  /** The TUN has virtio-net headers. */
  vnetHeader = true;
  readonly tunReads: TunRead[] = [];
  readonly arrivals: Arrival[] = [];
  readonly arrivalsV6: Arrival[] = [];
  readonly writes: TunWrite[] = [];
  readonly sends: Send[] = [];
  readonly polls: Poll[] = [];
  readonly pollAnswers: PollAnswer[] = [];
  /** Asked for every write and send: the errno to refuse it with, or 0. */
  onWrite: (write: Omit<TunWrite, 'errno'>, index: number) => number = () => 0;
  onSend: (send: Omit<Send, 'errno'>, index: number) => number = () => 0;
  /** Called before each read of the TUN and each receive. */
  onRead: () => void = () => {};
  wakeReads = 0;
  receiveCounts: number[] = [];

  readonly #memory: SharedMemory;
  #errno = 0;

  constructor(memory: SharedMemory) {
    this.#memory = memory;
  }

  /** What the TUN took. */
  get written(): TunWrite[] {
    return this.writes.filter(({ errno }) => errno === 0);
  }

  /** What the socket took, send by send, and datagram by datagram. */
  get sent(): Send[] {
    return this.sends.filter(({ errno }) => errno === 0);
  }

  get datagrams(): Uint8Array[] {
    return this.sent.flatMap(({ datagrams }) => datagrams);
  }

  errno(): number {
    return this.#errno;
  }

  #fail(errno: number): number {
    this.#errno = errno;
    return -1;
  }

  #offset(address: number): number {
    const offset = address - this.#memory.base;
    if (!Number.isInteger(offset) || offset < 64 || offset >= this.#memory.u8.length) {
      throw new Error(`the system call got a wild pointer: offset ${offset}`);
    }
    return offset;
  }

  #view(offset: number): DataView {
    return new DataView(this.#memory.memory.buffer, offset);
  }

  #pointer(offset: number): number {
    return Number(this.#view(offset).getBigUint64(0, true));
  }

  /** The pieces of memory that an array of iovecs names. */
  #vector(address: number, count: number): Uint8Array[] {
    if (count > LIMITS.iovecs) throw new Error(`${count} iovecs`);
    const at = this.#offset(address);
    return Array.from({ length: count }, (_, i) => {
      const base = this.#offset(this.#pointer(at + i * 16));
      const length = Number(this.#view(at + i * 16 + 8).getBigUint64(0, true));
      if (base + length > this.#memory.u8.length) throw new Error(`an iovec of ${length} bytes leaves the memory`);
      return this.#memory.u8.subarray(base, base + length);
    });
  }

  poll(fds: number, count: number, timeout: number): number {
    if (count === 0) {
      this.polls.push({ watched: {}, timeout });
      return 0;
    }
    const view = this.#view(this.#offset(fds));
    const descriptors = Array.from({ length: count }, (_, i) => view.getInt32(8 * i, true));
    const wanted = descriptors.map((_, i) => view.getUint16(8 * i + 4, true));
    const watched: Record<number, number> = {};
    for (const [i, fd] of descriptors.entries()) watched[fd] = (watched[fd] ?? 0) | wanted[i]!;
    this.polls.push({ watched, timeout });
    const answer = this.pollAnswers.shift();
    if (answer === undefined) throw new Error('poll would sleep for ever: nothing more is scripted');
    if (answer.errno !== undefined) return this.#fail(answer.errno);
    const events = new Map([
      [TUN, answer.tun],
      [SOCKET, answer.socket],
      [SOCKET_V6, answer.socketV6],
      [WAKE, answer.wake],
    ]);
    // errors are reported without being asked for
    const reported = descriptors.map((fd, i) => (events.get(fd) ?? 0) & (wanted[i]! | POLLERR | POLLHUP | POLLNVAL));
    for (const [i, revents] of reported.entries()) view.setUint16(8 * i + 6, revents, true);
    return reported.filter((revents) => revents !== 0).length;
  }

  read(fd: number, buffer: number, length: number): number {
    if (fd !== WAKE || length !== 8) throw new Error(`read(${fd}, ${length})`);
    this.#offset(buffer);
    this.wakeReads++;
    return 8;
  }

  readv(fd: number, iov: number, count: number): number {
    if (fd !== TUN) throw new Error(`readv(${fd})`);
    this.onRead();
    const next = this.tunReads.shift();
    if (next === undefined) return this.#fail(EAGAIN);
    if ('errno' in next) return this.#fail(next.errno);
    const bytes = this.vnetHeader ? concat(encodeVnet(next.vnet ?? NO_OFFLOAD), next.packet) : next.packet;
    return scatter(bytes, this.#vector(iov, count));
  }

  writev(fd: number, iov: number, count: number): number {
    if (fd !== TUN) throw new Error(`writev(${fd})`);
    const bytes = concat(...this.#vector(iov, count));
    const header = this.vnetHeader ? 10 : 0;
    const write = {
      vnet: this.vnetHeader ? decodeVnet(bytes) : NO_OFFLOAD,
      packet: bytes.slice(header),
      iovCount: count,
    };
    const errno = this.onWrite(write, this.writes.length);
    this.writes.push({ ...write, errno });
    return errno === 0 ? bytes.length : this.#fail(errno);
  }

  sendmsg(fd: number, message: number, flags: number): number {
    if (fd !== SOCKET && fd !== SOCKET_V6) throw new Error(`sendmsg(${fd})`);
    const [family, nameLength] = fd === SOCKET ? [2, 16] : [10, 28];
    const view = this.#view(this.#offset(message));
    if (view.getUint32(8, true) !== nameLength) throw new Error('length of the address');
    const name = this.#view(this.#offset(this.#pointer(this.#offset(message))));
    if (name.getUint16(0, true) !== family) throw new Error('family of the address');
    const address = family === 2 ? name.getUint32(4) : (name.getBigUint64(8) << 64n) | name.getBigUint64(16);
    const iovCount = Number(view.getBigUint64(24, true));
    const bytes = concat(...this.#vector(Number(view.getBigUint64(16, true)), iovCount));
    const { segmentSize, ecn } = this.#control(view, fd === SOCKET_V6);
    const datagrams: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += segmentSize || bytes.length) {
      datagrams.push(bytes.slice(at, segmentSize === 0 ? bytes.length : at + segmentSize));
    }
    const send = { address, port: name.getUint16(2), datagrams, segmentSize, ecn, iovCount, flags };
    const errno = kernelLimits(bytes.length, datagrams.length) || this.onSend(send, this.sends.length);
    this.sends.push({ ...send, errno });
    return errno === 0 ? bytes.length : this.#fail(errno);
  }

  /** Its control messages: UDP_SEGMENT, then the ECN bits of the family. */
  #control(message: DataView, v6: boolean): { readonly segmentSize: number; readonly ecn: number } {
    const length = Number(message.getBigUint64(40, true));
    let [segmentSize, ecn] = [0, 0];
    for (let at = 0; at < length; at += 24) {
      const control = this.#view(this.#offset(Number(message.getBigUint64(32, true))) + at);
      const kind = [
        Number(control.getBigUint64(0, true)),
        control.getInt32(8, true),
        control.getInt32(12, true),
      ].join();
      if (kind === [18, SOL_UDP, UDP_SEGMENT].join()) segmentSize = control.getUint16(16, true);
      else if (kind === (v6 ? [20, IPPROTO_IPV6, IPV6_TCLASS] : [20, IPPROTO_IP, IP_TOS]).join()) {
        ecn = control.getInt32(16, true);
      } else throw new Error(`a control message of length, level and type ${kind}`);
      if (segmentSize + ecn === 0) throw new Error('an empty control message');
    }
    return { segmentSize, ecn };
  }

  recvmmsg(fd: number, messages: number, count: number, _flags: number, timeout: number): number {
    if ((fd !== SOCKET && fd !== SOCKET_V6) || timeout !== 0) throw new Error(`recvmmsg(${fd}, timeout ${timeout})`);
    this.onRead();
    this.receiveCounts.push(count);
    const arrivals = fd === SOCKET ? this.arrivals : this.arrivalsV6;
    const first = arrivals[0];
    if (first === undefined) return this.#fail(EAGAIN);
    if ('errno' in first) {
      arrivals.shift();
      return this.#fail(first.errno);
    }
    let received = 0;
    for (; received < count; received++) {
      const arrival = arrivals[0];
      if (arrival === undefined || 'errno' in arrival) break;
      arrivals.shift();
      this.#receive(this.#offset(messages) + received * 64, arrival);
    }
    return received;
  }

  #receive(message: number, arrival: Exclude<Arrival, { readonly errno: number }>): void {
    const view = this.#view(message);
    const v6 = typeof arrival.from === 'bigint';
    if (view.getUint32(8, true) !== (v6 ? 28 : 16)) throw new Error('room for the sender is not announced again');
    if (Number(view.getBigUint64(40, true)) < 48) throw new Error('room for control is not announced again');
    const name = this.#view(this.#offset(this.#pointer(message)));
    name.setUint16(0, v6 ? 10 : 2, true);
    name.setUint16(2, arrival.port ?? 8285);
    if (typeof arrival.from === 'number') name.setUint32(4, arrival.from);
    else {
      name.setBigUint64(8, arrival.from >> 64n);
      name.setBigUint64(16, BigInt.asUintN(64, arrival.from));
    }
    const slot = this.#vector(this.#pointer(message + 16), Number(view.getBigUint64(24, true)));
    view.setUint32(56, scatter(arrival.bytes, slot), true);
    const room = slot.reduce((bytes, piece) => bytes + piece.length, 0);
    view.setInt32(48, (arrival.flags ?? 0) | (arrival.bytes.length > room ? MSG_TRUNC : 0), true);
    const control = arrival.control ?? (arrival.gro === undefined ? new Uint8Array(0) : groMessage(arrival.gro));
    this.#memory.u8.set(control, this.#offset(this.#pointer(message + 32)));
    view.setBigUint64(40, BigInt(control.length), true);
  }
}

function kernelLimits(bytes: number, datagrams: number): number {
  if (bytes > LIMITS.datagram) return EMSGSIZE;
  return datagrams > LIMITS.segments ? EINVAL : 0;
}

/** The control message of the outer header's TOS, a byte by IPv4 and an int by IPv6. */
export function tosMessage(tos: number, v6 = false): Uint8Array {
  const bytes = v6 ? groMessage(tos, IPPROTO_IPV6, IPV6_TCLASS) : groMessage(tos, IPPROTO_IP, IP_TOS);
  bytes[0] = v6 ? 20 : 17;
  return bytes;
}

/** The control message of UDP_GRO as the kernel writes it: an int behind its header, padded to eight bytes. */
export function groMessage(size: number, level = SOL_UDP, type = UDP_GRO): Uint8Array {
  const bytes = new Uint8Array(24);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 20, true);
  view.setInt32(8, level, true);
  view.setInt32(12, type, true);
  view.setInt32(16, size, true);
  return bytes;
}

export function encodeVnet(vnet: Vnet): Uint8Array {
  const bytes = new Uint8Array(10);
  const view = new DataView(bytes.buffer);
  bytes[0] = vnet.flags;
  bytes[1] = vnet.type;
  [vnet.headerLength, vnet.size, vnet.start, vnet.offset].forEach((value, i) => {
    view.setUint16(2 + 2 * i, value, true);
  });
  return bytes;
}

export function decodeVnet(bytes: Uint8Array): Vnet {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return {
    flags: bytes[0]!,
    type: bytes[1]!,
    headerLength: view.getUint16(2, true),
    size: view.getUint16(4, true),
    start: view.getUint16(6, true),
    offset: view.getUint16(8, true),
  };
}

/** Fills the pieces front to back; returns how many bytes found room. */
function scatter(bytes: Uint8Array, pieces: readonly Uint8Array[]): number {
  let at = 0;
  for (const piece of pieces) {
    piece.set(bytes.subarray(at, at + piece.length));
    at += Math.min(piece.length, bytes.length - at);
  }
  return at;
}
