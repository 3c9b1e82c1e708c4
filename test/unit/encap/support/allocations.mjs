// Run by allocations.test.ts in a process of its own, on the built product: forwards packets and prints how many bytes
// the V8 heap grew meanwhile. Plain JavaScript with nothing that allocates in its own loops.
//
// usage: node --expose-gc allocations.mjs WAY
import v8 from 'node:v8';
import { makeContext } from '../../../../dist/encap/datapath/context.js';
import { ForwarderLoop } from '../../../../dist/encap/datapath/loop.js';
import { RxForwarder } from '../../../../dist/encap/datapath/rx.js';
import { createSealer } from '../../../../dist/encap/datapath/sealing.js';
import { TxForwarder } from '../../../../dist/encap/datapath/tx.js';
import { Rx, readDrops, Tx } from '../../../../dist/encap/forwarding/counters.js';
import { ForwardingTable } from '../../../../dist/encap/forwarding/forwarding-table.js';
import { planLayout } from '../../../../dist/encap/forwarding/layout.js';
import * as numbers from '../../../../dist/linux/constants.js';
import { control as libc, syscalls } from '../../../../dist/linux/libc.js';
import { RegionAllocator, SharedMemory } from '../../../../dist/linux/memory.js';
import { putSockaddrIn } from '../../../../dist/linux/structs.js';
import { KeySlots, SLOT_BYTES, SLOT_WINDOW } from '../../../../dist/wireguard/key-slots.js';
import { Secret } from '../../../../dist/wireguard/keys.js';
import { PeerRecords } from '../../../../dist/wireguard/peer-records.js';
import { planTransport } from '../../../../dist/wireguard/transport-layout.js';

const NETWORK = { address: 0x0a050000, length: 16 };
const OURS = { address: 0x0a050100, length: 24 };
const THEIRS = { address: 0x0a050200, length: 24 };
const LOOPBACK = 0x7f000001;
/** fd00:5::/48, and a /64 of ours and of theirs. */
const NETWORK_V6 = { address: 0xfd00_0005n << 96n, length: 48 };
const subnetV6 = (n) => ({ address: NETWORK_V6.address | (n << 64n), length: 64 });
const [OURS_V6, THEIRS_V6] = [subnetV6(1n), subnetV6(2n)];
const NETWORKS = { ipv4: NETWORK, ipv6: NETWORK_V6 };
const ROUNDS = 8;
const WARM_UP = 40_000;
/** Many: a round has some 20 KB of objects under Node 24 that have nothing to do with packets. */
const MEASURED = 60_000;

const plain = planLayout(NETWORKS);
const behind = new RegionAllocator(plain.bytes);
const transport = planTransport(behind, 4);
const ownSealer = behind.take(1 << 20, 4096);
const layout = { ...plain, bytes: behind.used };
const sealing = { layout: transport, mtu: 1440 };
const memory = SharedMemory.create(layout.bytes);
const { u8, i32, u32, base } = memory;
/** A packet with a right header checksum; the transport's own is right too, if `transport` has the field zero. */
function packet(protocol, from, to, transport, checksumAt) {
  const length = 20 + transport.length;
  const bytes = new Uint8Array(length);
  bytes.set([0x45, 0, length >> 8, length & 255, 0, 0, 0x40, 0, 64, protocol]);
  const view = new DataView(bytes.buffer);
  view.setUint32(12, from.address + 2);
  view.setUint32(16, to.address + 2);
  bytes.set(transport, 20);
  const scratch = layout.rx;
  u8.set(bytes, scratch);
  view.setUint16(10, ~sum(scratch, 20, 0), true);
  const pseudo = sum(
    scratch + 12,
    8,
    ((protocol & 255) << 8) + (((transport.length & 255) << 8) | (transport.length >> 8)),
  );
  view.setUint16(20 + checksumAt, ~sum(scratch + 20, transport.length, pseudo), true);
  u8.fill(0, scratch, scratch + length);
  return bytes;
}

function udp(from, to, payload, port = 4000) {
  const transport = new Uint8Array(8 + payload);
  const view = new DataView(transport.buffer);
  view.setUint16(0, port);
  view.setUint16(2, 443);
  view.setUint16(4, 8 + payload);
  return packet(17, from, to, transport, 6);
}

function tcp(from, to, payload, sequence) {
  const transport = new Uint8Array(20 + payload);
  const view = new DataView(transport.buffer);
  view.setUint16(0, 4000);
  view.setUint16(2, 5201);
  view.setUint32(4, sequence);
  transport[12] = 0x50;
  transport[13] = 0x10;
  return packet(6, from, to, transport, 16);
}

/** The same packet as IPv6 between the same hosts; its checksum is right if it was. */
function toV6(ipv4, from, to) {
  const transport = ipv4.slice(20);
  const bytes = new Uint8Array(40 + transport.length);
  const view = new DataView(bytes.buffer);
  bytes.set([0x60, 0, 0, 0, transport.length >> 8, transport.length & 255, ipv4[9], 64]);
  view.setBigUint64(8, from.address >> 64n);
  view.setBigUint64(24, to.address >> 64n);
  bytes[23] = 2;
  bytes[39] = 2;
  const checksumAt = ipv4[9] === 6 ? 16 : 6;
  transport.set([0, 0], checksumAt);
  bytes.set(transport, 40);
  const scratch = layout.rx;
  u8.set(bytes, scratch);
  const swapped = ((transport.length & 255) << 8) | (transport.length >> 8);
  const pseudo = sum(scratch + 8, 32, (ipv4[9] << 8) + swapped);
  view.setUint16(40 + checksumAt, ~sum(scratch + 40, transport.length, pseudo), true);
  u8.fill(0, scratch, scratch + bytes.length);
  return bytes;
}

const NO_VNET = new Uint8Array(10);
function concat(...parts) {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** Reads the pointer at `at`; an offset into the memory. */
function offsetAt(at) {
  return u32[(at + 4) >>> 2] * 4_294_967_296 + u32[at >>> 2] - base;
}

/** Calls that hand the same bytes over again and again, `left` times, and take everything. */
const scripted = {
  left: 0,
  header: NO_VNET,
  bytes: NO_VNET,
  /** For receives: length of each datagram, or 0. */
  run: 0,
  from: LOOPBACK,
  /** By ::1 instead. */
  v6: false,
  port: 8285,
  poll: () => 1,
  read: () => 8,
  readv(_fd, iov, count) {
    if (scripted.left === 0) return -1;
    scripted.left--;
    const at = iov - base;
    if (count === 2) {
      u8.set(scripted.header, offsetAt(at));
      u8.set(scripted.bytes, offsetAt(at + 16));
      return 10 + scripted.bytes.length;
    }
    u8.set(scripted.bytes, offsetAt(at));
    return scripted.bytes.length;
  },
  writev: () => 1,
  sendmsg: () => 1,
  recvmmsg(_fd, messages, count) {
    if (scripted.left === 0) return -1;
    let done = 0;
    for (; done < count && scripted.left > 0; done++, scripted.left--) {
      const message = messages - base + done * 64;
      const name = offsetAt(message);
      u8[name + 2] = scripted.port >> 8;
      u8[name + 3] = scripted.port;
      if (scripted.v6) u8[name + 23] = 1;
      else i32[(name + 4) >>> 2] = (scripted.from << 24) | (scripted.from >>> 24); // 127.0.0.1 in network order
      u8.set(scripted.bytes, offsetAt(offsetAt(message + 16)));
      u32[(message + 56) >>> 2] = scripted.bytes.length;
      u32[(message + 48) >>> 2] = 0;
      u32[(message + 40) >>> 2] = scripted.run > 0 ? 24 : 0;
      const cmsg = offsetAt(message + 32);
      u32[cmsg >>> 2] = 20;
      u32[(cmsg + 8) >>> 2] = numbers.SOL_UDP;
      u32[(cmsg + 12) >>> 2] = numbers.UDP_GRO;
      u32[(cmsg + 16) >>> 2] = scripted.run;
    }
    return done;
  },
  errno: () => numbers.EAGAIN,
};

function options(changes) {
  return {
    layout,
    tun: -1,
    socket: -1,
    vnetHeader: true,
    socketV6: -1,
    carriesIpv4: true,
    network: NETWORK.address,
    networkMask: 0xffff0000,
    subnet: OURS.address,
    subnetMask: 0xffffff00,
    port: 8285,
    mtu: 1472,
    mayBeUnfinished: false,
    ipv6: { network: NETWORK_V6, subnet: OURS_V6, icmpSource: NETWORK_V6.address, overlayAddress: OURS_V6.address },
    maxSegments: 128,
    receiveSlots: 64,
    mergeTcp: true,
    mergeUdp: true,
    checkSenders: true,
    icmpSource: NETWORK.address,
    overlayAddress: OURS.address,
    icmpPerSecond: 100,
    icmpBurst: 50,
    ...changes,
  };
}

const contextOf = (sys, changes = {}) => makeContext(memory, sys, options(changes));
const { sum, control, counters } = contextOf(scripted);
const { tx: txCounters, rx: rxCounters } = counters;

function setPeers(port) {
  const table = new ForwardingTable({
    memory,
    layout,
    control,
    networks: NETWORKS,
    underlay: { ipv4: true, ipv6: true },
    port,
  });
  const way = scripted.v6 ? { publicIp: 0, publicIpv6: 1n } : { publicIp: LOOPBACK };
  table.replaceAll([{ subnet: THEIRS, subnetV6: THEIRS_V6, ...way }]);
}

const transmitter = (sys, changes) => {
  const context = contextOf(sys, changes);
  const tx = new TxForwarder(context, { pathMtu: () => 0, allowFragments: () => {}, awaitRoom: () => {} });
  return { context, forwarder: tx, turn: () => tx.turn(), packets: () => txCounters.get(Tx.packets) };
};
const receiver = (sys, changes) => {
  const rx = new RxForwarder(contextOf(sys, changes), scripted.v6 ? 6 : 4);
  return { forwarder: rx, turn: () => rx.turn(), packets: () => rxCounters.get(Rx.packets) };
};

/** The scripted way: `perTurn` packets come of each of the things handed over. */
function overScript(forwarder, perTurn, bytes, header = NO_VNET, run = 0) {
  setPeers(8285);
  scripted.bytes = bytes;
  scripted.header = header;
  scripted.run = run;
  return {
    packets: forwarder.packets,
    turn(packets) {
      scripted.left = Math.ceil(packets / perTurn);
      while (scripted.left > 0) forwarder.turn();
    },
  };
}

/** A virtio-net header for a super-packet of TCP over IPv4. */
const superHeader = (size) => Uint8Array.of(1, 1, 0, 0, size & 255, size >> 8, 20, 0, 16, 0);

const bound = (port = 0) => {
  const fd = libc.socket(numbers.AF_INET, numbers.SOCK_DGRAM | numbers.O_NONBLOCK, 0);
  const name = new Uint8Array(16);
  putSockaddrIn(name, 0, LOOPBACK, port, numbers.AF_INET);
  if (fd < 0 || libc.bind(fd, name, 16) < 0) throw new Error(`no socket: errno ${libc.errno()}`);
  return fd;
};

/** The port that a socket got, from /proc: neither Node nor the product has getsockname. */
async function portOf(fd) {
  const { readlinkSync, readFileSync } = await import('node:fs');
  const inode = /\[(\d+)\]/.exec(readlinkSync(`/proc/self/fd/${fd}`))[1];
  const line = readFileSync('/proc/self/net/udp', 'utf8')
    .split('\n')
    .find((one) => one.trim().split(/\s+/)[9] === inode);
  return Number.parseInt(line.trim().split(/\s+/)[1].split(':')[1], 16);
}

/** A thread's loop with real calls, one packet a wake-up: each poll finds the next one sent to the forwarder's TUN. */
async function overLoop(feeder, inbox, bytes, socket) {
  const wake = libc.eventfd(0, numbers.O_NONBLOCK);
  const message = await messageTo(inbox, bytes);
  let left = 0;
  const sys = {
    ...syscalls,
    poll(fds, count, timeout) {
      if (left-- === 0) control.requestStop();
      else syscalls.sendmsg(feeder, message[0], 0);
      return syscalls.poll(fds, count, left < 0 ? 0 : timeout);
    },
  };
  const { context, forwarder, packets } = transmitter(sys, { tun: inbox, socket });
  const idle = receiver(sys, { socket }).forwarder;
  const loop = new ForwarderLoop(context, 0, wake);
  return {
    packets,
    turn(count) {
      left = count;
      i32[layout.control >>> 2] = 0; // no stop is requested any more
      loop.serve([forwarder, idle]);
    },
  };
}

/** The address of a message that carries `bytes` to a socket on loopback; the first of two elements. */
async function messageTo(inbox, bytes) {
  const regions = new RegionAllocator(layout.rx + (8 << 20));
  const message = regions.take(56);
  const name = regions.take(16);
  const iov = regions.take(16);
  const data = regions.take(bytes.length);
  u8.set(bytes, data);
  putSockaddrIn(u8, name, LOOPBACK, await portOf(inbox), numbers.AF_INET);
  memory.setPointer(message, name);
  u32[(message + 8) >>> 2] = 16;
  memory.setPointer(message + 16, iov);
  u32[(message + 24) >>> 2] = 1;
  memory.setPointer(iov, data);
  u32[(iov + 8) >>> 2] = bytes.length;
  // the null keeps the address boxed: passing it to a call allocates nothing
  return [base + message, null];
}

/** The real calls: `feeder` sends datagrams to `inbox`, which the forwarder reads as its TUN or as its socket. */
async function overKernel(makeForwarder, feeder, inbox, bytes) {
  const message = await messageTo(inbox, bytes);
  const forwarder = makeForwarder();
  return {
    packets: forwarder.packets,
    turn(packets) {
      for (let sent = 0; sent < packets; sent += 50) {
        for (let i = 0; i < 50; i++) syscalls.sendmsg(feeder, message[0], 0);
        forwarder.turn();
      }
    },
  };
}

/** A session with the peer of the table, whose number is 0: both keys are the same, so what it seals it opens. */
function makeSession() {
  const slots = new KeySlots(memory, transport.keys, (bytes) => new Uint8Array(bytes).fill(7));
  const index = slots.reserve(0);
  const key = () => new Secret(new Uint8Array(32).fill(9));
  slots.install(index, 0, index, { send: key(), receive: key() });
  new PeerRecords(memory, transport.peers).setSending(0, slots.slotOf(index));
  return transport.keys.slots + slots.slotOf(index) * SLOT_BYTES + SLOT_WINDOW;
}

/** One run of sealed packets, received over and over: the window has to forget them in between. */
function overSealedRun(packets) {
  const forwarder = receiver(scripted, { sealing });
  const window = makeSession();
  const regions = new RegionAllocator(ownSealer, ownSealer + (1 << 20));
  const sealer = createSealer({ memory, call: () => {} }, regions, sealing);
  const at = regions.take(2048);
  const run = packets.map((bytes) => {
    sealer.reset();
    u8.set(bytes, at);
    const length = sealer.seal(0, at, bytes.length, 0, 0);
    return u8.slice(sealer.at, sealer.at + length);
  });
  const script = overScript(forwarder, run.length, concat(...run), NO_VNET, run[0].length);
  return {
    packets: script.packets,
    turn(count) {
      for (let done = 0; done < count; done += run.length) {
        memory.f64[window >>> 3] = 0;
        for (let word = 0; word < 4; word++) i32[((window + 8) >>> 2) + word] = 0;
        script.turn(1);
      }
    },
  };
}

const ways = {
  'tx super-packets, sealed': () => {
    makeSession();
    const forwarder = transmitter(scripted, { sealing });
    return overScript(forwarder, 43, tcp(OURS, THEIRS, 43 * 1400, 0), superHeader(1400));
  },
  'tx single packets, sealed': () => {
    makeSession();
    return overScript(transmitter(scripted, { sealing }), 1, udp(OURS, THEIRS, 36));
  },
  'rx runs of TCP, opened and merged': () =>
    overSealedRun(Array.from({ length: 40 }, (_, i) => tcp(THEIRS, OURS, 1400, i * 1400))),
  'tx single packets': () => overScript(transmitter(scripted), 1, udp(OURS, THEIRS, 36)),
  'tx packets without a virtio-net header': () =>
    overScript(transmitter(scripted, { vnetHeader: false, maxSegments: 1 }), 1, udp(OURS, THEIRS, 36)),
  'tx super-packets': () => overScript(transmitter(scripted), 43, tcp(OURS, THEIRS, 43 * 1400, 0), superHeader(1400)),
  'rx single datagrams, merged': () => overScript(receiver(scripted), 1, udp(THEIRS, OURS, 36)),
  'rx single datagrams, not merged': () =>
    overScript(receiver(scripted, { mergeUdp: false }), 1, udp(THEIRS, OURS, 36)),
  'rx runs of TCP, merged': () =>
    overScript(
      receiver(scripted),
      40,
      concat(...Array.from({ length: 40 }, (_, i) => tcp(THEIRS, OURS, 1400, i * 1400))),
      NO_VNET,
      1440,
    ),
  'rx runs of other flows': () =>
    overScript(
      receiver(scripted),
      40,
      concat(...Array.from({ length: 40 }, (_, i) => udp(THEIRS, OURS, 36, 1 + i))),
      NO_VNET,
      64,
    ),
  'tx single IPv6 packets by IPv6': () => {
    scripted.v6 = true;
    return overScript(transmitter(scripted), 1, toV6(udp(OURS, THEIRS, 36), OURS_V6, THEIRS_V6));
  },
  'tx IPv6 super-packets by IPv6': () => {
    scripted.v6 = true;
    const whole = toV6(tcp(OURS, THEIRS, 43 * 1400, 0), OURS_V6, THEIRS_V6);
    return overScript(transmitter(scripted), 43, whole, Uint8Array.of(1, 4, 0, 0, 1400 & 255, 1400 >> 8, 40, 0, 16, 0));
  },
  'rx single IPv6 datagrams by IPv6': () => {
    scripted.v6 = true;
    return overScript(receiver(scripted), 1, toV6(udp(THEIRS, OURS, 36), THEIRS_V6, OURS_V6));
  },
  'rx runs of IPv6 TCP by IPv6, merged': () => {
    scripted.v6 = true;
    const run = Array.from({ length: 40 }, (_, i) => toV6(tcp(THEIRS, OURS, 1400, i * 1400), THEIRS_V6, OURS_V6));
    return overScript(receiver(scripted), 40, concat(...run), NO_VNET, 1460);
  },
  'tx with real calls': async () => {
    const [tun, socket, sink] = [bound(), bound(), bound()];
    setPeers(await portOf(sink));
    const bytes = concat(NO_VNET, udp(OURS, THEIRS, 36));
    return overKernel(() => transmitter(syscalls, { tun, socket }), bound(), tun, bytes);
  },
  'tx in its loop with real calls, one packet a wake-up': async () => {
    const [tun, socket, sink] = [bound(), bound(), bound()];
    setPeers(await portOf(sink));
    return overLoop(bound(), tun, concat(NO_VNET, udp(OURS, THEIRS, 36)), socket);
  },
  'rx with real calls': async () => {
    const [socket, feeder] = [bound(), bound()];
    const port = await portOf(feeder);
    setPeers(port);
    const tun = libc.open('/dev/null', numbers.O_RDWR);
    return overKernel(() => receiver(syscalls, { tun, socket, port }), feeder, socket, udp(THEIRS, OURS, 36));
  },
};

const wanted = process.argv[2];
if (wanted === undefined) {
  console.log(JSON.stringify(Object.keys(ways)));
} else {
  const { turn, packets } = await ways[wanted]();
  turn(WARM_UP);
  const used = () => v8.getHeapStatistics().used_heap_size;
  const rounds = [];
  for (let round = 0; round < ROUNDS; round++) {
    globalThis.gc();
    used();
    const [before, count] = [used(), packets()];
    turn(MEASURED);
    const after = used();
    rounds.push((after - before) / (packets() - count));
  }
  const drops = Object.entries(readDrops(txCounters, rxCounters)).filter(([, dropped]) => dropped > 0);
  console.log(JSON.stringify({ packets: packets(), bytesPerPacket: rounds, drops }));
}
