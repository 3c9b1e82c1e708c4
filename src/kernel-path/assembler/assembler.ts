/**
 * Programs for the kernel's virtual machine, written instruction by instruction in TypeScript.
 *
 * Theory of operation. A method appends one instruction. Jumps name labels, which may come later; maps are named too, for
 * their descriptors are known only when a program is loaded; fields of the context and helpers have the kernel's names.
 * `assemble` resolves the labels and refuses what the kernel's verifier would refuse in any case, with the place in our
 * terms: what it lets through may still be refused, for it knows no types and no ranges.
 *
 * Registers: r0 is what a call returns and what the program returns; r1 to r5 are arguments and lost by a call; r6 to r9
 * survive; r10 points to the end of 512 bytes of stack. r1 holds the context at the start.
 */
import { checkFlow } from './flow.js';
import {
  ALU_END,
  Alu,
  type AluOperator,
  AssemblyError,
  Class,
  type Comparison,
  encode,
  FROM_REGISTER,
  INSTRUCTION_BYTES,
  type Instruction,
  JUMP_ALWAYS,
  JUMP_CALL,
  JUMP_EXIT,
  Jump,
  LOAD_64,
  MODE_MEMORY,
  PSEUDO_KERNEL_CALL,
  PSEUDO_MAP_FD,
  SIZE_BITS,
  type Size,
} from './instruction.js';
import { listing } from './listing.js';
import { type Context, HELPERS, type Helper } from './symbols.js';

/** An object, so that a register is never taken for a number. */
export interface Register {
  readonly number: number;
}
export const [r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10] = Array.from({ length: 11 }, (_, number) =>
  Object.freeze({ number }),
) as unknown as readonly [
  Register,
  Register,
  Register,
  Register,
  Register,
  Register,
  Register,
  Register,
  Register,
  Register,
  Register,
];

export type Operand = Register | number;

/** Bytes of stack that a program has. */
export const STACK_BYTES = 512;
/** As many instructions as any kernel takes from anybody (BPF_MAXINSNS). */
const MAX_INSTRUCTIONS = 4096;

/** An assembled program. Maps are still names. */
export interface Program {
  readonly name: string;
  readonly instructions: readonly Instruction[];
  /** For each 64-bit load of a map: the instruction's number and the map's name. */
  readonly maps: readonly { readonly at: number; readonly map: string }[];
  /** The bytes for the kernel. @param descriptors of the maps that the program names */
  bytes(descriptors: Readonly<Record<string, number>>): Uint8Array;
  /** One line an instruction, as the kernel's own tools show it, with our labels and remarks. */
  listing(): string;
}

/** @typeParam C the context's fields, such as those of SK_BUFF */
export class Assembler<C extends Context> {
  readonly #name: string;
  readonly #context: C;
  readonly #instructions: Instruction[] = [];
  readonly #labels = new Map<string, number>();
  readonly #jumps: { readonly at: number; readonly label: string }[] = [];
  readonly #maps: { readonly at: number; readonly map: string }[] = [];
  readonly #remarks = new Map<number, string[]>();
  #stack = 0;

  /** @param name what the kernel shows, 15 characters at most */
  constructor(name: string, context: C) {
    this.#name = name;
    this.#context = context;
    if (!/^[A-Za-z0-9_.]{1,15}$/.test(name)) this.#refuse('the name must be 1 to 15 letters, digits, _ or .');
  }

  /** The next instruction can be jumped to by this name. */
  label(name: string): this {
    if (this.#labels.has(name)) this.#refuse(`the label ${name} stands twice`);
    this.#labels.set(name, this.#instructions.length);
    return this;
  }

  /** A remark in the listing, before the next instruction. */
  remark(text: string): this {
    const at = this.#instructions.length;
    this.#remarks.set(at, [...(this.#remarks.get(at) ?? []), text]);
    return this;
  }

  /** Takes `bytes` of the stack. @returns their offset from r10, a multiple of eight */
  slot(bytes: number): number {
    this.#stack += (bytes + 7) & -8;
    if (this.#stack > STACK_BYTES) this.#refuse(`${this.#stack} bytes of stack, ${STACK_BYTES} are there`);
    return -this.#stack;
  }

  /** 64-bit arithmetic; `=` moves. A number is extended with its sign. */
  alu(destination: Register, operator: AluOperator, operand: Operand): this {
    return this.#alu(Class.ALU64, destination, operator, operand, 64);
  }

  /** 32-bit arithmetic, which clears the upper half of the register. */
  alu32(destination: Register, operator: AluOperator, operand: Operand): this {
    return this.#alu(Class.ALU, destination, operator, operand, 32);
  }

  /** Brings the register's low 16, 32 or 64 bits from or to network order, and clears the others. */
  networkOrder(register: Register, bits: 16 | 32 | 64): this {
    this.#writable(register);
    return this.#add(Class.ALU | ALU_END | FROM_REGISTER, register.number, 0, 0, bits);
  }

  /** Loads `size` bytes from memory, zero-extended. */
  load(size: Size, destination: Register, base: Register, offset: number): this {
    this.#writable(destination);
    this.#place(size, base, offset);
    return this.#add(Class.LDX | SIZE_BITS[size] | MODE_MEMORY, destination.number, base.number, offset, 0);
  }

  /** Loads a field of the context. @param context the register that points to it */
  field(destination: Register, context: Register, name: keyof C & string): this {
    const field = this.#context[name];
    if (field === undefined) return this.#refuse(`the context has no field ${name}`);
    return this.load(field.size, destination, context, field.offset);
  }

  /** Stores a field of the context. */
  setField(context: Register, name: keyof C & string, value: Operand): this {
    const field = this.#context[name];
    if (field === undefined) return this.#refuse(`the context has no field ${name}`);
    if (!field.writable) return this.#refuse(`the field ${name} cannot be stored to`);
    return this.store(field.size, context, field.offset, value);
  }

  /** Stores the low `size` bytes of a register, or a number. */
  store(size: Size, base: Register, offset: number, value: Operand): this {
    this.#place(size, base, offset);
    const bits = SIZE_BITS[size] | MODE_MEMORY;
    if (typeof value !== 'number') return this.#add(Class.STX | bits, base.number, value.number, offset, 0);
    const wide = size === 8 ? 32 : size * 8;
    const highest = size === 8 ? 2 ** 31 : 2 ** wide;
    if (value < -(2 ** (wide - 1)) || value >= highest) this.#refuse(`${value} does not fit ${size} bytes`);
    return this.#add(Class.ST | bits, base.number, 0, offset, value);
  }

  /** Loads any 64-bit number. */
  constant64(destination: Register, value: bigint): this {
    this.#writable(destination);
    this.#add(LOAD_64, destination.number, 0, 0, Number(BigInt.asIntN(32, value)));
    return this.#add(0, 0, 0, 0, Number(BigInt.asIntN(32, value >> 32n)));
  }

  /** Loads the address of a map, which is named here and given to `Program.bytes`. */
  map(destination: Register, map: string): this {
    this.#writable(destination);
    this.#maps.push({ at: this.#instructions.length, map });
    this.#add(LOAD_64, destination.number, PSEUDO_MAP_FD, 0, 0);
    return this.#add(0, 0, 0, 0, 0);
  }

  jump(label: string): this {
    this.#jumps.push({ at: this.#instructions.length, label });
    return this.#add(Class.JMP | JUMP_ALWAYS, 0, 0, 0, 0);
  }

  /** Jumps when the comparison of all 64 bits holds. A number is extended with its sign. */
  jumpIf(left: Register, comparison: Comparison, right: Operand, label: string): this {
    return this.#jumpIf(Class.JMP, left, comparison, right, label);
  }

  /** Jumps when the comparison of the low 32 bits holds (Linux 5.1). */
  jumpIf32(left: Register, comparison: Comparison, right: Operand, label: string): this {
    return this.#jumpIf(Class.JMP32, left, comparison, right, label);
  }

  call(helper: Helper): this {
    return this.#add(Class.JMP | JUMP_CALL, 0, 0, 0, HELPERS[helper].number);
  }

  /** Calls a function of the kernel that is no helper, with one argument. @param number see Btf.functionNumber */
  callKernel(number: number): this {
    return this.#add(Class.JMP | JUMP_CALL, 0, PSEUDO_KERNEL_CALL, 0, number);
  }

  exit(): this {
    return this.#add(Class.JMP | JUMP_EXIT, 0, 0, 0, 0);
  }

  /** @throws AssemblyError */
  assemble(): Program {
    const instructions = [...this.#instructions];
    for (const { at, label } of this.#jumps) {
      const target = this.#labels.get(label);
      if (target === undefined) throw new AssemblyError(this.#name, at, `there is no label ${label}`);
      const offset = target - at - 1;
      if (offset < -32_768 || offset > 32_767) {
        throw new AssemblyError(this.#name, at, `${label} is ${offset} instructions away, which 16 bits do not hold`);
      }
      instructions[at] = { ...(instructions[at] as Instruction), offset };
    }
    if (instructions.length > MAX_INSTRUCTIONS) this.#refuse(`more than ${MAX_INSTRUCTIONS} instructions`);
    checkFlow(this.#name, instructions);
    const maps = [...this.#maps];
    const labels = new Map([...this.#labels].map(([label, at]) => [at, label]));
    const remarks = this.#remarks;
    const name = this.#name;
    return {
      name,
      instructions,
      maps,
      bytes(descriptors) {
        const bytes = encode(instructions);
        const view = new DataView(bytes.buffer);
        for (const { at, map } of maps) {
          const descriptor = descriptors[map];
          if (descriptor === undefined) throw new AssemblyError(name, at, `no map ${map} was given`);
          view.setInt32(at * INSTRUCTION_BYTES + 4, descriptor, true);
        }
        return bytes;
      },
      listing: () => listing(instructions, { labels, remarks, maps: new Map(maps.map(({ at, map }) => [at, map])) }),
    };
  }

  #alu(kind: number, destination: Register, operator: AluOperator, operand: Operand, bits: number): this {
    this.#writable(destination);
    const opcode = kind | Alu[operator];
    if (typeof operand !== 'number') return this.#add(opcode | FROM_REGISTER, destination.number, operand.number, 0, 0);
    this.#fits(operand, bits === 32);
    if ((operator === '/=' || operator === '%=') && operand === 0) this.#refuse('division by zero');
    if ((operator === '<<=' || operator === '>>=') && (operand < 0 || operand >= bits)) {
      this.#refuse(`a shift by ${operand} of ${bits} bits`);
    }
    return this.#add(opcode, destination.number, 0, 0, operand);
  }

  #jumpIf(kind: number, left: Register, comparison: Comparison, right: Operand, label: string): this {
    this.#jumps.push({ at: this.#instructions.length, label });
    const opcode = kind | Jump[comparison];
    if (typeof right !== 'number') return this.#add(opcode | FROM_REGISTER, left.number, right.number, 0, 0);
    this.#fits(right, kind === Class.JMP32);
    return this.#add(opcode, left.number, 0, 0, right);
  }

  #add(opcode: number, destination: number, source: number, offset: number, immediate: number): this {
    this.#instructions.push({ opcode, destination, source, offset, immediate: immediate | 0 });
    return this;
  }

  #writable(register: Register): void {
    if (register.number === 10) this.#refuse('r10 cannot be written');
  }

  /** Where only 32 bits count, a number without sign is as good as one with it; elsewhere its upper half would be ones. */
  #fits(immediate: number, unsignedToo: boolean): void {
    const highest = unsignedToo ? 2 ** 32 : 2 ** 31;
    if (!Number.isInteger(immediate) || immediate < -(2 ** 31) || immediate >= highest) {
      this.#refuse(`the number ${immediate} does not fit`);
    }
  }

  #place(size: Size, base: Register, offset: number): void {
    if (!Number.isInteger(offset) || offset < -32_768 || offset > 32_767) {
      this.#refuse(`the offset ${offset} does not fit 16 bits`);
    }
    if (base.number !== 10) return;
    if (offset < -STACK_BYTES || offset + size > 0) this.#refuse(`${size} bytes at r10 ${offset} are not on the stack`);
    if (offset % size !== 0) this.#refuse(`${size} bytes at r10 ${offset} are not aligned`);
  }

  #refuse(what: string): never {
    throw new AssemblyError(this.#name, this.#instructions.length, what);
  }
}
