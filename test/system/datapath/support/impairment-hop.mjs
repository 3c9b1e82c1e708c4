// A cable between two interfaces that treats the overlay's datagrams badly: loses, repeats, delays and corrupts some.
// It stands in a namespace of its own and is told how bad to be over the IPC channel. (The kernel may have no netem.)
import koffi from 'koffi';

const libc = koffi.load(null);
const socket = libc.func('int socket(int domain, int type, int protocol)');
const bind = libc.func('int bind(int fd, const void *address, unsigned int length)');
const setsockopt = libc.func('int setsockopt(int fd, int level, int name, const void *value, unsigned int length)');
const poll = libc.func('int poll(_Inout_ uint8_t *fds, unsigned long count, int timeout)');
const recv = libc.func('intptr_t recv(int fd, void *data, size_t length, int flags)');
const send = libc.func('intptr_t send(int fd, const void *data, size_t length, int flags)');
const nameToIndex = libc.func('unsigned int if_nametoindex(const char *name)');

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SOL_PACKET = 263;
const PACKET_IGNORE_OUTGOING = 23;
const ETH_P_ALL = 3;
const MSG_DONTWAIT = 0x40;
const POLLIN = 1;

const ETHERNET = 14;
const OUTER_IP = ETHERNET;
const OUTER_UDP = OUTER_IP + 20;
const INNER = OUTER_UDP + 8;
/** Behind any inner IP and TCP header. */
const INNER_PAYLOAD = INNER + 20 + 60;
const PORT = 8285;
/** The ECN bits of the second byte of an IP header; all of them set say "congestion experienced". */
const CONGESTION = 3;
/** How many later frames a delayed one lets pass. */
const DELAY = 5;

function number(value) {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}

function openInterface(name) {
  const fd = socket(AF_PACKET, SOCK_RAW, 0);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, number(32 << 20), 4);
  setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, number(1), 4);
  const address = new DataView(new ArrayBuffer(20));
  address.setUint16(0, AF_PACKET, true);
  address.setUint16(2, ETH_P_ALL);
  address.setInt32(4, nameToIndex(name), true);
  if (bind(fd, new Uint8Array(address.buffer), 20) < 0) throw new Error(`no interface ${name}`);
  return fd;
}

/** xorshift32: the same fates for the same frames. */
let state = 0x1234567;
function random() {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) / 2 ** 32;
}

/** The share of datagrams for each fate, and how many met it, by the inner packet's protocol. */
const NOTHING = { lost: 0, repeated: 0, delayed: 0, corruptedPayload: 0, corruptedHeader: 0, marked: 0 };
const PROTOCOLS = { 1: 'icmp', 6: 'tcp', 17: 'udp' };
/** First byte of a message of WireGuard's that carries a packet; an inner packet begins with its IP version. */
const TRANSPORT = 4;
const kindOf = (frame) => (frame[INNER] === TRANSPORT ? 'sealed' : PROTOCOLS[frame[INNER + 9]]);
let rates = NOTHING;
let counts;
function resetCounts() {
  counts = Object.fromEntries([...Object.values(PROTOCOLS), 'sealed'].map((name) => [name, { passed: 0, ...NOTHING }]));
}
resetCounts();

const fds = [openInterface(process.argv[2]), openInterface(process.argv[3])];
const room = Buffer.alloc(65_536);
/** For each direction: frames that are held back, and how many are still to pass before each. */
const held = [[], []];

function isOverlay(frame) {
  return (
    frame.length > INNER + 20 &&
    frame.readUInt16BE(12) === 0x0800 &&
    frame[OUTER_IP] === 0x45 &&
    frame[OUTER_IP + 9] === 17 &&
    frame.readUInt16BE(OUTER_UDP + 2) === PORT &&
    (frame[INNER] === TRANSPORT || frame[INNER] >> 4 === 4)
  );
}

function fateOf(frame) {
  if (!isOverlay(frame)) return 'passed';
  let chance = random();
  for (const [fate, rate] of Object.entries(rates)) {
    chance -= rate;
    if (chance >= 0) continue;
    if (fate === 'corruptedPayload' && frame.length < INNER_PAYLOAD + 100) return 'passed';
    return fate === 'marked' && (frame[INNER + 1] & CONGESTION) === 0 ? 'passed' : fate;
  }
  return 'passed';
}

/** Puts the Internet checksum of the bytes from `from` on at `at`. */
function putChecksum(frame, at, from, to, initial = 0) {
  frame.writeUInt16BE(0, at);
  let sum = initial;
  for (let i = from; i < to; i += 2) sum += (frame[i] << 8) | (i + 1 < to ? frame[i + 1] : 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  frame.writeUInt16BE(~sum & 0xffff || 0xffff, at);
}

/** Makes the outer checksum right again: only the inner ones can tell that something has changed. */
function putOuterChecksum(frame) {
  putChecksum(frame, OUTER_UDP + 6, OUTER_IP + 12, frame.length, 17 + frame.length - OUTER_UDP);
}

/** Turns over one bit. */
function corrupt(frame, from, to) {
  frame[from + Math.floor(random() * (to - from))] ^= 1 << Math.floor(random() * 8);
  putOuterChecksum(frame);
}

/** Does what a congested router does to a packet whose ends know ECN (RFC 3168). */
function mark(frame) {
  frame[INNER + 1] |= CONGESTION;
  putChecksum(frame, INNER + 10, INNER, INNER + 20);
  putOuterChecksum(frame);
}

function pass(direction, frame) {
  send(fds[1 - direction], frame, frame.length, 0);
}

function carry(direction, frame) {
  const fate = fateOf(frame);
  if (isOverlay(frame)) counts[kindOf(frame)][fate]++;
  if (fate === 'delayed') held[direction].push({ frame: Buffer.from(frame), wait: DELAY });
  else if (fate !== 'lost') {
    if (fate === 'corruptedPayload') corrupt(frame, INNER_PAYLOAD, frame.length);
    if (fate === 'corruptedHeader') corrupt(frame, INNER, INNER + 20);
    if (fate === 'marked') mark(frame);
    pass(direction, frame);
    if (fate === 'repeated') pass(direction, frame);
  }
  release(direction, 1);
}

/** Lets the held frames know that some have passed. */
function release(direction, passed) {
  for (const one of held[direction]) one.wait -= passed;
  while (held[direction].length > 0 && held[direction][0].wait <= 0) pass(direction, held[direction].shift().frame);
}

process.on('message', ({ id, rates: wanted }) => {
  if (wanted !== undefined) {
    rates = wanted;
    resetCounts();
  }
  process.send({ id, counts });
});
process.on('disconnect', () => process.exit(0));

const pollfds = new Uint8Array(16);
const view = new DataView(pollfds.buffer);
for (const [i, fd] of fds.entries()) {
  view.setInt32(8 * i, fd, true);
  view.setUint16(8 * i + 4, POLLIN, true);
}
process.send({ ready: true });

function work() {
  // nothing for a moment: what is held back has waited long enough
  if (poll(pollfds, 2, 5) === 0) for (const direction of [0, 1]) release(direction, DELAY);
  for (const [direction, fd] of fds.entries()) {
    for (let i = 0; i < 64; i++) {
      const length = recv(fd, room, room.length, MSG_DONTWAIT);
      if (length < 0) break;
      carry(direction, room.subarray(0, length));
    }
  }
  setImmediate(work);
}
work();
