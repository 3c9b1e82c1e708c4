/**
 * Datagrams to and from unix sockets, with descriptors in them (unix(7), SCM_RIGHTS), which Node itself cannot do. What is
 * to be sent or received lies in one ArrayBuffer, which V8 never moves.
 */
import {
  AF_UNIX,
  EAGAIN,
  MSG_CMSG_CLOEXEC,
  MSG_DONTWAIT,
  O_NONBLOCK,
  SCM_RIGHTS,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOL_SOCKET,
} from './constants.js';
import { SystemCallError } from './errno.js';
import { addressOf, control, syscalls } from './libc.js';
import {
  CMSG_DATA,
  CMSG_LENGTH,
  CMSG_LEVEL,
  CMSG_TYPE,
  IOVEC_BASE,
  IOVEC_BYTES,
  IOVEC_LENGTH,
  MSGHDR_BYTES,
  MSGHDR_CONTROL,
  MSGHDR_CONTROL_LENGTH,
  MSGHDR_IOV,
  MSGHDR_IOV_COUNT,
} from './structs.js';

/** asm-generic/errno.h */
const ENAMETOOLONG = 36;

/** sizeof sun_path in struct sockaddr_un, linux/un.h */
const PATH_BYTES = 108;

/** Most descriptors in one datagram of ours. */
const MAX_DESCRIPTORS = 8;
const MAX_MESSAGE = 4096;

/**
 * Sends one datagram to a unix socket: what sd_notify(3) wants. Where it would wait, it fails.
 *
 * @param address a path, or a name of the abstract namespace written with a leading `@`
 * @param descriptors the receiver gets its own copies of
 * @throws SystemCallError
 */
export function sendUnixDatagram(address: string, message: string, descriptors: readonly number[] = []): void {
  const target = unixSocketAddress(address);
  const fd = openSocket();
  try {
    if (control.connect(fd, target, target.length) < 0) {
      throw new SystemCallError(`connect(${address})`, control.errno(), 'check who listens there');
    }
    const buffer = new MessageBuffer(Buffer.from(message), descriptors);
    if (syscalls.sendmsg(fd, buffer.address, 0) < 0) {
      throw new SystemCallError(`sendmsg(${address})`, control.errno(), 'check who listens there');
    }
  } finally {
    control.close(fd);
  }
}

export interface UnixDatagram {
  readonly message: string;
  /** The caller's to close. They are not passed on to programs that are started. */
  readonly descriptors: readonly number[];
}

/** A socket for such datagrams, at a path that only its owner may write to. */
export class UnixReceiver {
  readonly #fd: number;

  /** @throws SystemCallError */
  constructor(path: string) {
    const address = unixSocketAddress(path);
    this.#fd = openSocket();
    const mask = process.umask(0o177);
    const failed = control.bind(this.#fd, address, address.length) < 0;
    const errno = failed ? control.errno() : 0;
    process.umask(mask);
    if (!failed) return;
    control.close(this.#fd);
    throw new SystemCallError(`bind(${path})`, errno, 'check that the directory may be written to');
  }

  /** The datagram that is there already; null when there is none. @throws SystemCallError */
  receive(): UnixDatagram | null {
    const buffer = new MessageBuffer(new Uint8Array(MAX_MESSAGE), Array(MAX_DESCRIPTORS).fill(-1));
    const length = control.recvmsg(this.#fd, buffer.address, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (length >= 0) return { message: buffer.text(length), descriptors: buffer.descriptors };
    const errno = control.errno();
    if (errno === EAGAIN) return null;
    throw new SystemCallError('recvmsg(AF_UNIX)', errno, 'report this');
  }

  close(): void {
    control.close(this.#fd);
  }
}

function openSocket(): number {
  const fd = control.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | O_NONBLOCK, 0);
  if (fd < 0) throw new SystemCallError('socket(AF_UNIX)', control.errno(), 'free some file descriptors');
  return fd;
}

/** struct msghdr, one struct iovec, one control message and the data, one behind the other. */
class MessageBuffer {
  readonly address: number;
  readonly #view: DataView;
  readonly #control = MSGHDR_BYTES + IOVEC_BYTES;
  readonly #data: number;

  constructor(data: Uint8Array, descriptors: readonly number[]) {
    const controlBytes = descriptors.length === 0 ? 0 : CMSG_DATA + 4 * descriptors.length;
    this.#data = this.#control + Math.ceil(controlBytes / 8) * 8;
    const bytes = new Uint8Array(new ArrayBuffer(this.#data + data.length));
    bytes.set(data, this.#data);
    this.address = addressOf(bytes);
    this.#view = new DataView(bytes.buffer);
    this.#put64(MSGHDR_IOV, this.address + MSGHDR_BYTES);
    this.#put64(MSGHDR_IOV_COUNT, 1);
    this.#put64(MSGHDR_BYTES + IOVEC_BASE, this.address + this.#data);
    this.#put64(MSGHDR_BYTES + IOVEC_LENGTH, data.length);
    if (controlBytes === 0) return;
    this.#put64(MSGHDR_CONTROL, this.address + this.#control);
    this.#put64(MSGHDR_CONTROL_LENGTH, this.#data - this.#control);
    this.#put64(this.#control + CMSG_LENGTH, controlBytes);
    this.#view.setInt32(this.#control + CMSG_LEVEL, SOL_SOCKET, true);
    this.#view.setInt32(this.#control + CMSG_TYPE, SCM_RIGHTS, true);
    for (const [i, fd] of descriptors.entries()) this.#view.setInt32(this.#control + CMSG_DATA + 4 * i, fd, true);
  }

  /** As they were received. */
  get descriptors(): number[] {
    if (Number(this.#view.getBigUint64(MSGHDR_CONTROL_LENGTH, true)) < CMSG_DATA) return [];
    const length = Number(this.#view.getBigUint64(this.#control + CMSG_LENGTH, true));
    const count = Math.floor((length - CMSG_DATA) / 4);
    return Array.from({ length: count }, (_, i) => this.#view.getInt32(this.#control + CMSG_DATA + 4 * i, true));
  }

  text(length: number): string {
    return Buffer.from(this.#view.buffer, this.#data, length).toString();
  }

  #put64(at: number, value: number): void {
    this.#view.setBigUint64(at, BigInt(value), true);
  }
}

/** struct sockaddr_un: the family, then the path with its NUL, or NUL and an abstract name without one (unix(7)). */
export function unixSocketAddress(address: string): Uint8Array {
  const abstract = address.startsWith('@');
  const name = Buffer.from(abstract ? `\0${address.slice(1)}` : `${address}\0`);
  if (name.length > PATH_BYTES) throw new SystemCallError(`connect(${address})`, ENAMETOOLONG, 'choose a shorter path');
  const bytes = new Uint8Array(2 + name.length);
  new Uint16Array(bytes.buffer, 0, 1)[0] = AF_UNIX;
  bytes.set(name, 2);
  return bytes;
}
