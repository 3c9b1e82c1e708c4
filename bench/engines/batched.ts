/**
 * Many packets per call, without super-packets: read until the TUN has no more, then one sendmmsg for all; one recvmmsg
 * for all that waits, then one write each, since a TUN device has no call for many. One thread a direction, as the daemon
 * has them, on the same memory and the same way of calling libc.
 */

import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import koffi from 'koffi';
import { parseIpv4 } from '../../src/base/ipv4.js';
import { decrementTtl } from '../../src/encap/checksum.js';
import { openUdpSocket } from '../../src/encap/udp-socket.js';
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
  putSockaddrIn,
  SOCKADDR_IN_BYTES,
} from '../../src/linux/structs.js';
import { isForwardable, openPlainTun, readArguments, sayReady } from './tun.js';

const BATCH = 64;
/** Longer than any packet of the device, whose MTU is 1472. */
const SLOT = 2048;
const BUFFER = 7 << 20;

interface Task {
  readonly direction: 'tx' | 'rx';
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

/** BATCH packets, each with its iovec and its message. */
class Slots {
  readonly memory = SharedMemory.create(1 << 20);
  readonly messages: number;
  readonly #buffers: number;
  readonly #iov: number;
  readonly #poll: number;

  constructor({ peer, port, direction, tun, socket }: Task) {
    const { memory } = this;
    const regions = new RegionAllocator();
    this.#buffers = regions.take(BATCH * SLOT, 4096);
    this.#iov = regions.take(BATCH * IOVEC_BYTES);
    this.messages = regions.take(BATCH * MMSGHDR_BYTES);
    this.#poll = regions.take(POLLFD_BYTES);
    const name = regions.take(SOCKADDR_IN_BYTES);
    putSockaddrIn(memory.u8, name, peer, port, AF_INET);
    memory.i32[this.#poll >>> 2] = direction === 'tx' ? tun : socket;
    memory.u16[(this.#poll + POLLFD_EVENTS) >>> 1] = POLLIN;
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

  wait(): void {
    syscalls.poll(this.memory.base + this.#poll, 1, -1);
  }
}

function transmit(task: Task): never {
  const slots = new Slots(task);
  const { u8, base } = slots.memory;
  for (;;) {
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
    if (count === 0) slots.wait();
    for (let sent = 0; sent < count; ) {
      const more = sendmmsg(task.socket, base + slots.messages + sent * MMSGHDR_BYTES, count - sent, 0);
      sent += more > 0 ? more : 1; // one that is refused is lost; the others go on
    }
  }
}

function receive(task: Task): never {
  const slots = new Slots(task);
  const { u8, u32, base } = slots.memory;
  for (;;) {
    const count = syscalls.recvmmsg(task.socket, base + slots.messages, BATCH, MSG_DONTWAIT, 0);
    if (count <= 0) slots.wait();
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
  }
}

async function startThreads(): Promise<void> {
  const { device, own, peer, port } = readArguments(process.argv.slice(2));
  const tun = openPlainTun(device);
  const address = parseIpv4(own) as number;
  const { fd } = openUdpSocket({ address, port, gso: 'off', gro: 'off', buffer: BUFFER });
  const started = (['tx', 'rx'] as const).map((direction) => {
    const task: Task = { direction, tun, socket: fd, peer: parseIpv4(peer) as number, port };
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
  const task = workerData as Task;
  if (task.direction === 'tx') transmit(task);
  else receive(task);
}
