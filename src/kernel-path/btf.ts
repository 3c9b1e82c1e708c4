/**
 * Reading the kernel's own description of its types (Documentation/bpf/btf.rst), as far as the programs want to know: where a
 * member of a structure stands, and under which number a function may be called.
 */
import { TweedError } from '../base/errors.js';

/** This kernel does not tell what was asked. */
export class BtfError extends TweedError {
  constructor(what: string) {
    super('KERNEL_TYPES', `${what}; use a kernel with CONFIG_DEBUG_INFO_BTF, Linux 6.2 or newer`);
  }
}

const MAGIC = 0xeb9f;
const HEADER_BYTES = 24;
const Kind = { STRUCT: 4, UNION: 5, FUNC: 12 } as const;
/** Bytes behind the twelve that every type has, by its kind: for the type itself, and for each of its members. */
const TAIL = new Map<number, readonly [fixed: number, each: number]>([
  [1, [4, 0]],
  [3, [12, 0]],
  [4, [0, 12]],
  [5, [0, 12]],
  [6, [0, 8]],
  [13, [0, 8]],
  [14, [4, 0]],
  [15, [0, 12]],
  [17, [4, 0]],
  [19, [0, 12]],
]);

interface Type {
  readonly kind: number;
  readonly name: number;
  readonly members: number;
  readonly at: number;
  readonly bitfields: boolean;
}

export class Btf {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #strings: number;
  /** Where each type begins, by its number. Number 0 is void. */
  readonly #types: number[] = [0];

  /** @param bytes such as those of /sys/kernel/btf/vmlinux, in one piece @throws BtfError */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if (bytes.length < HEADER_BYTES || this.#view.getUint16(0, true) !== MAGIC)
      throw new BtfError('the types of this kernel cannot be read');
    const u32 = (at: number) => this.#view.getUint32(at, true);
    const header = u32(4);
    this.#strings = header + u32(16);
    const end = header + u32(8) + u32(12);
    for (let at = header + u32(8); at + 12 <= end; ) {
      this.#types.push(at);
      const info = u32(at + 4);
      const [fixed, each] = TAIL.get((info >>> 24) & 31) ?? [0, 0];
      at += 12 + fixed + each * (info & 0xffff);
    }
  }

  /** Is there a structure of this name? */
  has(structure: string): boolean {
    return this.#search(Kind.STRUCT, structure) !== 0;
  }

  /** Number of a function. @throws BtfError when there is none of this name */
  functionNumber(name: string): number {
    return this.#find(Kind.FUNC, name);
  }

  /** Bytes from the beginning of a structure to a member, which may lie in a nameless one inside. @throws BtfError */
  offsetOf(structure: string, member: string): number {
    const bits = this.#bitOf(this.#find(Kind.STRUCT, structure), member);
    if (bits === null || bits % 8 !== 0) throw new BtfError(`struct ${structure} of this kernel has no ${member}`);
    return bits / 8;
  }

  #find(kind: number, name: string): number {
    const number = this.#search(kind, name);
    if (number === 0) throw new BtfError(`this kernel has no ${name}`);
    return number;
  }

  #search(kind: number, name: string): number {
    const wanted = Buffer.from(`${name}\0`);
    for (let number = 1; number < this.#types.length; number++) {
      const type = this.#type(number);
      if (type.kind === kind && this.#isNamed(type.name, wanted)) return number;
    }
    return 0;
  }

  #bitOf(number: number, member: string): number | null {
    const type = this.#type(number);
    if (type.kind !== Kind.STRUCT && type.kind !== Kind.UNION) return null;
    const wanted = Buffer.from(`${member}\0`);
    for (let i = 0; i < type.members; i++) {
      const at = type.at + 12 + i * 12;
      const name = this.#view.getUint32(at, true);
      const offset = this.#view.getUint32(at + 8, true) & (type.bitfields ? 0xffffff : 0xffffffff);
      if (this.#isNamed(name, wanted)) return offset;
      if (name !== 0 && this.#bytes[this.#strings + name] !== 0) continue;
      const inside = this.#bitOf(this.#view.getUint32(at + 4, true), member);
      if (inside !== null) return offset + inside;
    }
    return null;
  }

  #type(number: number): Type {
    const at = this.#types[number];
    if (at === undefined || number === 0) return { kind: 0, name: 0, members: 0, at: 0, bitfields: false };
    const info = this.#view.getUint32(at + 4, true);
    return {
      kind: (info >>> 24) & 31,
      name: this.#view.getUint32(at, true),
      members: info & 0xffff,
      at,
      bitfields: info >>> 31 === 1,
    };
  }

  #isNamed(offset: number, wanted: Buffer): boolean {
    const at = this.#strings + offset;
    for (let i = 0; i < wanted.length; i++) if (this.#bytes[at + i] !== wanted[i]) return false;
    return true;
  }
}

/** The kernel's types with those of a module behind them, which go on counting the kernel's types and names. */
export function joinTypes(kernel: Uint8Array, module: Uint8Array): Uint8Array {
  const parts = [kernel, module].map((bytes) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const [header, types, typeBytes, names, nameBytes] = [4, 8, 12, 16, 20].map((at) => view.getUint32(at, true)) as [
      number,
      number,
      number,
      number,
      number,
    ];
    return {
      types: bytes.subarray(header + types, header + types + typeBytes),
      names: bytes.subarray(header + names, header + names + nameBytes),
    };
  });
  const types = Buffer.concat(parts.map((part) => part.types));
  const names = Buffer.concat(parts.map((part) => part.names));
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt16LE(MAGIC, 0);
  [HEADER_BYTES, 0, types.length, types.length, names.length].forEach((word, i) => {
    header.writeUInt32LE(word, 4 + i * 4);
  });
  return Buffer.concat([header, types, names]);
}
