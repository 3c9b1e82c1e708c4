/**
 * Instructions of the kernel's virtual machine as eight bytes each (Documentation/bpf/standardization/instruction-set.rst,
 * RFC 9669): opcode, source and destination register, 16-bit offset, 32-bit immediate; numbers little-endian.
 *
 * Only what the programs here use has a name. Encoding and decoding do not judge: they are each other's inverse for any
 * eight bytes.
 */
import { TweedError } from '../../base/errors.js';

/** A program that cannot be right, found before the kernel sees it. Always a mistake in a program of ours. */
export class AssemblyError extends TweedError {
  constructor(program: string, at: number, what: string) {
    super('BPF_ASSEMBLY', `${program}, instruction ${at}: ${what}; this is a bug of tweed, report it`);
  }
}

export interface Instruction {
  readonly opcode: number;
  readonly destination: number;
  readonly source: number;
  /** In bytes for memory, in instructions for jumps; signed. */
  readonly offset: number;
  /** Signed. */
  readonly immediate: number;
}

export const INSTRUCTION_BYTES = 8;

/** The lowest three bits of an opcode. */
export const Class = { LD: 0, LDX: 1, ST: 2, STX: 3, ALU: 4, JMP: 5, JMP32: 6, ALU64: 7 } as const;

/** Bit 3 of arithmetic and jumps: the second operand is a register. Of a byte swap: to big-endian. */
export const FROM_REGISTER = 0x08;

/** Bits 5 to 7 of loads and stores. */
export const MODE_IMMEDIATE = 0x00;
export const MODE_MEMORY = 0x60;

/** Bits 3 and 4 of loads and stores, by the number of bytes. */
export const SIZE_BITS = { 1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18 } as const;
export type Size = keyof typeof SIZE_BITS;

/** Bits 4 to 7 of arithmetic. */
export const Alu = {
  '+=': 0x00,
  '-=': 0x10,
  '*=': 0x20,
  '/=': 0x30,
  '|=': 0x40,
  '&=': 0x50,
  '<<=': 0x60,
  '>>=': 0x70,
  '%=': 0x90,
  '^=': 0xa0,
  '=': 0xb0,
} as const;
export type AluOperator = keyof typeof Alu;
export const ALU_END = 0xd0;

/** Bits 4 to 7 of jumps; comparisons are unsigned except those that begin with an s. `&` is: has any of these bits. */
export const Jump = {
  '==': 0x10,
  '>': 0x20,
  '>=': 0x30,
  '&': 0x40,
  '!=': 0x50,
  's>': 0x60,
  's>=': 0x70,
  '<': 0xa0,
  '<=': 0xb0,
  's<': 0xc0,
  's<=': 0xd0,
} as const;
export type Comparison = keyof typeof Jump;
export const JUMP_ALWAYS = 0x00;
export const JUMP_CALL = 0x80;
export const JUMP_EXIT = 0x90;

/** Load of a 64-bit constant, the only instruction of 16 bytes: the second half holds the upper word. */
export const LOAD_64 = Class.LD | SIZE_BITS[8] | MODE_IMMEDIATE;
/** Source register of LOAD_64: the immediate is a map's descriptor. */
export const PSEUDO_MAP_FD = 1;
/** Source register of a call: the immediate is the number of a function of the kernel. Those called here take one argument. */
export const PSEUDO_KERNEL_CALL = 2;

export function encode(instructions: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(instructions.length * INSTRUCTION_BYTES);
  const view = new DataView(bytes.buffer);
  instructions.forEach(({ opcode, destination, source, offset, immediate }, i) => {
    const at = i * INSTRUCTION_BYTES;
    bytes[at] = opcode;
    bytes[at + 1] = (source << 4) | destination;
    view.setInt16(at + 2, offset, true);
    view.setInt32(at + 4, immediate, true);
  });
  return bytes;
}

export function decode(bytes: Uint8Array): Instruction[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.length / INSTRUCTION_BYTES }, (_, i) => {
    const at = i * INSTRUCTION_BYTES;
    const registers = view.getUint8(at + 1);
    return {
      opcode: view.getUint8(at),
      destination: registers & 15,
      source: registers >>> 4,
      offset: view.getInt16(at + 2, true),
      immediate: view.getInt32(at + 4, true),
    };
  });
}
