/**
 * The endless loop of a forwarder thread, which serves one direction or both.
 *
 * Theory of operation. The thread sleeps in poll on the descriptor of each direction that it serves and on an eventfd.
 * Awake, it gives every direction that has something to read one turn, and asks again; a turn is short, so that neither
 * direction starves the other. The only other place where it may sleep is `awaitRoom`, where a send waits for the device
 * below: there it goes on to receive, if receiving is its work too.
 */
import { EAGAIN, EINTR, POLLIN, POLLOUT } from '../linux/constants.js';
import type { Syscalls } from '../linux/libc.js';
import type { SharedMemory } from '../linux/memory.js';
import { POLLFD_BYTES, POLLFD_EVENTS, POLLFD_REVENTS } from '../linux/structs.js';
import type { ControlBlock, Direction } from './control-block.js';

/** One direction, as its loop sees it. */
export interface Forwarder {
  readonly direction: Direction;
  /** Can be read when there is something to forward. */
  readonly descriptor: number;
  /**
   * Forwards what waits, within limits; never sleeps for it.
   *
   * @returns why it ended: EAGAIN or EINTR when all is well, else the errno with which the forwarder has to give up
   */
  turn(): number;
}

/** Memory that a loop needs: the descriptors that it polls, those of `awaitRoom`, and what is read from the eventfd. */
export const LOOP_BYTES = 128;
const ROOM_AT = 64;
const SCRATCH_AT = 96;

/** A send waits no longer than this, in milliseconds, for a device whose queue is full. */
const ROOM_TIMEOUT_MS = 500;

/** Owned by one thread. */
export class ForwarderLoop {
  readonly #memory: SharedMemory;
  readonly #sys: Syscalls;
  readonly #control: ControlBlock;
  readonly #at: number;
  /** Kept in a private field, where it is boxed once instead of at every call. */
  readonly #address: number;
  readonly #wake: number;
  #forwarders: readonly Forwarder[] = [];

  /**
   * @param at offset of LOOP_BYTES
   * @param wake an eventfd; readable when the control block is to be looked at
   */
  constructor(memory: SharedMemory, at: number, sys: Syscalls, control: ControlBlock, wake: number) {
    this.#memory = memory;
    this.#at = at;
    this.#address = memory.base + at;
    this.#sys = sys;
    this.#control = control;
    this.#wake = wake;
  }

  /**
   * Blocks until it is asked to stop or one of the forwarders cannot go on, and leaves the reason in the control block
   * then.
   */
  serve(forwarders: readonly Forwarder[]): void {
    this.#forwarders = forwarders;
    const count = forwarders.length;
    for (const [i, { descriptor }] of forwarders.entries())
      this.#watch(this.#at + i * POLLFD_BYTES, descriptor, POLLIN);
    const wake = this.#at + count * POLLFD_BYTES;
    this.#watch(wake, this.#wake, POLLIN);
    while (!this.#control.stopRequested) {
      if (this.#sys.poll(this.#address, count + 1, -1) < 0) {
        const errno = this.#sys.errno();
        if (errno === EINTR) continue;
        for (const { direction } of forwarders) this.#control.setFailed(direction, errno);
        return;
      }
      this.#clearWake(wake);
      for (let i = 0; i < count; i++) {
        // errors too: the read that follows says which
        if (this.#events(this.#at + i * POLLFD_BYTES) === 0) continue;
        const forwarder = forwarders[i];
        const errno = forwarder.turn();
        if (errno === EAGAIN || errno === EINTR) continue;
        this.#control.setFailed(forwarder.direction, errno);
        return;
      }
    }
  }

  /**
   * Waits until a socket takes datagrams again, not for ever. What arrives meanwhile is forwarded, if that is this loop's
   * work: so this must not be called by the forwarder that reads the socket.
   */
  awaitRoom(socket: number): void {
    const receiver = this.#forwarders.find(({ descriptor }) => descriptor === socket);
    const room = this.#at + ROOM_AT;
    const wake = room + POLLFD_BYTES;
    this.#watch(room, socket, receiver === undefined ? POLLOUT : POLLOUT | POLLIN);
    this.#watch(wake, this.#wake, POLLIN);
    const deadline = performance.now() + ROOM_TIMEOUT_MS;
    while (!this.#control.stopRequested) {
      const left = Math.ceil(deadline - performance.now());
      if (left <= 0 || this.#sys.poll(this.#address + ROOM_AT, 2, left) < 0) return;
      this.#clearWake(wake);
      const events = this.#events(room);
      if ((events & ~POLLIN) !== 0) return;
      if (events !== 0) receiver?.turn();
    }
  }

  #watch(pollfd: number, descriptor: number, events: number): void {
    this.#memory.i32[pollfd >>> 2] = descriptor;
    this.#memory.u16[(pollfd + POLLFD_EVENTS) >>> 1] = events;
  }

  #events(pollfd: number): number {
    return this.#memory.u16[(pollfd + POLLFD_REVENTS) >>> 1];
  }

  #clearWake(pollfd: number): void {
    if (this.#events(pollfd) !== 0) this.#sys.read(this.#wake, this.#address + SCRATCH_AT, 8);
  }
}
