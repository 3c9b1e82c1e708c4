/** Programs for people to read, in the notation of the kernel's verifier log and of bpftool. */
import {
  ALU_END,
  Alu,
  Class,
  FROM_REGISTER,
  type Instruction,
  JUMP_ALWAYS,
  JUMP_CALL,
  JUMP_EXIT,
  Jump,
  LOAD_64,
  PSEUDO_KERNEL_CALL,
  PSEUDO_MAP_FD,
} from './instruction.js';
import { HELPERS } from './symbols.js';

export interface Names {
  /** By the number of an instruction. */
  readonly labels?: ReadonlyMap<number, string>;
  readonly remarks?: ReadonlyMap<number, readonly string[]>;
  readonly maps?: ReadonlyMap<number, string>;
}

const aluOperators = new Map<number, string>(Object.entries(Alu).map(([name, bits]) => [bits, name]));
const comparisons = new Map<number, string>(Object.entries(Jump).map(([name, bits]) => [bits, name]));
const helperNames = new Map<number, string>(Object.entries(HELPERS).map(([name, { number }]) => [number, name]));
const sizeNames: Readonly<Record<number, string>> = { 16: 'u8', 8: 'u16', 0: 'u32', 24: 'u64' };

export function listing(instructions: readonly Instruction[], names: Names = {}): string {
  const lines: string[] = [];
  for (let at = 0; at < instructions.length; at++) {
    const instruction = instructions[at] as Instruction;
    for (const remark of names.remarks?.get(at) ?? []) lines.push(`; ${remark}`);
    const label = names.labels?.get(at);
    if (label !== undefined) lines.push(`${label}:`);
    const opcode = instruction.opcode.toString(16).padStart(2, '0');
    const text = describe(instruction, instructions[at + 1], names.maps?.get(at));
    const target = isBranch(instruction) ? names.labels?.get(at + 1 + instruction.offset) : undefined;
    lines.push(`${at}: (${opcode}) ${text}${target === undefined ? '' : ` <${target}>`}`);
    if (instruction.opcode === LOAD_64) at++;
  }
  return `${lines.join('\n')}\n`;
}

function isBranch({ opcode }: Instruction): boolean {
  const kind = opcode & 0xf0;
  return isJump(opcode) && kind !== JUMP_CALL && kind !== JUMP_EXIT;
}

function isJump(opcode: number): boolean {
  return (opcode & 7) === Class.JMP || (opcode & 7) === Class.JMP32;
}

function describe(instruction: Instruction, next: Instruction | undefined, map: string | undefined): string {
  const { opcode, destination, source, offset, immediate } = instruction;
  const memory = (base: number) => `*(${sizeNames[opcode & 0x18]} *)(r${base} ${signed(offset)})`;
  switch (opcode & 7) {
    case Class.LD: {
      if (opcode !== LOAD_64) return unknown(opcode);
      if (source === PSEUDO_MAP_FD) return `r${destination} = map[${map ?? `fd:${immediate}`}]`;
      const value = (BigInt((next?.immediate ?? 0) >>> 0) << 32n) | BigInt(immediate >>> 0);
      return `r${destination} = 0x${value.toString(16)}`;
    }
    case Class.LDX:
      return `r${destination} = ${memory(source)}`;
    case Class.ST:
      return `${memory(destination)} = ${immediate}`;
    case Class.STX:
      return `${memory(destination)} = r${source}`;
    case Class.ALU:
    case Class.ALU64:
      return arithmetic(instruction);
    default:
      return jump(instruction);
  }
}

function arithmetic({ opcode, destination, source, immediate }: Instruction): string {
  const wide = (opcode & 7) === Class.ALU64;
  if ((opcode & 0xf0) === ALU_END) {
    return `r${destination} = ${(opcode & FROM_REGISTER) !== 0 ? 'be' : 'le'}${immediate} r${destination}`;
  }
  const operator = aluOperators.get(opcode & 0xf0);
  if (operator === undefined) return unknown(opcode);
  const prefix = wide ? 'r' : 'w';
  const operand = (opcode & FROM_REGISTER) !== 0 ? `${prefix}${source}` : String(immediate);
  return `${prefix}${destination} ${operator} ${operand}`;
}

function jump({ opcode, destination, source, offset, immediate }: Instruction): string {
  const kind = opcode & 0xf0;
  if (kind === JUMP_ALWAYS) return `goto pc${signed(offset)}`;
  if (kind === JUMP_EXIT) return 'exit';
  if (kind === JUMP_CALL && source === PSEUDO_KERNEL_CALL) return `call kernel-function#${immediate}`;
  if (kind === JUMP_CALL) return `call bpf_${helperNames.get(immediate) ?? 'unknown'}#${immediate}`;
  const comparison = comparisons.get(kind);
  if (comparison === undefined) return unknown(opcode);
  const prefix = (opcode & 7) === Class.JMP ? 'r' : 'w';
  const operand = (opcode & FROM_REGISTER) !== 0 ? `${prefix}${source}` : `0x${(immediate >>> 0).toString(16)}`;
  return `if ${prefix}${destination} ${comparison} ${operand} goto pc${signed(offset)}`;
}

function signed(offset: number): string {
  return offset < 0 ? String(offset) : `+${offset}`;
}

function unknown(opcode: number): string {
  return `BUG_${opcode.toString(16).padStart(2, '0')}`;
}
