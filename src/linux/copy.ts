import type { SharedMemory } from './memory.js';

/** Copies bytes inside a memory; the two places may overlap. @param to offset @param from offset */
export type Copy = (to: number, from: number, length: number) => void;

/** The number in LEB128, as WebAssembly's binary format writes it. */
function leb128(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  do {
    bytes.push((rest & 127) | (rest > 127 ? 128 : 0));
    rest >>>= 7;
  } while (rest > 0);
  return bytes;
}

function section(id: number, content: readonly number[]): number[] {
  return [id, ...leb128(content.length), ...content];
}

/**
 * memory.copy of WebAssembly on this memory: some 16 ns for a packet, where `copyWithin` takes 80, since that copies shared
 * memory word by word.
 *
 * The module is small enough to be written out: one imported memory, one function that is one instruction.
 */
export function createCopy(memory: SharedMemory): Copy {
  const pages = leb128(memory.u8.length / 65_536);
  const [I32, FUNCTION, SHARED_WITH_MAXIMUM] = [0x7f, 0x60, 3];
  const body = [0, 0x20, 0, 0x20, 1, 0x20, 2, 0xfc, 0x0a, 0, 0, 0x0b]; // local.get 0, 1, 2; memory.copy; end
  const m = 'm'.charCodeAt(0);
  const c = 'c'.charCodeAt(0);
  const bytes = Uint8Array.of(
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, FUNCTION, 3, I32, I32, I32, 0]),
    ...section(2, [1, 1, m, 1, m, 2, SHARED_WITH_MAXIMUM, ...pages, ...pages]),
    ...section(3, [1, 0]),
    ...section(7, [1, 1, c, 0, 0]),
    ...section(10, [1, body.length, ...body]),
  );
  const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), { m: { m: memory.memory } });
  return instance.exports.c as Copy;
}
