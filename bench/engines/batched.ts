/**
 * Many packets per call, without super-packets: read until the TUN has no more, then one sendmmsg for all; one recvmmsg
 * for all that waits, then one write each, since a TUN device has no call for many. As many threads as the daemon would
 * have on this machine, which wait as the daemon's do, and the same way of calling libc. A send blocks when the socket is
 * full.
 */

import os from 'node:os';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import koffi from 'koffi';
import { parseIpv4 } from '../../src/base/ipv4.js';
import { forwarderThreads, SHARES } from '../../src/encap/datapath/threads.js';
import { openUdpSocket } from '../../src/encap/datapath/udp-socket.js';
import type { Direction } from '../../src/encap/forwarding/control-block.js';
import { decrementTtl } from '../../src/encap/wire/checksum.js';
import { AF_INET, MSG_DONTWAIT, POLLIN } from '../../src/linux/constants.js';
import { syscalls } from '../../src/linux/libc.js';
import { RegionAllocator, SharedMemory } from '../../src/linux/memory.js';
import {
  IOVEC_BYTES,
  IOVEC_LENGTH,
  MMSGHDR_BYTES,
  MMSGHDR_LENGTH,
  MSGHDR_IOV,
  MSGHDR_IOV_COUNT,
  MSGHDR_NAME,
  MSGHDR_NAME_LENGTH,
  POLLFD_BYTES,
  POLLFD_EVENTS,
  POLLFD_REVENTS,
  putSockaddrIn,
  SOCKADDR_IN_BYTES,
} from '../../src/linux/structs.js';
import { isForwardable, openPlainTun, readArguments, sayReady } from './tun.js';

const BATCH = 64;
/** Longer than any packet of the device, whose MTU is 1472. */
const SLOT = 2048;
const BUFFER = 7 << 20;

/** What one thread is told. */
interface Task {
  readonly directions: readonly Direction[];
  readonly tun: number;
  readonly socket: number;
  readonly peer: number;
  readonly port: number;
}

const sendmmsg = koffi.load(null).func('int sendmmsg(int fd, uintptr_t messages, unsigned int count, int flags)') as (
  fd: number,
  messages: number,
  count: number,
  flags: number,
) => number;

/** BATCH packets of one direction, each with its iovec and its message. */
class Slots {
  readonly messages: number;
  readonly #buffers: number;
  readonly #iov: number;

  constructor(
    readonly memory: SharedMemory,
    regions: RegionAllocator,
    direction: Direction,
    { peer, port }: Task,
  ) {
    this.#buffers = regions.take(BATCH * SLOT, 4096);
    this.#iov = regions.take(BATCH * IOVEC_BYTES);
    this.messages = regions.take(BATCH * MMSGHDR_BYTES);
    const name = regions.take(SOCKADDR_IN_BYTES);
    putSockaddrIn(memory.u8, name, peer, port, AF_INET);
    for (let i = 0; i < BATCH; i++) {
      const message = this.messages + i * MMSGHDR_BYTES;
      memory.setPointer(this.#iov + i * IOVEC_BYTES, this.packet(i));
      this.setRoom(i, SLOT);
      memory.setPointer(message + MSGHDR_IOV, this.#iov + i * IOVEC_BYTES);
      memory.u32[(message + MSGHDR_IOV_COUNT) >>> 2] = 1;
      if (direction === 'tx') {
        memory.setPointer(message + MSGHDR_NAME, name);
        memory.u32[(message + MSGHDR_NAME_LENGTH) >>> 2] = SOCKADDR_IN_BYTES;
      }
    }
  }

  packet(slot: number): number {
    return this.#buffers + slot * SLOT;
  }

  /** The iovec of a slot, as an address for readv and writev. */
  iovec(slot: number): number {
    return this.memory.base + this.#iov + slot * IOVEC_BYTES;
  }

  setRoom(slot: number, bytes: number): void {
    this.memory.u32[(this.#iov + slot * IOVEC_BYTES + IOVEC_LENGTH) >>> 2] = bytes;
  }
}

/** Forwards one batch. */
type Turn = () => void;

function transmitter(slots: Slots, task: Task): Turn {
  const { u8, base } = slots.memory;
  return () => {
    let count = 0;
    while (count < BATCH) {
      slots.setRoom(count, SLOT);
      const length = syscalls.readv(task.tun, slots.iovec(count), 1);
      if (length <= 0) break;
      const at = slots.packet(count);
      if (!isForwardable(u8, at, length)) continue;
      decrementTtl(u8, at);
      slots.setRoom(count, length);
      count++;
    }
    for (let sent = 0; sent < count; ) {
      const more = sendmmsg(task.socket, base + slots.messages + sent * MMSGHDR_BYTES, count - sent, 0);
      sent += more > 0 ? more : 1; // one that is refused is lost; the others go on
    }
  };
}

function receiver(slots: Slots, task: Task): Turn {
  const { u8, u32, base } = slots.memory;
  return () => {
    const count = syscalls.recvmmsg(task.socket, base + slots.messages, BATCH, MSG_DONTWAIT, 0);
    for (let slot = 0; slot < count; slot++) {
      const length = u32[(slots.messages + slot * MMSGHDR_BYTES + MMSGHDR_LENGTH) >>> 2] as number;
      const at = slots.packet(slot);
      if (isForwardable(u8, at, length)) {
        decrementTtl(u8, at);
        slots.setRoom(slot, length);
        syscalls.writev(task.tun, slots.iovec(slot), 1);
      }
      slots.setRoom(slot, SLOT);
    }
  };
}

/** Sleeps until a direction has something to read, and gives it a turn. */
function serve(task: Task): never {
  const memory = SharedMemory.create(1 << 20);
  const regions = new RegionAllocator();
  const { directions } = task;
  const fds = regions.take(directions.length * POLLFD_BYTES);
  const turns = directions.map((direction, i) => {
    memory.i32[(fds + i * POLLFD_BYTES) >>> 2] = direction === 'tx' ? task.tun : task.socket;
    memory.u16[(fds + i * POLLFD_BYTES + POLLFD_EVENTS) >>> 1] = POLLIN;
    const slots = new Slots(memory, regions, direction, task);
    return direction === 'tx' ? transmitter(slots, task) : receiver(slots, task);
  });
  for (;;) {
    syscalls.poll(memory.base + fds, turns.length, -1);
    for (const [i, turn] of turns.entries()) {
      if (memory.u16[(fds + i * POLLFD_BYTES + POLLFD_REVENTS) >>> 1] !== 0) turn();
    }
  }
}

async function startThreads(): Promise<void> {
  const { device, own, peer, port } = readArguments(process.argv.slice(2));
  const tun = openPlainTun(device);
  const address = parseIpv4(own) as number;
  const { fd } = openUdpSocket({ address, port, gso: 'off', gro: 'off', buffer: BUFFER });
  const started = SHARES[forwarderThreads('auto', os.availableParallelism())].map((directions) => {
    const task: Task = { directions, tun, socket: fd, peer: parseIpv4(peer) as number, port };
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: task });
    worker.once('error', (error) => {
      process.stderr.write(`${error.message}\n`);
      process.exit(1);
    });
    return new Promise((resolve) => worker.once('message', resolve));
  });
  await Promise.all(started);
  sayReady();
}

if (isMainThread) {
  await startThreads();
} else {
  parentPort?.postMessage('running');
  serve(workerData as Task);
}
