/**
 * bpf(2): maps, programs, test runs, links and pins, each a thin function over one system call.
 *
 * Every call lays its attributes out in one scratch memory whose address holds, so this is for the control thread only and
 * not reentrant. Whoever gets a descriptor closes it; a function that throws leaves none behind.
 */
import {
  BPF_ATTR_BYTES,
  BPF_LINK_CREATE,
  BPF_LINK_DETACH,
  BPF_LINK_GET_FD_BY_ID,
  BPF_LINK_GET_NEXT_ID,
  BPF_MAP_CREATE,
  BPF_MAP_DELETE_ELEM,
  BPF_MAP_GET_FD_BY_ID,
  BPF_MAP_GET_NEXT_ID,
  BPF_MAP_GET_NEXT_KEY,
  BPF_MAP_LOOKUP_ELEM,
  BPF_MAP_UPDATE_ELEM,
  BPF_OBJ_GET,
  BPF_OBJ_GET_INFO_BY_FD,
  BPF_OBJ_NAME_LEN,
  BPF_OBJ_PIN,
  BPF_PROG_GET_FD_BY_ID,
  BPF_PROG_GET_NEXT_ID,
  BPF_PROG_LOAD,
  BPF_PROG_QUERY,
  BPF_PROG_TEST_RUN,
  BY_ID,
  INFO,
  LINK_CREATE,
  LINK_INFO_ID,
  LINK_INFO_IFINDEX,
  LINK_INFO_PROGRAM,
  MAP_CREATE,
  MAP_ELEMENT,
  MAP_INFO_NAME,
  OBJ,
  PROG_INFO_ID,
  PROG_INFO_NAME,
  PROG_LOAD,
  QUERY,
  TEST_RUN,
} from '../linux/bpf.js';
import { EINVAL, ENOENT } from '../linux/constants.js';
import { control } from '../linux/libc.js';
import { RegionAllocator, SharedMemory } from '../linux/memory.js';
import { INSTRUCTION_BYTES } from './assembler/instruction.js';
import { BpfError } from './bpf-error.js';

/** The system calls; a test scripts them. */
export type BpfCalls = Pick<typeof control, 'bpf' | 'close' | 'errno'>;

export interface MapShape {
  readonly name: string;
  readonly type: number;
  readonly keyBytes: number;
  /** Of one value; in a map per processor there are as many as processors, each rounded up to eight bytes. */
  readonly valueBytes: number;
  readonly maxEntries: number;
  readonly flags?: number;
}

export interface TestRun {
  /** What the program returned. */
  readonly result: number;
  /** The packet after it. */
  readonly data: Uint8Array;
  /** The context after it; empty when none was given. */
  readonly context: Uint8Array;
  /** Nanoseconds a run, on average. */
  readonly nanoseconds: number;
}

export interface ObjectName {
  readonly id: number;
  /** Of a link: the name of its program. */
  readonly name: string;
}

const CODE_BYTES = 4096 * INSTRUCTION_BYTES;
const LOG_BYTES = 1 << 18;
const ELEMENT_BYTES = 1 << 17;
const PACKET_BYTES = 1 << 17;
const CONTEXT_BYTES = 256;
const INFO_BYTES = 256;
/** As many as one hook holds (BPF_MPROG_MAX). */
const MAX_PROGRAMS = 64;
export const SCRATCH_BYTES = 1 << 20;

export class Bpf {
  readonly #calls: BpfCalls;
  readonly #memory: SharedMemory;
  readonly #attributes: number;
  readonly #key: number;
  readonly #value: number;
  readonly #code: number;
  readonly #license: number;
  readonly #log: number;
  readonly #dataIn: number;
  readonly #dataOut: number;
  readonly #contextIn: number;
  readonly #contextOut: number;
  readonly #info: number;

  /** @param memory SCRATCH_BYTES that nobody else uses */
  constructor(calls: BpfCalls = control, memory: SharedMemory = SharedMemory.create(SCRATCH_BYTES)) {
    this.#calls = calls;
    this.#memory = memory;
    const regions = new RegionAllocator();
    this.#attributes = regions.take(BPF_ATTR_BYTES);
    this.#key = regions.take(4096);
    this.#value = regions.take(ELEMENT_BYTES);
    this.#code = regions.take(CODE_BYTES);
    this.#license = regions.take(8);
    this.#log = regions.take(LOG_BYTES);
    this.#dataIn = regions.take(PACKET_BYTES);
    this.#dataOut = regions.take(PACKET_BYTES);
    this.#contextIn = regions.take(CONTEXT_BYTES);
    this.#contextOut = regions.take(CONTEXT_BYTES);
    this.#info = regions.take(INFO_BYTES);
    this.#memory.u8.set(new TextEncoder().encode('GPL'), this.#license); // some helpers are for GPL programs only
  }

  /** @returns a descriptor */
  createMap(shape: MapShape): number {
    this.#clear();
    this.#u32(MAP_CREATE.type, shape.type);
    this.#u32(MAP_CREATE.keySize, shape.keyBytes);
    this.#u32(MAP_CREATE.valueSize, shape.valueBytes);
    this.#u32(MAP_CREATE.maxEntries, shape.maxEntries);
    this.#u32(MAP_CREATE.flags, shape.flags ?? 0);
    this.#name(MAP_CREATE.name, shape.name);
    return this.#call(BPF_MAP_CREATE, `map ${shape.name}`);
  }

  /** @param valueBytes of all processors' values, if the map has one for each @returns null when there is no such key */
  lookup(map: number, key: Uint8Array, valueBytes: number): Uint8Array | null {
    this.#element(map, key);
    if (this.#try(BPF_MAP_LOOKUP_ELEM) >= 0) return this.#memory.u8.slice(this.#value, this.#value + valueBytes);
    const errno = this.#calls.errno();
    if (errno === ENOENT) return null;
    throw new BpfError('map lookup', errno);
  }

  /** Sets an entry, whether it is there or not. */
  update(map: number, key: Uint8Array, value: Uint8Array): void {
    this.#memory.u8.set(value, this.#value);
    this.#element(map, key);
    this.#call(BPF_MAP_UPDATE_ELEM, 'map update');
  }

  /** @returns whether it was there */
  delete(map: number, key: Uint8Array): boolean {
    this.#element(map, key);
    this.#memory.u8.fill(0, this.#attributes + MAP_ELEMENT.value, this.#attributes + BPF_ATTR_BYTES); // takes no value
    if (this.#try(BPF_MAP_DELETE_ELEM) >= 0) return true;
    const errno = this.#calls.errno();
    if (errno === ENOENT) return false;
    throw new BpfError('map delete', errno);
  }

  /** All keys of a map, in the kernel's order. What comes or goes meanwhile may be missed or met twice. */
  *keys(map: number, keyBytes: number): Generator<Uint8Array> {
    let key: Uint8Array | null = null;
    for (;;) {
      if (key === null) {
        this.#clear();
        this.#u32(MAP_ELEMENT.map, map);
      } else this.#element(map, key);
      this.#pointer(MAP_ELEMENT.value, this.#value);
      if (this.#try(BPF_MAP_GET_NEXT_KEY) < 0) {
        const errno = this.#calls.errno();
        if (errno === ENOENT) return;
        throw new BpfError('map next key', errno);
      }
      key = this.#memory.u8.slice(this.#value, this.#value + keyBytes);
      yield key;
    }
  }

  /**
   * Loads a program. When it is refused, it is loaded once more to hear why.
   *
   * @param code see Program.bytes
   * @returns a descriptor
   */
  load(name: string, type: number, code: Uint8Array): number {
    const descriptor = this.#load(name, type, code, 0);
    if (descriptor >= 0) return descriptor;
    const errno = this.#calls.errno();
    const second = this.#load(name, type, code, 1);
    if (second >= 0) return second;
    throw new BpfError(`program ${name}`, errno, this.#text(this.#log, LOG_BYTES));
  }

  /** What the verifier says about a program; nothing is left loaded. The log's end is cut off where it is very long. */
  verify(name: string, type: number, code: Uint8Array): { readonly accepted: boolean; readonly log: string } {
    const descriptor = this.#load(name, type, code, 1);
    if (descriptor >= 0) this.#calls.close(descriptor);
    return { accepted: descriptor >= 0, log: this.#text(this.#log, LOG_BYTES) };
  }

  /** @returns a descriptor, or less than 0 */
  #load(name: string, type: number, code: Uint8Array, logLevel: number): number {
    this.#clear();
    this.#memory.u8.set(code, this.#code);
    this.#u32(PROG_LOAD.type, type);
    this.#u32(PROG_LOAD.instructionCount, code.length / INSTRUCTION_BYTES);
    this.#pointer(PROG_LOAD.instructions, this.#code);
    this.#pointer(PROG_LOAD.license, this.#license);
    this.#name(PROG_LOAD.name, name);
    if (logLevel > 0) {
      this.#memory.u8[this.#log] = 0;
      this.#u32(PROG_LOAD.logLevel, logLevel);
      this.#u32(PROG_LOAD.logSize, LOG_BYTES);
      this.#pointer(PROG_LOAD.log, this.#log);
    }
    return this.#try(BPF_PROG_LOAD);
  }

  /**
   * Runs a program of tc or XDP on a packet. Redirects are returned, not made.
   *
   * @param data the packet, beginning with 14 bytes of Ethernet
   * @param context of the program's kind, or empty; most of its fields must be zero
   */
  testRun(program: number, data: Uint8Array, context: Uint8Array = new Uint8Array(0), repeat = 1): TestRun {
    this.#clear();
    const { u8, view } = this.#memory;
    u8.set(data, this.#dataIn);
    this.#u32(TEST_RUN.program, program);
    this.#u32(TEST_RUN.dataSizeIn, data.length);
    this.#u32(TEST_RUN.dataSizeOut, PACKET_BYTES);
    this.#pointer(TEST_RUN.dataIn, this.#dataIn);
    this.#pointer(TEST_RUN.dataOut, this.#dataOut);
    this.#u32(TEST_RUN.repeat, repeat);
    if (context.length > 0) {
      u8.set(context, this.#contextIn);
      this.#u32(TEST_RUN.contextSizeIn, context.length);
      this.#u32(TEST_RUN.contextSizeOut, context.length);
      this.#pointer(TEST_RUN.contextIn, this.#contextIn);
      this.#pointer(TEST_RUN.contextOut, this.#contextOut);
    }
    this.#call(BPF_PROG_TEST_RUN, 'test run');
    const out = (offset: number) => view.getUint32(this.#attributes + offset, true);
    return {
      result: out(TEST_RUN.result),
      data: u8.slice(this.#dataOut, this.#dataOut + out(TEST_RUN.dataSizeOut)),
      context: u8.slice(this.#contextOut, this.#contextOut + context.length),
      nanoseconds: out(TEST_RUN.duration),
    };
  }

  /** The kernel's number of a loaded program, which no other one has meanwhile. @throws BpfError */
  programId(program: number): number {
    if (!this.#describe(program)) throw new BpfError('program info', this.#calls.errno());
    return this.#memory.view.getUint32(this.#info + PROG_INFO_ID, true);
  }

  /** Attaches a program; it is detached when the last descriptor of the link is closed, in whatever process. @param attachType such as BPF_TCX_INGRESS */
  createLink(program: number, ifindex: number, attachType: number): number {
    this.#clear();
    this.#u32(LINK_CREATE.program, program);
    this.#u32(LINK_CREATE.ifindex, ifindex);
    this.#u32(LINK_CREATE.attachType, attachType);
    return this.#call(BPF_LINK_CREATE, `link to interface ${ifindex}`);
  }

  /** Takes a link off its device, whoever holds it. */
  detachLink(id: number): void {
    this.#clear();
    this.#u32(BY_ID.id, id);
    this.takeOff(this.#call(BPF_LINK_GET_FD_BY_ID, `link ${id}`));
  }

  /** Takes a link off its device, whoever else holds it, and closes the descriptor in any case. @throws BpfError */
  takeOff(link: number): void {
    this.#clear();
    this.#u32(0, link);
    try {
      this.#call(BPF_LINK_DETACH, 'detach link');
    } finally {
      this.#calls.close(link);
    }
  }

  /** The kernel's number of a link, which no other one has meanwhile. @throws BpfError */
  linkId(link: number): number {
    if (!this.#describe(link)) throw new BpfError('link info', this.#calls.errno());
    return this.#memory.view.getUint32(this.#info + LINK_INFO_ID, true);
  }

  /**
   * The kernel's numbers of the programs that hang on a device by TCX, in their order; none where the kernel has no TCX.
   *
   * @param attachType such as BPF_TCX_EGRESS
   */
  programsOn(ifindex: number, attachType: number): number[] {
    this.#clear();
    this.#u32(QUERY.ifindex, ifindex);
    this.#u32(QUERY.attachType, attachType);
    this.#pointer(QUERY.programs, this.#value);
    this.#u32(QUERY.count, MAX_PROGRAMS);
    if (this.#try(BPF_PROG_QUERY) < 0) {
      const errno = this.#calls.errno();
      if (errno === EINVAL || errno === ENOENT) return [];
      throw new BpfError(`programs on interface ${ifindex}`, errno);
    }
    const { view } = this.#memory;
    const count = view.getUint32(this.#attributes + QUERY.count, true);
    return Array.from({ length: count }, (_, i) => view.getUint32(this.#value + i * 4, true));
  }

  /** Is a link to a device still on it? Somebody may have taken it off, or the device away. */
  isAttached(link: number): boolean {
    this.#describe(link);
    return this.#memory.view.getUint32(this.#info + LINK_INFO_IFINDEX, true) !== 0;
  }

  /** Keeps an object under a path of a bpffs. */
  pin(descriptor: number, path: string): void {
    this.#clear();
    this.#path(path);
    this.#u32(OBJ.descriptor, descriptor);
    this.#call(BPF_OBJ_PIN, `pin ${path}`);
  }

  /** @returns a descriptor of what was pinned there */
  get(path: string): number {
    this.#clear();
    this.#path(path);
    return this.#call(BPF_OBJ_GET, `get ${path}`);
  }

  programs(): ObjectName[] {
    return this.#objects(BPF_PROG_GET_NEXT_ID, BPF_PROG_GET_FD_BY_ID, (at) => this.#text(at + PROG_INFO_NAME));
  }

  maps(): ObjectName[] {
    return this.#objects(BPF_MAP_GET_NEXT_ID, BPF_MAP_GET_FD_BY_ID, (at) => this.#text(at + MAP_INFO_NAME));
  }

  links(): ObjectName[] {
    const programs = new Map(this.programs().map(({ id, name }) => [id, name]));
    return this.#objects(BPF_LINK_GET_NEXT_ID, BPF_LINK_GET_FD_BY_ID, (at) => {
      return programs.get(this.#memory.view.getUint32(at + LINK_INFO_PROGRAM, true)) ?? '';
    });
  }

  close(descriptor: number): void {
    this.#calls.close(descriptor);
  }

  /** What exists in the whole kernel. What goes meanwhile is left out. */
  #objects(next: number, open: number, nameOf: (info: number) => string): ObjectName[] {
    const found: ObjectName[] = [];
    let id = 0;
    for (;;) {
      this.#clear();
      this.#u32(BY_ID.id, id);
      if (this.#try(next) < 0) {
        const errno = this.#calls.errno();
        if (errno === ENOENT) return found;
        throw new BpfError('list of objects', errno);
      }
      id = this.#memory.view.getUint32(this.#attributes + BY_ID.nextId, true);
      this.#clear();
      this.#u32(BY_ID.id, id);
      const descriptor = this.#try(open);
      if (descriptor < 0) continue;
      const known = this.#describe(descriptor);
      this.#calls.close(descriptor);
      if (known) found.push({ id, name: nameOf(this.#info) });
    }
  }

  /** Asks what an object is; zeros where the kernel does not say. */
  #describe(descriptor: number): boolean {
    this.#clear();
    this.#memory.u8.fill(0, this.#info, this.#info + INFO_BYTES);
    this.#u32(INFO.descriptor, descriptor);
    this.#u32(INFO.length, INFO_BYTES);
    this.#pointer(INFO.info, this.#info);
    return this.#try(BPF_OBJ_GET_INFO_BY_FD) >= 0;
  }

  #element(map: number, key: Uint8Array): void {
    this.#clear();
    this.#memory.u8.set(key, this.#key);
    this.#u32(MAP_ELEMENT.map, map);
    this.#pointer(MAP_ELEMENT.key, this.#key);
    this.#pointer(MAP_ELEMENT.value, this.#value);
  }

  #clear(): void {
    this.#memory.u8.fill(0, this.#attributes, this.#attributes + BPF_ATTR_BYTES);
  }

  #u32(offset: number, value: number): void {
    this.#memory.view.setUint32(this.#attributes + offset, value, true);
  }

  #pointer(offset: number, target: number): void {
    this.#memory.setPointer(this.#attributes + offset, target);
  }

  #name(offset: number, name: string): void {
    this.#memory.u8.set(new TextEncoder().encode(name).subarray(0, BPF_OBJ_NAME_LEN - 1), this.#attributes + offset);
  }

  #path(path: string): void {
    const bytes = new TextEncoder().encode(`${path}\0`);
    this.#memory.u8.set(bytes, this.#value);
    this.#pointer(OBJ.path, this.#value);
  }

  #text(at: number, limit = BPF_OBJ_NAME_LEN): string {
    const end = this.#memory.u8.indexOf(0, at);
    // a copy: text is not decoded out of shared memory
    return new TextDecoder().decode(this.#memory.u8.slice(at, Math.min(end, at + limit)));
  }

  #try(command: number): number {
    return this.#calls.bpf(command, this.#memory.base + this.#attributes, BPF_ATTR_BYTES);
  }

  #call(command: number, what: string): number {
    const result = this.#try(command);
    if (result < 0) throw new BpfError(what, this.#calls.errno());
    return result;
  }
}
