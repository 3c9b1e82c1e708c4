import { EAGAIN, EINTR, POLLIN } from '../linux/constants.js';
import type { Syscalls } from '../linux/libc.js';
import type { RegionAllocator, SharedMemory } from '../linux/memory.js';
import { POLLFD_BYTES, POLLFD_EVENTS, POLLFD_REVENTS } from '../linux/structs.js';
import type { ControlBlock, Direction } from './control-block.js';

/** Where a forwarder sleeps: until its descriptor can be read, or its eventfd says to look at the control block. */
export class ForwarderWait {
  readonly #memory: SharedMemory;
  readonly #sys: Syscalls;
  readonly #control: ControlBlock;
  readonly #wake: number;
  readonly #address: number;
  readonly #scratchAddress: number;
  readonly #events: number;
  readonly #wakeEvents: number;

  /** Why `ready` returned false; 0 when it was asked to stop. */
  errno = 0;

  constructor(
    memory: SharedMemory,
    regions: RegionAllocator,
    sys: Syscalls,
    control: ControlBlock,
    descriptor: number,
    wake: number,
  ) {
    this.#memory = memory;
    this.#sys = sys;
    this.#control = control;
    this.#wake = wake;
    const fds = regions.take(2 * POLLFD_BYTES);
    const scratch = regions.take(8);
    this.#address = memory.base + fds;
    this.#scratchAddress = memory.base + scratch;
    this.#events = (fds + POLLFD_REVENTS) >>> 1;
    this.#wakeEvents = (fds + POLLFD_BYTES + POLLFD_REVENTS) >>> 1;
    memory.i32[fds >>> 2] = descriptor;
    memory.u16[(fds + POLLFD_EVENTS) >>> 1] = POLLIN;
    memory.i32[(fds + POLLFD_BYTES) >>> 2] = wake;
    memory.u16[(fds + POLLFD_BYTES + POLLFD_EVENTS) >>> 1] = POLLIN;
  }

  /**
   * A forwarder's life: waits and drains until it is asked to stop or cannot go on, and leaves the reason in the control
   * block then.
   *
   * @param drain returns the errno that ended it; EAGAIN and EINTR lead back to waiting
   */
  serve(direction: Direction, drain: () => number): void {
    while (this.ready()) {
      const errno = drain();
      if (errno === EAGAIN || errno === EINTR) continue;
      this.#control.setFailed(direction, errno);
      return;
    }
    if (this.errno !== 0) this.#control.setFailed(direction, this.errno);
  }

  /** Blocks. @returns true when there is something to read, false when the forwarder should end */
  ready(): boolean {
    while (!this.#control.stopRequested) {
      if (this.#sys.poll(this.#address, 2, -1) < 0) {
        const errno = this.#sys.errno();
        if (errno === EINTR) continue;
        this.errno = errno;
        return false;
      }
      if (this.#memory.u16[this.#wakeEvents] !== 0) this.#sys.read(this.#wake, this.#scratchAddress, 8);
      // errors too: the read that follows says which
      if (this.#memory.u16[this.#events] !== 0) return true;
    }
    return false;
  }
}
