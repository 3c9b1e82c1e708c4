/**
 * Answers what the clients ask: every UDP datagram goes back to its sender, every TCP connection gets back what it sends
 * until it closes. One connection at a time.
 *
 * Usage: echo-server PORT. Says `ready`.
 */
import { POLLIN, SOCK_DGRAM } from '../../src/linux/constants.js';
import { control, syscalls } from '../../src/linux/libc.js';
import { SharedMemory } from '../../src/linux/memory.js';
import { POLLFD_BYTES, POLLFD_EVENTS, POLLFD_REVENTS, SOCKADDR_IN_BYTES } from '../../src/linux/structs.js';
import { accept, noDelay, recv, recvfrom, SOCK_STREAM, send, sendto, serve } from './sockets.js';

const port = Number(process.argv[2]);
const udp = serve(SOCK_DGRAM, port);
const listener = serve(SOCK_STREAM, port);
const buffer = new Uint8Array(65_536);
const peer = new Uint8Array(SOCKADDR_IN_BYTES);
const memory = SharedMemory.create(4096);
const POLL = 64;
const NONE = -1;
let connection = NONE;

/** Descriptors below 0 are passed over by poll(2). */
function watch(place: number, fd: number): void {
  memory.i32[(POLL + place * POLLFD_BYTES) >>> 2] = fd;
  memory.u16[(POLL + place * POLLFD_BYTES + POLLFD_EVENTS) >>> 1] = POLLIN;
}

function isReady(place: number): boolean {
  return memory.u16[(POLL + place * POLLFD_BYTES + POLLFD_REVENTS) >>> 1] !== 0;
}

function setConnection(fd: number): void {
  if (connection !== NONE) control.close(connection);
  connection = fd;
  watch(2, fd);
}

watch(0, udp);
watch(1, listener);
watch(2, NONE);
process.stdout.write('ready\n');
// the loop below never returns to Node, so a signal has to end the process by itself
process.removeAllListeners('SIGTERM');
setImmediate(() => {
  for (;;) {
    if (syscalls.poll(memory.base + POLL, 3, -1) < 0) continue;
    if (isReady(0)) {
      const length = recvfrom(udp, buffer, buffer.length, 0, peer, [peer.length]);
      if (length >= 0) sendto(udp, buffer, length, 0, peer, peer.length);
    }
    if (connection !== NONE && isReady(2)) {
      const length = recv(connection, buffer, buffer.length, 0);
      if (length > 0) send(connection, buffer, length, 0);
      else setConnection(NONE);
    }
    if (isReady(1)) {
      setConnection(accept(listener, null, null));
      noDelay(connection);
    }
  }
});
