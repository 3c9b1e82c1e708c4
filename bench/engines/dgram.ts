/**
 * What plain Node gives: asynchronous reads of the TUN device, which libuv makes in its thread pool, and node:dgram.
 *
 * Configured kindly: the socket has large buffers, addresses are not looked up, one buffer serves all reads, and packets
 * are written to the device synchronously, since that never blocks and saves a round trip through the thread pool. One
 * read is under way at a time: with several, packets would overtake each other.
 */
import { createSocket } from 'node:dgram';
import { read, writeSync } from 'node:fs';
import koffi from 'koffi';
import { decrementTtl } from '../../src/encap/wire/checksum.js';
import { isForwardable, MAX_PACKET, openPlainTun, readArguments, sayReady } from './tun.js';

const F_SETFL = 4;
const BUFFER = 7 << 20;

const fileControl = koffi.load(null).func('int fcntl(int fd, int command, int argument)') as (
  fd: number,
  command: number,
  argument: number,
) => number;
const { device, own, peer, port } = readArguments(process.argv.slice(2));
const tun = openPlainTun(device);
// a read in the thread pool has to wait for its packet
fileControl(tun, F_SETFL, 0);
const socket = createSocket({
  type: 'udp4',
  // an address is an address: no resolver has to be asked
  lookup: (host, _options, callback) => callback(null, host, 4),
});

socket.on('message', (packet) => {
  if (!isForwardable(packet, 0, packet.length)) return;
  decrementTtl(packet, 0);
  try {
    writeSync(tun, packet);
  } catch {} // what the device does not take is lost, as on any full queue
});

const buffer = Buffer.alloc(MAX_PACKET);
function next(): void {
  read(tun, buffer, 0, MAX_PACKET, null, (error, length) => {
    if (error !== null) throw error;
    if (!isForwardable(buffer, 0, length)) return next();
    decrementTtl(buffer, 0);
    // libuv has sent it, or copied it, when the callback comes
    socket.send(buffer, 0, length, port, peer, next);
  });
}

socket.bind(port, own, () => {
  socket.setRecvBufferSize(BUFFER);
  socket.setSendBufferSize(BUFFER);
  sayReady();
  next();
});
