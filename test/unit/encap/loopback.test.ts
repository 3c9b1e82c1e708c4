import { afterEach, describe, expect, it } from 'vitest';
import { RxForwarder } from '../../../src/encap/datapath/rx.js';
import { TxForwarder } from '../../../src/encap/datapath/tx.js';
import { openUdpSocket } from '../../../src/encap/datapath/udp-socket.js';
import { Rx } from '../../../src/encap/forwarding/counters.js';
import { EADDRINUSE, POLLIN } from '../../../src/linux/constants.js';
import { SystemCallError } from '../../../src/linux/errno.js';
import { control, type Syscalls, syscalls } from '../../../src/linux/libc.js';
import type { Switch } from '../../../src/tun/device.js';
import { altered, fixHeaderChecksum, type Offloaded, offloaded, payload, tcp, udp } from './support/packets.js';
import { delivered } from './support/receiving.js';
import { NO_OFFLOAD, referenceSplit, sameBytes } from './support/reference.js';
import { address, subnet, type Workbench, workbench } from './support/workbench.js';

/** Two hosts on one machine: the whole of 127/8 is loopback, so both can have the same port. */
const SENDER = address('127.0.0.2');
const RECEIVER = address('127.0.0.1');

const open: number[] = [];
afterEach(() => {
  for (const fd of open.splice(0)) control.close(fd);
});

function sockets(gso: Switch, gro: Switch) {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 40_000);
    try {
      const receiver = openUdpSocket({ address: RECEIVER, port, gso: 'off', gro, buffer: 4 << 20 });
      open.push(receiver.fd);
      const sender = openUdpSocket({ address: SENDER, port, gso, gro: 'off', buffer: 4 << 20 });
      open.push(sender.fd);
      return { port, sender, receiver };
    } catch (error) {
      if (!(error instanceof SystemCallError) || error.errno !== EADDRINUSE) throw error;
    }
  }
}

/** The TUN's calls are scripted, the socket's are the kernel's. */
function halfScripted({ kernel }: Workbench): Syscalls {
  let errno = syscalls.errno;
  const scripted = <T>(result: T): T => {
    errno = () => kernel.errno();
    return result;
  };
  const real = <T>(result: T): T => {
    errno = syscalls.errno;
    return result;
  };
  return {
    poll: (fds, count, timeout) => real(syscalls.poll(fds, count, timeout)),
    read: (fd, buffer, length) => real(syscalls.read(fd, buffer, length)),
    sendmsg: (fd, message, flags) => real(syscalls.sendmsg(fd, message, flags)),
    recvmmsg: (fd, messages, count, flags, timeout) => real(syscalls.recvmmsg(fd, messages, count, flags, timeout)),
    readv: (fd, iov, count) => scripted(kernel.readv(fd, iov, count)),
    writev: (fd, iov, count) => scripted(kernel.writev(fd, iov, count)),
    errno: () => errno(),
  };
}

/** Sends what the TUN of one host hands over through real sockets to the TUN of the other. */
function tunnel(reads: readonly Offloaded[], { gso = 'auto' as Switch, gro = 'auto' as Switch, slots = 64 }) {
  const { port, sender, receiver } = sockets(gso, gro);
  const bench = workbench({ port, receiveSlots: slots, maxSegments: sender.gso ? 63 : 1 });
  const { memory, options, layout } = bench;
  bench.peers.set(subnet(1), RECEIVER);
  bench.peers.set(subnet(2), SENDER);
  const context = { ...bench.context, sys: halfScripted(bench) };
  const outlet = { pathMtu: () => 0, allowFragments: () => {}, awaitRoom: () => {} };
  const tx = new TxForwarder({ ...context, options: { ...options, socket: sender.fd } }, outlet);
  const rx = new RxForwarder({ ...context, options: { ...options, socket: receiver.fd } });
  const expected = reads.flatMap(({ vnet, packet }) => {
    const older = fixHeaderChecksum(altered(packet, { 8: packet[8]! - 2 }));
    return vnet.size > 0 ? referenceSplit(older, vnet.size) : [older];
  });
  bench.kernel.tunReads.push(...reads);
  tx.turn();
  const fds = layout.bytes - 64;
  memory.i32[fds >>> 2] = receiver.fd;
  memory.u16[(fds + 4) >>> 1] = POLLIN;
  while (bench.rxCounters.get(Rx.datagrams) < expected.length) {
    if (syscalls.poll(memory.base + fds, 1, 5000) !== 1) throw new Error('not everything arrived');
    rx.turn();
  }
  return { ...bench, expected, sender, receiver };
}

const ends = { source: [2, 2], destination: [1, 2] } as const;
/** Super-packets of two TCP flows and of UDP, and single packets of all sizes. */
const traffic: readonly Offloaded[] = [
  ...[0, 1].map((i) => offloaded(tcp({ ...ends, payload: payload(60_000, i), sequence: i * 60_000 }), 1400)),
  offloaded(tcp({ ...ends, sourcePort: 9, payload: payload(10_001), flags: 0x18 }), 1000),
  offloaded(udp({ ...ends, payload: payload(30_000) }), 1200),
  ...[0, 1, 9, 500, 1400].map((length) => ({ vnet: NO_OFFLOAD, packet: udp({ ...ends, payload: payload(length) }) })),
];

describe('two forwarders with real sockets on loopback', () => {
  for (const gso of ['off', 'auto'] as const) {
    for (const gro of ['off', 'auto'] as const) {
      for (const slots of [1, 64]) {
        it(`carry everything byte for byte: GSO ${gso}, GRO ${gro}, ${slots} slots`, () => {
          const result = tunnel(traffic, { gso, gro, slots });
          const got = delivered(result);
          expect(got.length).toBe(result.expected.length);
          expect(got.every((packet, i) => sameBytes(packet, result.expected[i]!))).toBe(true);
          expect([result.dropped('tx'), result.dropped('rx')]).toEqual([{}, {}]);
          expect(result.control.turnedOff('udp_gso')).toBe(0);
        });
      }
    }
  }

  it('really send many datagrams in a call where the kernel segments', ({ skip }) => {
    const { counted, sender } = tunnel(traffic, {});
    if (!sender.gso) skip('this kernel does not segment UDP');
    const { packets = 0, sends = 0, segmented_sends = 0 } = counted('tx');
    expect(segmented_sends).toBeGreaterThan(0);
    expect(packets / sends).toBeGreaterThan(10);
  });

  it('really receive many datagrams in a slot where the kernel coalesces', ({ skip }) => {
    const { counted, sender, receiver } = tunnel(traffic, {});
    if (!sender.gso || !receiver.gro) skip('this kernel does not coalesce UDP');
    const { coalesced_datagrams = 0, packets = 0, writes = 0 } = counted('rx');
    expect(coalesced_datagrams).toBeGreaterThan(100);
    expect(packets / writes).toBeGreaterThan(10);
  });

  it('give a super-packet back as it was', () => {
    const [first] = traffic;
    const { kernel } = tunnel([first!], {});
    expect(kernel.written.map(({ vnet }) => vnet.size)).toEqual([1400]);
    const older = altered(first!.packet, { 8: first!.packet[8]! - 2 });
    expect(sameBytes(kernel.written[0]!.packet, fixHeaderChecksum(older))).toBe(true);
  });
});
