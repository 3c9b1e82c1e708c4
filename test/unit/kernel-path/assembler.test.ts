import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  Assembler,
  r0,
  r1,
  r2,
  r3,
  r4,
  r5,
  r6,
  r9,
  r10,
  STACK_BYTES,
} from '../../../src/kernel-path/assembler/assembler.js';
import { AssemblyError, decode, encode, type Instruction } from '../../../src/kernel-path/assembler/instruction.js';
import { listing } from '../../../src/kernel-path/assembler/listing.js';
import { SK_BUFF } from '../../../src/kernel-path/assembler/symbols.js';
import { decapProgram } from '../../../src/kernel-path/programs/decap.js';
import { encapProgram } from '../../../src/kernel-path/programs/encap.js';
import { mergedProgram } from '../../../src/kernel-path/programs/merged.js';

type Asm = Assembler<typeof SK_BUFF>;
const asm = (): Asm => new Assembler('test', SK_BUFF);
/** The bytes of one instruction among others that make a program of it. */
const hexOf = (write: (asm: Asm) => unknown, at = 0, maps = {}) => {
  const program = asm();
  for (const register of [r0, r2, r3, r4, r5]) program.alu(register, '=', 1);
  write(program);
  program.label('end').exit();
  return Buffer.from(
    program
      .assemble()
      .bytes(maps)
      .subarray((5 + at) * 8, (6 + at) * 8),
  ).toString('hex');
};

describe('encodes as RFC 9669 has it', () => {
  it.each<[string, (asm: Asm) => unknown, string]>([
    ['r6 = r1', (a) => a.alu(r6, '=', r1), 'bf16000000000000'],
    ['r0 = -1', (a) => a.alu(r0, '=', -1), 'b7000000ffffffff'],
    ['r2 += 20', (a) => a.alu(r2, '+=', 20), '0702000014000000'],
    ['r2 -= r3', (a) => a.alu(r2, '-=', r3), '1f32000000000000'],
    ['r2 *= 3', (a) => a.alu(r2, '*=', 3), '2702000003000000'],
    ['r2 /= r3', (a) => a.alu(r2, '/=', r3), '3f32000000000000'],
    ['r2 |= 1', (a) => a.alu(r2, '|=', 1), '4702000001000000'],
    ['r2 &= 0xffff', (a) => a.alu(r2, '&=', 0xffff), '57020000ffff0000'],
    ['r2 <<= 2', (a) => a.alu(r2, '<<=', 2), '6702000002000000'],
    ['r2 >>= 16', (a) => a.alu(r2, '>>=', 16), '7702000010000000'],
    ['r2 %= 7', (a) => a.alu(r2, '%=', 7), '9702000007000000'],
    ['r2 ^= r3', (a) => a.alu(r2, '^=', r3), 'af32000000000000'],
    ['w2 &= 0xffff0000', (a) => a.alu32(r2, '&=', 0xffff0000), '540200000000ffff'],
    ['w2 = w3', (a) => a.alu32(r2, '=', r3), 'bc32000000000000'],
    ['r2 = be16 r2', (a) => a.networkOrder(r2, 16), 'dc02000010000000'],
    ['r2 = be64 r2', (a) => a.networkOrder(r2, 64), 'dc02000040000000'],
    ['r2 = *(u8 *)(r1 +9)', (a) => a.load(1, r2, r1, 9), '7112090000000000'],
    ['r2 = *(u16 *)(r1 +2)', (a) => a.load(2, r2, r1, 2), '6912020000000000'],
    ['r2 = *(u32 *)(r1 -4)', (a) => a.load(4, r2, r1, -4), '6112fcff00000000'],
    ['r2 = *(u64 *)(r10 -8)', (a) => a.load(8, r2, r10, -8), '79a2f8ff00000000'],
    ['*(u16 *)(r10 -2) = r3', (a) => a.store(2, r10, -2, r3), '6b3afeff00000000'],
    ['*(u64 *)(r10 -8) = r3', (a) => a.store(8, r10, -8, r3), '7b3af8ff00000000'],
    ['*(u8 *)(r1 +8) = 255', (a) => a.store(1, r1, 8, 255), '72010800ff000000'],
    ['*(u32 *)(r10 -8) = 0xffffffff', (a) => a.store(4, r10, -8, 0xffffffff), '620af8ffffffffff'],
    ['the field gso_size', (a) => a.field(r2, r1, 'gso_size'), '6112b00000000000'],
    ['the field mark, stored', (a) => a.setField(r1, 'mark', r2), '6321080000000000'],
    ['if r2 == 5 goto', (a) => a.jumpIf(r2, '==', 5, 'end'), '1502000005000000'],
    ['if r2 > r3 goto', (a) => a.jumpIf(r2, '>', r3, 'end'), '2d32000000000000'],
    ['if r2 s< 0 goto', (a) => a.jumpIf(r2, 's<', 0, 'end'), 'c502000000000000'],
    ['if r2 & 4 goto', (a) => a.jumpIf(r2, '&', 4, 'end'), '4502000004000000'],
    ['if w2 != 0xc0000201 goto', (a) => a.jumpIf32(r2, '!=', 0xc0000201, 'end'), '56020000010200c0'],
    ['goto', (a) => a.jump('end'), '0500000000000000'],
    ['call bpf_redirect_neigh', (a) => a.alu(r1, '=', 1).call('redirect_neigh'), 'b701000001000000'],
    ['r2 = a map', (a) => a.map(r2, 'some'), '1812000009000000'],
    ['r2 = a 64-bit number', (a) => a.constant64(r2, 0x1122334455667788n), '1802000088776655'],
  ])('%s', (_, write, hex) => {
    expect(hexOf(write, 0, { some: 9 })).toBe(hex);
  });

  it('calls, exits and the second half of 64-bit loads', () => {
    expect(hexOf((a) => a.call('map_lookup_elem'))).toBe('8500000001000000');
    expect(hexOf((a) => a.constant64(r2, 0x1122334455667788n), 1)).toBe('0000000044332211');
    expect(hexOf(() => {})).toBe('9500000000000000');
  });

  it('jumps forwards and backwards from the instruction behind', () => {
    const program = asm()
      .alu(r0, '=', 0)
      .label('again')
      .alu(r0, '+=', 1)
      .jumpIf(r0, '<', 5, 'again')
      .jumpIf(r0, '==', 9, 'out')
      .alu(r0, '=', 2)
      .label('out')
      .exit()
      .assemble();
    expect(program.instructions.map(({ offset }) => offset)).toEqual([0, 0, -2, 1, 0, 0]);
  });
});

const instruction: fc.Arbitrary<Instruction> = fc.record({
  opcode: fc.nat(255),
  destination: fc.nat(15),
  source: fc.nat(15),
  offset: fc.integer({ min: -32_768, max: 32_767 }),
  immediate: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
});

describe('encode and decode', () => {
  it('are each other’s inverse', () => {
    fc.assert(
      fc.property(fc.array(instruction), (instructions) => {
        expect(decode(encode(instructions))).toEqual(instructions);
      }),
    );
  });

  it('keep any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 8, maxLength: 80 }), (random) => {
        const bytes = random.slice(0, random.length & -8);
        expect(encode(decode(bytes))).toEqual(bytes);
      }),
    );
  });

  it('are described without a throw, whatever they hold', () => {
    fc.assert(fc.property(fc.array(instruction), (instructions) => typeof listing(instructions) === 'string'));
  });
});

describe('refuses', () => {
  it.each<[string, RegExp, (asm: Asm) => unknown]>([
    ['a label that is nowhere', /no label nowhere/, (a) => a.jump('nowhere')],
    ['a label that stands twice', /stands twice/, (a) => a.label('x').label('x')],
    [
      'a jump farther than 16 bits',
      /16 bits/,
      (a) => {
        a.jumpIf(r1, '==', 0, 'far');
        for (let i = 0; i < 40_000; i++) a.alu(r0, '=', 0);
        return a.label('far').alu(r0, '=', 0).exit();
      },
    ],
    [
      'a jump backwards farther than 16 bits',
      /-40001 instructions away/,
      (a) => {
        a.label('far');
        for (let i = 0; i < 40_000; i++) a.alu(r0, '=', 0);
        return a.jumpIf(r1, '==', 0, 'far').exit();
      },
    ],
    ['a write to r10', /r10/, (a) => a.alu(r10, '+=', 8)],
    ['a load to r10', /r10/, (a) => a.load(8, r10, r1, 0)],
    ['stack beyond its end', /not on the stack/, (a) => a.store(8, r10, -520, 0)],
    ['stack above its start', /not on the stack/, (a) => a.store(8, r10, -4, 0)],
    ['unaligned stack', /not aligned/, (a) => a.store(4, r10, -6, 0)],
    [
      'more slots than the stack holds',
      /bytes of stack/,
      (a) => {
        a.slot(STACK_BYTES - 8);
        a.slot(9);
      },
    ],
    ['an offset of 17 bits', /16 bits/, (a) => a.load(1, r2, r1, 32_768)],
    ['an immediate of 33 bits', /does not fit/, (a) => a.alu(r2, '=', 2 ** 31)],
    ['an unsigned number that 64 bits would extend', /does not fit/, (a) => a.jumpIf(r1, '==', 0xffffffff, 'end')],
    ['a number too large for its bytes', /does not fit 2 bytes/, (a) => a.store(2, r10, -2, 65_536)],
    ['a fraction', /does not fit/, (a) => a.alu(r2, '=', 0.5)],
    ['division by zero', /division/, (a) => a.alu(r1, '/=', 0)],
    ['a shift by all bits', /shift/, (a) => a.alu(r1, '>>=', 64)],
    ['a shift by all 32 bits', /shift/, (a) => a.alu32(r1, '>>=', 32)],
    ['a field that is not there', /no field nothing/, (a) => a.field(r2, r1, 'nothing' as 'len')],
    ['a store to a field that is read only', /cannot be stored/, (a) => a.setField(r1, 'len', 0)],
    ['a way past the end', /exit is missing/, (a) => a.alu(r0, '=', 0)],
    ['an empty program', /exit is missing/, () => {}],
    ['instructions that no way leads to', /no way leads here/, (a) => a.alu(r0, '=', 0).exit().alu(r0, '=', 1).exit()],
    ['a register that was never set', /r3 is read/, (a) => a.alu(r0, '=', r3).exit()],
    ['a result that was never set', /r0 is read/, (a) => a.exit()],
    [
      'an argument that a call has lost',
      /r1 is read/,
      (a) => {
        a.alu(r1, '=', 1).alu(r2, '=', 0).call('redirect').alu(r0, '=', r1).exit();
      },
    ],
    ['a call without its arguments', /r2 is read/, (a) => a.call('redirect').exit()],
    [
      'a register that only one way sets',
      /r9 is read/,
      (a) => {
        a.jumpIf(r1, '==', 0, 'skip').alu(r9, '=', 1).label('skip').alu(r0, '=', r9).exit();
      },
    ],
    [
      'more instructions than any kernel takes',
      /more than 4096/,
      (a) => {
        for (let i = 0; i < 5000; i++) a.alu(r0, '=', 0);
        return a.exit();
      },
    ],
  ])('%s', (_, message, write) => {
    const program = asm();
    const attempt = () => {
      write(program);
      program.assemble();
    };
    expect(attempt).toThrow(AssemblyError);
    expect(attempt).toThrow(/report it$/);
    const again = asm();
    expect(() => {
      write(again);
      again.assemble();
    }).toThrow(message);
  });

  it('names that the kernel would refuse', () => {
    expect(() => new Assembler('a name that is too long', SK_BUFF)).toThrow(AssemblyError);
    expect(() => new Assembler('no/slash', SK_BUFF)).toThrow(AssemblyError);
  });

  it('to be turned into bytes without its maps', () => {
    const program = asm().map(r0, 'peers').alu(r0, '=', 0).exit().assemble();
    expect(() => program.bytes({})).toThrow(/no map peers/);
    expect(program.maps).toEqual([{ at: 0, map: 'peers' }]);
  });
});

describe('listing', () => {
  it('shows instructions as the kernel does, with labels, maps and remarks', () => {
    const program = asm()
      .remark('find it')
      .map(r1, 'peers')
      .alu(r2, '=', r10)
      .alu(r2, '+=', -8)
      .store(8, r10, -8, 0)
      .call('map_lookup_elem')
      .jumpIf(r0, '!=', 0, 'found')
      .label('out')
      .alu(r0, '=', 0)
      .exit()
      .label('found')
      .load(2, r1, r0, 4)
      .networkOrder(r1, 16)
      .jumpIf32(r1, '==', 7, 'out')
      .alu32(r0, '=', r1)
      .exit()
      .assemble();
    expect(program.listing()).toBe(`; find it
0: (18) r1 = map[peers]
2: (bf) r2 = r10
3: (07) r2 += -8
4: (7a) *(u64 *)(r10 -8) = 0
5: (85) call bpf_map_lookup_elem#1
6: (55) if r0 != 0x0 goto pc+2 <found>
out:
7: (b7) r0 = 0
8: (95) exit
found:
9: (69) r1 = *(u16 *)(r0 +4)
10: (dc) r1 = be16 r1
11: (16) if w1 == 0x7 goto pc-5 <out>
12: (bc) w0 = w1
13: (95) exit
`);
  });
});

describe('the programs', () => {
  const settings = {
    network: { address: 0x0a050000, length: 16 },
    subnet: { address: 0x0a050100, length: 24 },
    address: 0xc0000201,
    port: 8285,
    underlayIfindex: 2,
    tunIfindex: 3,
  };

  const places = { castToKernel: 40_000, connectionInPacket: 104, statusInConnection: 128 };

  it.each([
    ['encapsulation', () => encapProgram(settings, null)],
    ['encapsulation on Ethernet', () => encapProgram(settings, null, 14)],
    ['encapsulation that notes flows', () => encapProgram(settings, places)],
    ['decapsulation by route', () => decapProgram(settings, 'route')],
    ['decapsulation to the container', () => decapProgram(settings, 'direct')],
    ['what takes merged packets by route', () => mergedProgram(settings, 'route')],
    ['what takes merged packets to the container', () => mergedProgram(settings, 'direct')],
  ])('%s can be assembled, and has no instruction that the listing does not know', (_, make) => {
    const text = make().listing();
    expect(text).not.toMatch(/BUG_|bpf_unknown/);
    expect(text).toMatch(/call bpf_redirect/);
  });

  it('that takes merged packets asks of the flow only where they may go straight', () => {
    const text = (mode: 'route' | 'direct') => mergedProgram(settings, mode).listing();
    for (const mode of ['route', 'direct'] as const) expect(text(mode)).toMatch(/call bpf_skb_change_type#32/);
    expect(text('direct')).toMatch(/map\[flows\][\s\S]*map\[state\][\s\S]*map\[containers\][\s\S]*bpf_redirect_peer/);
    expect(text('route')).not.toMatch(/map\[|redirect_peer/);
    // whatever fails, nothing is dropped: the last way out is that by route
    expect(text('direct')).toMatch(/to_the_tun:[^:]*\n.*r1 = 3\n[\s\S]*call bpf_redirect#23\n.*exit\n$/);
  });

  it('hold for any overlay, host and port', () => {
    const length = fc.integer({ min: 0, max: 32 });
    const address = fc.nat(2 ** 32 - 1);
    const prefix = fc.record({ address, length });
    fc.assert(
      fc.property(prefix, prefix, address, fc.integer({ min: 1, max: 65_535 }), (network, subnet, own, port) => {
        const any = { ...settings, network, subnet, address: own, port };
        expect(encapProgram(any, places).instructions.length).toBeLessThan(400);
        expect(decapProgram(any, 'direct').instructions.length).toBeLessThan(450);
      }),
    );
  });
});
