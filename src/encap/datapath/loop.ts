/**
 * The endless loop of a forwarder thread, which serves one direction or both.
 *
 * Theory of operation. The thread sleeps in poll on the descriptor of each direction that it serves and on an eventfd.
 * Awake, it gives every direction that has something to read one turn, and asks again; a turn is short, so that neither
 * direction starves the other. In a turn it sleeps only where a send finds its way full: in `awaitRoom`, where it goes on
 * to receive if that is its work too, and for a millisecond where the kernel has no memory (`datagram-batch.ts`).
 *
 * Around its turns it beats (`control-block.ts`), by which the control thread knows when a forwarder has let go of what it
 * read in the tables, and whether it is stuck.
 */
import { EAGAIN, EINTR, POLLIN, POLLOUT } from '../../linux/constants.js';
import { RegionAllocator } from '../../linux/memory.js';
import { POLLFD_BYTES, POLLFD_EVENTS, POLLFD_REVENTS } from '../../linux/structs.js';
import type { Direction } from '../forwarding/control-block.js';
import { LOOP_BYTES } from '../forwarding/layout.js';
import type { ForwarderContext } from './context.js';

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
  /** The control thread has woken the loop: there may be news for it besides what lies in the control block. */
  woken?(): void;
}

/** One that reads the TUN, and one for each socket. */
const MOST_FORWARDERS = 3;

/** A send waits no longer than this, in milliseconds, for a device whose queue is full. */
const ROOM_TIMEOUT_MS = 500;
/** Nor, all sends together, so long when the loop has been asked to stop: what was read is not to be lost by a hand-over. */
const LAST_ROOM_TIMEOUT_MS = 100;

/** Owned by one thread. */
export class ForwarderLoop {
  readonly #memory: ForwarderContext['memory'];
  readonly #sys: ForwarderContext['sys'];
  readonly #control: ForwarderContext['control'];
  readonly #thread: number;
  /** The descriptors that it polls, and those of `awaitRoom`. */
  readonly #at: number;
  readonly #room: number;
  /** Kept in a private field, where it is boxed once instead of at every call. */
  readonly #address: number;
  readonly #roomAddress: number;
  readonly #scratchAddress: number;
  readonly #wake: number;
  /** The forwarders among ours that read a socket. */
  #receivers: readonly Forwarder[] = [];
  /** Somebody wrote to the eventfd, and the forwarders have not been told. */
  #wasWoken = false;
  /** When the last send has to be made, milliseconds of the monotonic clock; known from when one finds no room after the stop. */
  #end = Number.POSITIVE_INFINITY;

  /**
   * @param thread which of the threads it is, from 0
   * @param wake an eventfd; readable when the control block is to be looked at
   */
  constructor({ memory, sys, control, options }: ForwarderContext, thread: number, wake: number) {
    const start = options.layout.loops + thread * LOOP_BYTES;
    const regions = new RegionAllocator(start, start + LOOP_BYTES);
    this.#memory = memory;
    this.#sys = sys;
    this.#control = control;
    this.#thread = thread;
    this.#at = regions.take((MOST_FORWARDERS + 1) * POLLFD_BYTES, 8);
    this.#room = regions.take((MOST_FORWARDERS + 1) * POLLFD_BYTES, 8);
    this.#address = memory.base + this.#at;
    this.#roomAddress = memory.base + this.#room;
    this.#scratchAddress = memory.base + regions.take(8, 8);
    this.#wake = wake;
  }

  /**
   * Blocks until it is asked to stop or one of the forwarders cannot go on, and leaves the reason in the control block
   * then.
   */
  serve(forwarders: readonly Forwarder[]): void {
    this.#receivers = forwarders.filter(({ direction }) => direction === 'rx');
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
      this.#control.enterTurn(this.#thread);
      const goesOn = this.#turns(forwarders);
      if (this.#wasWoken) this.#tell(forwarders);
      this.#control.leaveTurn(this.#thread);
      if (!goesOn) return;
    }
    this.#tell(forwarders);
  }

  #tell(forwarders: readonly Forwarder[]): void {
    this.#wasWoken = false;
    for (const forwarder of forwarders) forwarder.woken?.();
  }

  /** Gives each forwarder that has something to read a turn. @returns false when one of them cannot go on */
  #turns(forwarders: readonly Forwarder[]): boolean {
    for (let i = 0; i < forwarders.length; i++) {
      // errors too: the read that follows says which
      if (this.#events(this.#at + i * POLLFD_BYTES) === 0) continue;
      const forwarder = forwarders[i];
      const errno = forwarder.turn();
      if (errno === EAGAIN || errno === EINTR) continue;
      this.#control.setFailed(forwarder.direction, errno);
      return false;
    }
    return true;
  }

  /**
   * Waits until a socket takes datagrams again, not for ever. What arrives meanwhile is forwarded, if that is this loop's
   * work and it has not been asked to stop: so this must not be called by a forwarder that reads a socket.
   */
  awaitRoom(socket: number): void {
    const room = this.#room;
    const receivers = this.#receivers;
    const arrivals = room + 2 * POLLFD_BYTES;
    const wake = room + POLLFD_BYTES;
    this.#watch(room, socket, POLLOUT);
    this.#watch(wake, this.#wake, POLLIN);
    for (let i = 0; i < receivers.length; i++) {
      this.#watch(arrivals + i * POLLFD_BYTES, receivers[i].descriptor, POLLIN);
    }
    const deadline = performance.now() + ROOM_TIMEOUT_MS;
    for (;;) {
      const stopping = this.#control.stopRequested;
      if (stopping) this.#end = Math.min(this.#end, performance.now() + LAST_ROOM_TIMEOUT_MS);
      const watched = stopping ? 0 : receivers.length;
      const left = Math.ceil(Math.min(deadline, this.#end) - performance.now());
      if (left <= 0) return;
      if (this.#sys.poll(this.#roomAddress, 2 + watched, left) < 0) {
        if (this.#sys.errno() === EINTR) continue;
        return;
      }
      this.#clearWake(wake);
      if (this.#events(room) !== 0) return;
      for (let i = 0; i < watched; i++) {
        // a reason to give up meets the turn in `serve`, too
        if (this.#events(arrivals + i * POLLFD_BYTES) !== 0) receivers[i].turn();
      }
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
    if (this.#events(pollfd) === 0) return;
    this.#sys.read(this.#wake, this.#scratchAddress, 8);
    this.#wasWoken = true;
  }
}
