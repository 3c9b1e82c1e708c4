import { describe, expect, it } from 'vitest';
import { Btf, BtfError, joinTypes } from '../../../src/kernel-path/btf.js';
import { conntrackPlaces } from '../../../src/kernel-path/conntrack.js';

const STRUCT = 4;
const UNION = 5;

/** Writes types as the kernel does; numbers of types and offsets of names go on where `before` ended. */
class Writer {
  readonly #types: number[] = [];
  #names = '';
  #count: number;
  readonly #namesBefore: number;

  constructor(before: { readonly types: number; readonly names: number } = { types: 1, names: 0 }) {
    this.#count = before.types;
    this.#namesBefore = before.names;
    if (before.names === 0) this.#names = '\0';
  }

  #name(name: string): number {
    if (name === '') return 0;
    const at = this.#namesBefore + this.#names.length;
    this.#names += `${name}\0`;
    return at;
  }

  add(kind: number, name: string, rest: readonly number[], members = 0, flag = 0, sizeOrType = 0): number {
    this.#types.push(this.#name(name), ((flag << 31) | (kind << 24) | members) >>> 0, sizeOrType, ...rest);
    return this.#count++;
  }

  struct(kind: number, name: string, members: readonly (readonly [string, number, number])[], flag = 0): number {
    const rest = members.flatMap(([member, type, bits]) => [this.#name(member), type, bits]);
    return this.add(kind, name, rest, members.length, flag);
  }

  get end() {
    return { types: this.#count, names: this.#namesBefore + this.#names.length };
  }

  bytes(): Uint8Array {
    const types = Buffer.alloc(this.#types.length * 4);
    for (const [i, word] of this.#types.entries()) types.writeUInt32LE(word >>> 0, i * 4);
    const names = Buffer.from(this.#names);
    const header = Buffer.alloc(24);
    header.writeUInt16LE(0xeb9f, 0);
    const words = [24, 0, types.length, types.length, names.length];
    for (const [i, word] of words.entries()) header.writeUInt32LE(word, 4 + i * 4);
    return Buffer.concat([header, types, names]);
  }
}

function kernelTypes(writer = new Writer()): Writer {
  const long = writer.add(1, 'long', [64]);
  writer.add(2, '', [], 0, 0, long); // a pointer
  writer.add(3, '', [long, long, 7]); // an array
  writer.add(6, 'some', [0, 1, 0, 2], 2); // an enumeration
  const inner = writer.struct(UNION, '', [
    ['_nfct', long, 0],
    ['other', long, 0],
  ]);
  writer.add(13, '', [0, long], 1); // a function's signature
  writer.add(12, 'bpf_cast_to_kern_ctx', [], 0, 0, 6);
  writer.struct(STRUCT, 'sk_buff', [
    ['next', long, 0],
    ['', inner, 832],
    ['odd', long, 897],
  ]);
  return writer;
}

const connection = (writer: Writer) =>
  // bit fields keep their width in the upper byte of the offset
  writer.struct(
    STRUCT,
    'nf_conn',
    [
      ['flags', 1, (3 << 24) | 64],
      ['status', 1, 1024],
    ],
    1,
  );

describe('the kernel’s types', () => {
  it('tell functions and members, in nameless structures too', () => {
    const writer = kernelTypes();
    connection(writer);
    const btf = new Btf(writer.bytes());
    expect(btf.functionNumber('bpf_cast_to_kern_ctx')).toBe(7);
    expect(btf.offsetOf('sk_buff', 'next')).toBe(0);
    expect(btf.offsetOf('sk_buff', '_nfct')).toBe(104);
    expect(btf.offsetOf('nf_conn', 'flags')).toBe(8);
    expect(btf.offsetOf('nf_conn', 'status')).toBe(128);
    expect([btf.has('nf_conn'), btf.has('nf_con'), btf.has('long')]).toEqual([true, false, false]);
  });

  it.each<[string, (btf: Btf) => unknown]>([
    ['a function', (btf) => btf.functionNumber('bpf_rdonly_cast')],
    ['a structure', (btf) => btf.offsetOf('sock', 'next')],
    ['a member', (btf) => btf.offsetOf('sk_buff', '_nfc')],
    ['a byte to begin with', (btf) => btf.offsetOf('sk_buff', 'odd')],
  ])('say so when they have not %s', (_, ask) => {
    const btf = new Btf(kernelTypes().bytes());
    expect(() => ask(btf)).toThrow(BtfError);
  });

  it.each([[new Uint8Array(0)], [new Uint8Array(24)], [new Uint8Array(10).fill(0x9f)]])(
    'are not read out of %j',
    (bytes) => {
      expect(() => new Btf(bytes)).toThrow(/cannot be read; use a kernel with/);
    },
  );

  it('are found with a module’s', () => {
    const writer = kernelTypes();
    const module = new Writer(writer.end);
    connection(module);
    expect(new Btf(joinTypes(writer.bytes(), module.bytes())).offsetOf('nf_conn', 'status')).toBe(128);
    const read = (name: string) => (name === 'vmlinux' ? writer : module).bytes();
    expect(conntrackPlaces(read)).toEqual({ castToKernel: 7, connectionInPacket: 104, statusInConnection: 128 });
  });

  it('are needed', () => {
    expect(() => conntrackPlaces(() => null)).toThrow(/does not describe its types/);
    expect(() => conntrackPlaces((name) => (name === 'vmlinux' ? kernelTypes().bytes() : null))).toThrow(/no nf_conn/);
  });
});
