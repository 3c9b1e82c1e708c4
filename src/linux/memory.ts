import { TweedError } from '../base/errors.js';
import { addressOf } from './libc.js';

/** A page of WebAssembly memory, in bytes. */
const PAGE = 65_536;
const TWO_TO_32 = 4_294_967_296;

/** The kernel gives no address space: a limit of the process, or a host that allows no more than it has (overcommit). */
export class OutOfMemoryError extends TweedError {
  constructor(bytes: number, cause: unknown) {
    const advice =
      'raise the limits of address space and data (ulimit -v and -d, LimitAS= and LimitDATA=), or give the host memory';
    super('OUT_OF_MEMORY', `there is no address space for ${Math.ceil(bytes / (1 << 20))} MiB of packets; ${advice}`, {
      cause,
    });
  }
}

/**
 * Memory that every thread of the process and the kernel see at the same place.
 *
 * Offsets are what our code computes with; `base + offset` is the address that a system call gets. The memory never
 * grows, so `base` holds for its whole life. Words are little-endian, as on every machine that tweed supports.
 */
export class SharedMemory {
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly f64: Float64Array;
  /** For what stands at any offset, in network order: one access is one load, where four bytes would be four. */
  readonly view: DataView;

  readonly #baseLow: number;
  readonly #baseHigh: number;

  private constructor(
    readonly memory: WebAssembly.Memory,
    /** Address of offset 0. */
    readonly base: number,
  ) {
    this.u8 = new Uint8Array(memory.buffer);
    this.u16 = new Uint16Array(memory.buffer);
    this.i32 = new Int32Array(memory.buffer);
    this.u32 = new Uint32Array(memory.buffer);
    this.f64 = new Float64Array(memory.buffer);
    this.view = new DataView(memory.buffer);
    this.#baseLow = base >>> 0;
    this.#baseHigh = Math.floor(base / TWO_TO_32);
  }

  /** Reserves address space for `bytes`; the kernel hands out pages as they are touched. */
  static create(bytes: number): SharedMemory {
    const pages = Math.ceil(bytes / PAGE);
    try {
      return SharedMemory.attach(new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true }));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new OutOfMemoryError(pages * PAGE, error);
    }
  }

  /** The same memory in another thread. */
  static attach(memory: WebAssembly.Memory): SharedMemory {
    return new SharedMemory(memory, addressOf(new Uint8Array(memory.buffer)));
  }

  /** Stores the address of `target` at `at`, eight bytes: a pointer inside a kernel structure. */
  setPointer(at: number, target: number): void {
    const low = this.#baseLow + target;
    this.u32[at >>> 2] = low;
    this.u32[(at >>> 2) + 1] = low < TWO_TO_32 ? this.#baseHigh : this.#baseHigh + 1;
  }
}

/** Hands out regions of a memory, front to back, once. */
export class RegionAllocator {
  #next: number;
  readonly #end: number;

  /**
   * @param start first free offset; the bytes before it stay unused, so that no region has offset 0
   * @param end where the next owner's bytes begin; none while a memory is being planned
   */
  constructor(start = 64, end = Number.POSITIVE_INFINITY) {
    this.#next = start;
    this.#end = end;
  }

  /**
   * The offset of `bytes` that nobody else gets, aligned to a cache line unless told otherwise.
   *
   * @throws TweedError when they do not fit: the kernel would write into what is another's
   */
  take(bytes: number, alignment = 64): number {
    const at = Math.ceil(this.#next / alignment) * alignment;
    if (at + bytes > this.#end) {
      throw new TweedError('REGION_FULL', `${bytes} bytes do not fit below offset ${this.#end}; plan a larger region`);
    }
    this.#next = at + bytes;
    return at;
  }

  get used(): number {
    return this.#next;
  }
}
