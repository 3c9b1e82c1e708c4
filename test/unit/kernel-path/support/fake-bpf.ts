/**
 * bpf(2) scripted: maps that live in JavaScript, descriptors that are counted, refusals on demand. It reads and writes the
 * same structures at the same addresses as the kernel would.
 */

import { Bpf, type BpfCalls, SCRATCH_BYTES } from '../../../../src/kernel-path/bpf.js';
import * as abi from '../../../../src/linux/bpf.js';
import { EINVAL, ENOENT } from '../../../../src/linux/constants.js';
import { SharedMemory } from '../../../../src/linux/memory.js';

export interface FakeMap {
  readonly name: string;
  readonly type: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly maxEntries: number;
  readonly entries: Map<string, Uint8Array>;
}

/** One memory for all tests of a file: a WebAssembly memory reserves gigabytes of address space. */
const memory = SharedMemory.create(SCRATCH_BYTES);

export const PROCESSORS = 2;

/** The kernel's number of a program, by its descriptor. */
export function numberOf(descriptor: number): number {
  return descriptor + 1000;
}

export class FakeBpf implements BpfCalls {
  readonly bpf: BpfCalls['bpf'] = (command, attributes) => this.#answer(command, attributes - memory.base);
  readonly thin = new Bpf(this, memory);
  /** By descriptor, closed ones gone. */
  readonly open = new Map<number, string>();
  readonly maps = new Map<number, FakeMap>();
  /** Commands in order, with what they were about. */
  readonly log: string[] = [];
  /** The errno that a command is refused with, 0 for none. Asked each time. */
  refuse: (command: number, about: string) => number = () => 0;
  /** The descriptor that was pinned last. */
  pinned = 0;
  /** Numbers of the programs on a device's hook. */
  hook: (ifindex: number) => readonly number[] = () => [];
  /** What the verifier says when it is asked for its log. */
  verifierLog = '';
  #next = 100;
  #errno = 0;

  errno = (): number => this.#errno;

  close = (descriptor: number): number => {
    if (!this.open.delete(descriptor)) throw new Error(`descriptor ${descriptor} was not open`);
    return 0;
  };

  /** The map of this name, without its prefix. */
  map(name: string): FakeMap {
    const found = [...this.maps.values()].find((map) => map.name === `tweed_${name}`.slice(0, 15));
    if (found === undefined) throw new Error(`no map ${name}`);
    return found;
  }

  #descriptor(what: string): number {
    const descriptor = this.#next++;
    this.open.set(descriptor, what);
    return descriptor;
  }

  #fail(errno: number): number {
    this.#errno = errno;
    return -1;
  }

  #answer(command: number, at: number): number {
    const u32 = (offset: number) => memory.view.getUint32(at + offset, true);
    const pointer = (offset: number) => Number(memory.view.getBigUint64(at + offset, true)) - memory.base;
    const bytes = (from: number, length: number) => memory.u8.slice(from, from + length);
    const text = (from: number) => Buffer.from(bytes(from, 64)).toString('latin1').split('\0')[0] as string;
    const map = () => {
      const found = this.maps.get(u32(abi.MAP_ELEMENT.map));
      if (found === undefined) throw new Error(`descriptor ${u32(abi.MAP_ELEMENT.map)} is no map`);
      return found;
    };
    const refused = (about: string) => {
      this.log.push(`${command} ${about}`);
      return this.refuse(command, about);
    };
    switch (command) {
      case abi.BPF_MAP_CREATE: {
        const name = text(at + abi.MAP_CREATE.name);
        const errno = refused(name);
        if (errno !== 0) return this.#fail(errno);
        const descriptor = this.#descriptor(name);
        this.maps.set(descriptor, {
          name,
          type: u32(abi.MAP_CREATE.type),
          keyBytes: u32(abi.MAP_CREATE.keySize),
          valueBytes: u32(abi.MAP_CREATE.valueSize),
          maxEntries: u32(abi.MAP_CREATE.maxEntries),
          entries: new Map(),
        });
        return descriptor;
      }
      case abi.BPF_MAP_UPDATE_ELEM:
      case abi.BPF_MAP_LOOKUP_ELEM:
      case abi.BPF_MAP_DELETE_ELEM: {
        const { name, entries, keyBytes, valueBytes, type, maxEntries } = map();
        const key = Buffer.from(bytes(pointer(abi.MAP_ELEMENT.key), keyBytes)).toString('hex');
        const errno = refused(`${name} ${key}`);
        if (errno !== 0) return this.#fail(errno);
        const length = type === abi.BPF_MAP_TYPE_PERCPU_ARRAY ? valueBytes * PROCESSORS : valueBytes;
        if (command === abi.BPF_MAP_DELETE_ELEM) {
          if (u32(abi.MAP_ELEMENT.value) !== 0) return this.#fail(EINVAL);
          return entries.delete(key) ? 0 : this.#fail(ENOENT);
        }
        if (command === abi.BPF_MAP_UPDATE_ELEM) {
          if (!entries.has(key) && entries.size >= maxEntries) return this.#fail(28);
          entries.set(key, bytes(pointer(abi.MAP_ELEMENT.value), length));
          return 0;
        }
        const value = entries.get(key);
        if (value === undefined) return this.#fail(ENOENT);
        memory.u8.set(value, pointer(abi.MAP_ELEMENT.value));
        return 0;
      }
      case abi.BPF_MAP_GET_NEXT_KEY: {
        const { entries, keyBytes } = map();
        const keys = [...entries.keys()];
        const before = u32(abi.MAP_ELEMENT.key) === 0 ? null : bytes(pointer(abi.MAP_ELEMENT.key), keyBytes);
        const next = keys[before === null ? 0 : keys.indexOf(Buffer.from(before).toString('hex')) + 1];
        if (next === undefined) return this.#fail(ENOENT);
        memory.u8.set(Buffer.from(next, 'hex'), pointer(abi.MAP_ELEMENT.value));
        return 0;
      }
      case abi.BPF_PROG_LOAD: {
        const name = text(at + abi.PROG_LOAD.name);
        const errno = refused(name);
        if (errno === 0) return this.#descriptor(name);
        if (u32(abi.PROG_LOAD.logLevel) > 0) {
          memory.u8.set(Buffer.from(`${this.verifierLog}\0`), pointer(abi.PROG_LOAD.log));
        }
        return this.#fail(errno);
      }
      case abi.BPF_LINK_CREATE: {
        const about = `${u32(abi.LINK_CREATE.ifindex)} ${u32(abi.LINK_CREATE.attachType)}`;
        const errno = refused(about);
        return errno === 0 ? this.#descriptor(`link ${about}`) : this.#fail(errno);
      }
      case abi.BPF_LINK_DETACH: {
        const link = u32(0);
        const errno = refused(`take off ${this.open.get(link)}`);
        return errno === 0 ? 0 : this.#fail(errno);
      }
      case abi.BPF_PROG_QUERY: {
        const errno = refused(`query ${u32(abi.QUERY.ifindex)}`);
        if (errno !== 0) return this.#fail(errno);
        const there = this.hook(u32(abi.QUERY.ifindex));
        for (const [i, id] of there.entries()) memory.view.setUint32(pointer(abi.QUERY.programs) + i * 4, id, true);
        memory.view.setUint32(at + abi.QUERY.count, there.length, true);
        return 0;
      }
      case abi.BPF_OBJ_PIN: {
        const errno = refused(text(pointer(abi.OBJ.path)));
        this.pinned = u32(abi.OBJ.descriptor);
        return errno === 0 ? 0 : this.#fail(errno);
      }
      case abi.BPF_OBJ_GET_INFO_BY_FD: {
        const descriptor = u32(abi.INFO.descriptor);
        const errno = refused(`info ${descriptor}`);
        if (errno !== 0) return this.#fail(errno);
        // numbers unlike descriptors
        memory.view.setUint32(pointer(abi.INFO.info) + abi.PROG_INFO_ID, numberOf(descriptor), true);
        return 0;
      }
      case abi.BPF_PROG_TEST_RUN: {
        const errno = refused('run');
        if (errno !== 0) return this.#fail(errno);
        memory.view.setUint32(at + abi.TEST_RUN.result, 0, true);
        memory.view.setUint32(at + abi.TEST_RUN.dataSizeOut, 0, true);
        return 0;
      }
      default:
        throw new Error(`bpf(${command}) is not scripted`);
    }
  }
}
