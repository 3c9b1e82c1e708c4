/** The ways through a program: none leaves it but by `exit`, every instruction lies on one, registers are set before use. */
import {
  ALU_END,
  Alu,
  AssemblyError,
  Class,
  FROM_REGISTER,
  type Instruction,
  JUMP_ALWAYS,
  JUMP_CALL,
  JUMP_EXIT,
  LOAD_64,
  PSEUDO_KERNEL_CALL,
} from './instruction.js';
import { HELPERS } from './symbols.js';

/** Sets of registers are bit masks. */
const AT_START = (1 << 1) | (1 << 10);
/** Lost by a call. */
const ARGUMENTS = 0b111110;

/**
 * Walks all ways at once: for each instruction, which registers are set whichever way led there.
 *
 * @throws AssemblyError
 */
export function checkFlow(program: string, instructions: readonly Instruction[]): void {
  const set: (number | undefined)[] = new Array(instructions.length).fill(undefined);
  const upperHalf = (at: number) => at > 0 && instructions[at - 1]?.opcode === LOAD_64;
  const open: number[] = [];
  const reach = (at: number, from: number, registers: number) => {
    if (at >= instructions.length || at < 0) {
      throw new AssemblyError(program, from, 'the way leads past the end; an exit is missing');
    }
    if (upperHalf(at) && at !== from + 2) {
      throw new AssemblyError(program, from, 'a jump into the middle of a 64-bit load');
    }
    const before = set[at];
    const now = before === undefined ? registers : before & registers;
    if (now === before) return;
    set[at] = now;
    open.push(at);
  };
  reach(0, -1, AT_START);
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    const instruction = instructions[at] as Instruction;
    const before = set[at] as number;
    const missing = reads(instruction) & ~before;
    if (missing !== 0) {
      throw new AssemblyError(program, at, `r${31 - Math.clz32(missing & -missing)} is read but not set on every way`);
    }
    const after = (before & ~loses(instruction)) | writes(instruction);
    const { opcode, offset } = instruction;
    const jumps = (opcode & 7) === Class.JMP || (opcode & 7) === Class.JMP32;
    const kind = opcode & 0xf0;
    if (jumps && kind === JUMP_EXIT) continue;
    if (jumps && kind !== JUMP_CALL) reach(at + 1 + offset, at, after);
    if (jumps && kind === JUMP_ALWAYS) continue;
    reach(opcode === LOAD_64 ? at + 2 : at + 1, at, after);
  }
  const unreachable = set.findIndex((registers, at) => registers === undefined && !upperHalf(at));
  if (unreachable >= 0) throw new AssemblyError(program, unreachable, 'no way leads here');
}

function reads({ opcode, destination, source, immediate }: Instruction): number {
  const first = 1 << destination;
  const second = 1 << source;
  switch (opcode & 7) {
    case Class.LD:
      return 0;
    case Class.LDX:
      return second;
    case Class.ST:
      return first;
    case Class.STX:
      return first | second;
    case Class.ALU:
    case Class.ALU64: {
      if ((opcode & 0xf0) === ALU_END) return first;
      const operand = (opcode & FROM_REGISTER) !== 0 ? second : 0;
      return (opcode & 0xf0) === Alu['='] ? operand : first | operand;
    }
    default:
      switch (opcode & 0xf0) {
        case JUMP_ALWAYS:
          return 0;
        case JUMP_EXIT:
          return 1;
        case JUMP_CALL:
          return source === PSEUDO_KERNEL_CALL ? 1 << 1 : argumentsOf(immediate);
        default:
          return first | ((opcode & FROM_REGISTER) !== 0 ? second : 0);
      }
  }
}

const argumentCounts = new Map<number, number>(Object.values(HELPERS).map(({ number, takes }) => [number, takes]));

/** Registers that hold the arguments of a helper. */
function argumentsOf(helper: number): number {
  return ((1 << (argumentCounts.get(helper) ?? 0)) - 1) << 1;
}

function writes({ opcode, destination }: Instruction): number {
  switch (opcode & 7) {
    case Class.LD:
    case Class.LDX:
    case Class.ALU:
    case Class.ALU64:
      return 1 << destination;
    case Class.JMP:
      return (opcode & 0xf0) === JUMP_CALL ? 1 : 0;
    default:
      return 0;
  }
}

function loses({ opcode }: Instruction): number {
  return (opcode & 7) === Class.JMP && (opcode & 0xf0) === JUMP_CALL ? ARGUMENTS : 0;
}
