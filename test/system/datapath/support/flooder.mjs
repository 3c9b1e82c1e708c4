// Sends datagrams to an address as fast as it can until its IPC channel closes: flooder.mjs ADDRESS PORT SIZE RUN, where
// RUN is how many leave in one call. Nobody needs to listen there.
import koffi from 'koffi';

const libc = koffi.load(null);
const socket = libc.func('int socket(int domain, int type, int protocol)');
const setsockopt = libc.func('int setsockopt(int fd, int level, int name, const void *value, unsigned int length)');
const connect = libc.func('int connect(int fd, const void *address, unsigned int length)');
const send = libc.func('intptr_t send(int fd, const void *data, size_t length, int flags)');

const [address, port, size, run] = process.argv.slice(2);
const AF_INET = 2;
const SOCK_DGRAM = 2;
const IPPROTO_UDP = 17;
const UDP_SEGMENT = 103;
const CALLS_PER_TURN = 50;

const fd = socket(AF_INET, SOCK_DGRAM, 0);
const to = new DataView(new ArrayBuffer(16));
to.setUint16(0, AF_INET, true);
to.setUint16(2, Number(port));
for (const [i, octet] of address.split('.').entries()) to.setUint8(4 + i, Number(octet));
if (connect(fd, new Uint8Array(to.buffer), 16) < 0) throw new Error(`cannot reach ${address}`);
const segment = new Uint8Array(4);
new DataView(segment.buffer).setInt32(0, Number(size), true);
if (Number(run) > 1) setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, segment, 4);
const data = new Uint8Array(Number(size) * Number(run)).fill(0x55);

process.on('disconnect', () => process.exit(0));

/** A full queue or an ICMP error is no reason to stop. */
function turn() {
  for (let i = 0; i < CALLS_PER_TURN; i++) send(fd, data, data.length, 0);
  setImmediate(turn);
}
turn();
