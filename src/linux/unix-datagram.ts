import { O_NONBLOCK, SOCK_CLOEXEC, SOCK_DGRAM } from './constants.js';
import { SystemCallError } from './errno.js';
import { control } from './libc.js';

/** linux/socket.h */
const AF_UNIX = 1;

/** asm-generic/errno.h */
const ENAMETOOLONG = 36;

/** sizeof sun_path in struct sockaddr_un, linux/un.h */
const PATH_BYTES = 108;

/**
 * Sends one datagram to a unix socket, which Node itself cannot do: sd_notify(3) wants it. Where it would wait, it fails.
 *
 * @param address a path, or a name of the abstract namespace written with a leading `@`
 * @throws SystemCallError
 */
export function sendUnixDatagram(address: string, message: string): void {
  const target = unixSocketAddress(address);
  const fd = control.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | O_NONBLOCK, 0);
  if (fd < 0) throw new SystemCallError('socket(AF_UNIX)', control.errno(), 'free some file descriptors');
  try {
    if (control.connect(fd, target, target.length) < 0) {
      throw new SystemCallError(`connect(${address})`, control.errno(), 'check who listens there');
    }
    const bytes = Buffer.from(message);
    if (control.write(fd, bytes, bytes.length) < 0) {
      throw new SystemCallError(`write(${address})`, control.errno(), 'check who listens there');
    }
  } finally {
    control.close(fd);
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
